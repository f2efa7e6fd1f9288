"""Batches of the files that a dataframe lists."""

import os
import warnings

import numpy as np
import pandas as pd

from .iterator import CLASS_LABELS, FileIterator
from .reading import validate_filename


class DataFrameIterator(FileIterator):
    """Iterates over the image files named in a dataframe's column.

    Rows whose file is missing or has another suffix are left out, with a warning
    (`validate_filenames`), and so are rows of none of the `classes`. These are numbered in the
    order given, or sorted where they are taken from the dataframe.
    """

    allowed_class_modes = (
        *CLASS_LABELS,
        "input",
        "multi_output",
        "raw",
        "color_target",
        "grayscale_target",
        None,
    )

    def __init__(
        self,
        dataframe: pd.DataFrame,
        directory: str | os.PathLike | None,
        image_data_generator,
        *,
        x_col: str = "filename",
        y_col: str | list[str] = "class",
        weight_col: str | None = None,
        classes: list[str] | None = None,
        validate_filenames: bool = True,
        **options,
    ):
        self.directory = os.fspath(directory or "")
        self.class_mode = options["class_mode"]
        self._check_columns(dataframe, x_col, y_col, weight_col, classes)
        frame = self._existing_files(dataframe, x_col) if validate_filenames else dataframe
        labelled = self.class_mode in CLASS_LABELS
        if labelled:
            labels = _labels_among(frame[y_col], classes)
            frame, labels = frame[labels.notna()], labels.dropna()
            names = list(dict.fromkeys(classes)) if classes else sorted(set(labels.explode()))
            self.class_indices = {name: number for number, name in enumerate(names)}
            self.num_classes = len(names)
        chosen = image_data_generator.subset_slice(options["subset"], len(frame))
        frame = frame.iloc[chosen]
        if labelled:
            self.classes = [self._numbers(label) for label in labels.iloc[chosen]]
        self.filenames = frame[x_col].tolist()
        self._targets = self._read_targets(frame, y_col)
        self._sample_weight = frame[weight_col].to_numpy() if weight_col else None
        super().__init__(image_data_generator, **options)
        kind = "validated" if validate_filenames else "non-validated"
        belonging = f" belonging to {self.num_classes} classes" if labelled else ""
        print(f"Found {self.samples} {kind} image filenames{belonging}.")

    @property
    def labels(self):
        """Numbers of the classes, or the values or the paths of the targets."""
        return self.classes if self.class_mode in CLASS_LABELS else self._targets

    @property
    def sample_weight(self):
        """The weights of all samples, or None."""
        return self._sample_weight

    def _check_columns(self, frame, x_col, y_col, weight_col, classes) -> None:
        mode = self.class_mode
        if mode not in self.allowed_class_modes:
            raise ValueError(f"class_mode={mode!r}: expected one of {self.allowed_class_modes}")
        if mode == "multi_output" and not isinstance(y_col, list):
            raise TypeError(f'class_mode="multi_output" needs a list as y_col, not {y_col!r}')
        targets = [] if mode in {"input", None} else y_col if isinstance(y_col, list) else [y_col]
        for column in [x_col, *targets, *([weight_col] if weight_col else [])]:
            if column not in frame:
                raise ValueError(f"No column {column!r} in the dataframe: {list(frame)}")
        _check_types(frame[x_col], str, f"x_col={x_col!r} must hold strings")
        if mode == "categorical":
            _check_types(
                frame[y_col],
                (str, list, tuple),
                f'class_mode="categorical" needs strings, lists or tuples in y_col={y_col!r}',
            )
        elif mode in {"binary", "sparse"}:
            _check_types(frame[y_col], str, f'class_mode="{mode}" needs strings in y_col={y_col!r}')
        elif mode in {"color_target", "grayscale_target"}:
            _check_types(frame[y_col], str, f'class_mode="{mode}" needs paths in y_col={y_col!r}')
        if mode == "binary":
            found = len(set(classes)) if classes else frame[y_col].nunique()
            if found != 2:
                raise ValueError(f'class_mode="binary" needs two classes, not {found}')
        if classes and mode not in CLASS_LABELS:
            warnings.warn(f"`classes` is ignored with class_mode={mode!r}", stacklevel=4)
        if weight_col and not pd.api.types.is_numeric_dtype(frame[weight_col]):
            raise TypeError(f"weight_col={weight_col!r} must hold numbers")

    def _existing_files(self, frame: pd.DataFrame, x_col: str) -> pd.DataFrame:
        valid = np.array(
            [
                validate_filename(os.path.join(self.directory, name), self.white_list_formats)
                for name in frame[x_col]
            ],
            dtype=bool,
        )
        if not valid.all():
            missing = frame[x_col][~valid]
            warnings.warn(
                f"{len(missing)} rows are left out, whose file does not exist or has none of the "
                f"suffixes {', '.join(self.white_list_formats)}: {', '.join(missing[:3])}"
                f"{' ...' if len(missing) > 3 else ''}",
                stacklevel=4,
            )
        return frame[valid]

    def _numbers(self, label):
        if isinstance(label, (list, tuple)):
            return [self.class_indices[name] for name in label]
        return self.class_indices[label]

    def _read_targets(self, frame: pd.DataFrame, y_col):
        match self.class_mode:
            case "multi_output":
                return [np.array(frame[column].tolist()) for column in y_col]
            case "raw":
                return frame[y_col].to_numpy()
            case "color_target" | "grayscale_target":
                return frame[y_col].tolist()
        return None


def _labels_among(labels: pd.Series, classes: list[str] | None) -> pd.Series:
    """The labels, without those that are none of the classes; None where nothing is left."""
    if not classes:
        return labels
    known = set(classes)

    def kept(label):
        if isinstance(label, (list, tuple)):
            return [name for name in label if name in known] or None
        return label if label in known else None

    return labels.map(kept)


def _check_types(column: pd.Series, types, rule: str) -> None:
    for row, value in column.items():
        if not isinstance(value, types):
            raise TypeError(f"{rule}, but row {row} has {value!r} ({type(value).__name__})")
