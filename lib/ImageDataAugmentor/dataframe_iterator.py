"""Batches of the files that a dataframe lists."""

import os
import warnings
from numbers import Integral

import numpy as np
import pandas as pd

from .file_iterators import CLASS_LABELS, PICTURE_TARGETS, FileIterator, listed
from .files import validate_filename
from .iterator import FlowSettings
from .reading import ImageLoader


class DataFrameIterator(FileIterator):
    """Iterates over the image files named in a column of a dataframe.

    Arguments:
        directory: the folder that the names in `x_col` are relative to; None if they are paths.
        y_col: the column of the targets, or a list of columns. Not used with class_mode "input" or
            None.
        weight_col: the column of the sample weights, which make the batches triples.
        classes: the labels in the order that numbers them. Rows with other labels are left out,
            with a warning. None takes all labels, sorted. If `classes` is given, `y_col` may hold
            whole numbers instead of strings: the positions of the labels in `classes`, counted
            from 0.
        validate_filenames: whether to leave out, with a warning, rows whose file does not exist,
            has an unknown suffix or is clutter, such as macOS's "._cat.jpg".
        class_mode (in the settings): as for a DirectoryIterator, where "categorical" also takes
            lists of labels; "multi_output" (a list with one array for each column), "raw" (the
            values unchanged), or "color_target" and "grayscale_target" (the column holds the full
            path of a target picture, which is transformed by label_augment_mode).

    Raises ValueError for a column that does not exist, for a position outside `classes` and for
    `classes` that no row has, and TypeError for a column with values of another type than the class
    mode needs.
    """

    allowed_class_modes = (*CLASS_LABELS, *PICTURE_TARGETS, "multi_output", "raw", None)

    def __init__(
        self,
        dataframe: pd.DataFrame,
        directory: str | os.PathLike | None,
        image_data_generator,
        settings: FlowSettings,
        loader: ImageLoader,
        x_col: str = "filename",
        y_col: str | list[str] = "class",
        weight_col: str | None = None,
        classes: list[str] | None = None,
        validate_filenames: bool = True,
    ):
        self.directory = os.fspath(directory or "")
        self.class_mode = settings.class_mode
        self._check_columns(dataframe, x_col, y_col, weight_col, classes)
        labelled = self.class_mode in CLASS_LABELS
        labels = dataframe[y_col if labelled else x_col]
        if labelled:
            by_position = _are_positions(labels, classes)
            labels = _names_of_labels(labels, self.class_mode, y_col, classes, by_position)
        frame = dataframe
        if validate_filenames:
            valid = self._are_valid(frame[x_col])
            frame, labels = frame[valid], labels[valid]
        if labelled:
            if classes and not by_position:
                labels = _labels_among(labels, classes)
                frame, labels = frame[labels.notna()], labels.dropna()
            names = dict.fromkeys(classes) if classes else sorted(set(labels.explode()))
            self.class_indices = {name: number for number, name in enumerate(names)}
            self.num_classes = len(names)
        chosen = image_data_generator.subset_slice(settings.subset, len(frame))
        frame = frame.iloc[chosen]
        if labelled:
            if settings.subset:
                held_out = image_data_generator.subset_slice("validation", len(labels))
                _warn_of_unseen_classes(labels, held_out.stop)
            self.classes = [self._numbers(label) for label in labels.iloc[chosen]]
        self.filenames = frame[x_col].tolist()
        self.targets = self._read_targets(frame, y_col)
        self.sample_weight = frame[weight_col].to_numpy() if weight_col else None
        super().__init__(image_data_generator, settings, loader)
        if settings.verbose:
            kind = "validated" if validate_filenames else "non-validated"
            belonging = f" belonging to {self.num_classes} classes" if labelled else ""
            print(f"Found {self.samples} {kind} image filenames{belonging}.")

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
        if mode in {"color_target", "grayscale_target"}:
            _check_types(frame[y_col], str, f'class_mode="{mode}" needs paths in y_col={y_col!r}')
        if classes and mode not in CLASS_LABELS:
            warnings.warn(f"`classes` is ignored with class_mode={mode!r}", stacklevel=4)
        if weight_col and not pd.api.types.is_numeric_dtype(frame[weight_col]):
            raise TypeError(f"weight_col={weight_col!r} must hold numbers")

    def _are_valid(self, names: pd.Series) -> np.ndarray:
        """Return which files exist and can be read, bool [n]; warn of the others."""
        paths = [os.path.join(self.directory, name) for name in names]
        formats = self.white_list_formats
        valid = np.array([validate_filename(path, formats) for path in paths], dtype=bool)
        if not valid.all():
            missing = names[~valid]
            warnings.warn(
                f"{len(missing)} rows are left out, whose file does not exist, is hidden or has "
                f"none of the suffixes {', '.join(formats)}: "
                f"{', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}",
                stacklevel=4,
            )
        return valid

    def _numbers(self, label) -> int | list[int]:
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


def _are_positions(labels: pd.Series, classes: list | None) -> bool:
    """Return whether the labels are whole numbers, and thus positions in `classes`."""
    return bool(classes and len(labels)) and all(
        isinstance(label, Integral) and not isinstance(label, bool) for label in labels
    )


def _names_of_labels(
    labels: pd.Series, mode: str, y_col: str, classes: list | None, by_position: bool
) -> pd.Series:
    """Check the labels, and return names of classes in place of positions."""
    if by_position:
        if len(set(classes)) < len(classes):
            raise ValueError(f"classes={classes} repeats a label, so positions in it are ambiguous")
        for row, label in labels.items():
            if not 0 <= label < len(classes):
                raise ValueError(
                    f"y_col={y_col!r}: row {row} has the label {label}, but a whole number must be "
                    f"a position in `classes`, 0 to {len(classes) - 1}"
                )
        labels = labels.map(lambda position: classes[position])
    else:
        takes_lists = mode == "categorical"
        kinds = "strings, lists or tuples" if takes_lists else "strings"
        rule = f'class_mode="{mode}" needs {kinds} in y_col={y_col!r}'
        _check_types(labels, (str, list, tuple) if takes_lists else str, rule)
    found = len(set(classes)) if classes else labels.explode().nunique()
    if mode == "binary" and found != 2:
        raise ValueError(f'class_mode="binary" needs two classes, not {found}')
    return labels


def _labels_among(labels: pd.Series, classes: list[str]) -> pd.Series:
    """Return the labels that are in `classes`, None where there is none, and warn of the others.

    Also warn of classes that no row has. Raises ValueError if all rows are left out.
    """
    known, found = set(classes), set(labels.explode())

    def among(label):
        if isinstance(label, (list, tuple)):
            return [name for name in label if name in known] or None
        return label if label in known else None

    kept = labels.map(among)
    missing = [name for name in dict.fromkeys(classes) if name not in found]
    others = listed(sorted(found - known, key=str))
    left_out = int(kept.isna().sum())
    if left_out and left_out == len(labels):
        raise ValueError(
            f"none of the {left_out} rows has a label in `classes` ({listed(classes)}); their "
            f"labels are {others}: correct the names."
        )
    parts = []
    if left_out:
        parts.append(f"{left_out} rows are left out, whose labels are not in `classes`: {others}")
    if missing and len(labels):
        parts.append(f"no row has the label {listed(missing)} of `classes`: check its spelling")
    if parts:
        warnings.warn("; ".join(parts), stacklevel=4)
    return kept


def _warn_of_unseen_classes(labels: pd.Series, held_out: int) -> None:
    """Warn if the validation subset, the first rows, has classes that the rest lacks."""
    lacking = set(labels.iloc[:held_out].explode()) - set(labels.iloc[held_out:].explode())
    if lacking:
        warnings.warn(
            f"only the validation subset has {listed(sorted(lacking, key=str))}, so training "
            "never sees them: it is the first part of the table, so shuffle that first, with "
            "dataframe.sample(frac=1, random_state=0).",
            stacklevel=4,
        )


def _check_types(column: pd.Series, types, rule: str) -> None:
    for row, value in column.items():
        if not isinstance(value, types):
            raise TypeError(f"{rule}, but row {row} has {value!r} ({type(value).__name__})")
