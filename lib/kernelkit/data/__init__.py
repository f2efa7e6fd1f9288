"""From a competition's folder to checked tables of photos, folds and batches."""
