"""Batches of the files that a dataframe lists."""

import os
import warnings

from .iterator import FileIterator


class DataFrameIterator(FileIterator):
    """Iterates over the image files named in a dataframe's column."""

    def __init__(
        self,
        dataframe,
        directory,
        image_data_generator,
        *,
        x_col="filename",
        y_col="class",
        weight_col=None,
        classes=None,
        validate_filenames=True,
        **options,
    ):
        self.directory = directory or ""
        frame = dataframe
        paths = [os.path.join(self.directory, name) for name in frame[x_col]]
        if validate_filenames:
            valid = [
                path.lower().endswith(self.white_list_formats) and os.path.isfile(path)
                for path in paths
            ]
            if not all(valid):
                warnings.warn(
                    f'Found {valid.count(False)} invalid image filename(s) in x_col="{x_col}"; '
                    "they are left out.",
                    stacklevel=3,
                )
            frame = frame[valid]
        labelled = options["class_mode"] in {"categorical", "binary", "sparse"}
        if labelled:
            if classes:
                frame = frame[frame[y_col].isin(classes)]
            names = sorted(set(classes or frame[y_col]))
            self.class_indices = {name: number for number, name in enumerate(names)}
            self.num_classes = len(names)
        frame = frame[image_data_generator.subset_slice(options["subset"], len(frame))]
        if labelled:
            self.classes = [self.class_indices[label] for label in frame[y_col]]
        self.filenames = frame[x_col].tolist()
        self._sample_weight = frame[weight_col].to_numpy() if weight_col else None
        super().__init__(
            [os.path.join(self.directory, name) for name in self.filenames],
            image_data_generator,
            **options,
        )
        kind = "validated" if validate_filenames else "non-validated"
        belonging = f" belonging to {self.num_classes} classes" if labelled else ""
        print(f"Found {self.samples} {kind} image filenames{belonging}.")

    @property
    def sample_weight(self):
        """Weights of the samples, or None."""
        return self._sample_weight
