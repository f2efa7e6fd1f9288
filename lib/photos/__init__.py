"""Read a Kaggle competition's folder into checked tables of photos, and these into batches.

layout = layout_of(folder, Layout(...), scratch)
competition = read_competition(folder, layout, scratch)
competition = check_photos(competition, workers=4)
train, validation = split(competition.train, fraction=0.15, seed=42)
batches = make_iterator(config, tables, tables.train, transform, shuffle=True)
"""

from common import import_lazily

MODULES = {
    "Competition": "competition",
    "Layout": "layout",
    "PhotoTables": "tables",
    "load_tables": "tables",
    "divide": "splitting",
    "draw_limit": "competition",
    "check_batches": "batches",
    "check_photos": "checking",
    "conflicting_labels": "duplicates",
    "fingerprint": "tables",
    "keep_decoded": "batches",
    "layout_of": "recognising",
    "make_iterator": "batches",
    "predict": "sharing",
    "read_competition": "competition",
    "share": "sharing",
    "split": "splitting",
}

__all__ = list(MODULES)
__getattr__ = import_lazily(__name__, MODULES)
