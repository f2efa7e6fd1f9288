"""A competition's block: where its photos and labels are, and what is submitted."""

import dataclasses
import pprint
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kernelkit.config.settings import setting
from kernelkit.core.problem import Problem, did_you_mean

FORMS = ("label", "probability", "probabilities", "best")
PACKED = ("", "pixels", "tfrecords")
YES, NO = {"true", "yes", "1"}, {"false", "no", "0", ""}


@dataclass(frozen=True)
class Layout:
    """One competition; `ship init SLUG` proposes its fields. File names are below its folder."""

    slug: str = setting("", "the competition's name in its address at Kaggle")
    metric: str = setting("accuracy", "row of METRICS in lib/kernelkit/core/metrics.py")
    submission: Literal[FORMS] = setting(
        "label", "label, probability of `positive`, a column a class, or the `k` best in a cell"
    )
    positive: str = setting("", "the class whose probability is submitted; of 0 and 1 it is 1")
    k: int = setting(5, "labels in a cell of the form `best`")
    sample_csv: str = setting("", "the sample submission; without one each test photo is a row")
    test_csv: str = setting(
        "", "a table that names in `id` the photo of each Id of the sample, where Ids are no names"
    )
    train_csv: str = setting("", "the table of labels; without one photos' folders are the labels")
    id: str = setting("", "its column of photos' names; by default as in the sample")
    label: str | tuple[str, ...] = setting(
        "", "its column of labels, several are one-hot; by default as in the sample"
    )
    single_labels: bool = setting(
        False, "True where labels of several words, such as 'scab rust', are single labels"
    )
    order: tuple[str, ...] = setting(
        (),
        "the classes from the least to the greatest, where the metric is kappa and they are words",
    )
    group: str = setting("", "its column of groups that are not split into training and validation")
    pattern: str = setting(
        "", "a regular expression; its group in a photo's name, with a / in its path, is the label"
    )
    train_photos: tuple[str, ...] = setting(
        ("train",), "folders or zips, of which the first that holds photos counts; '' is the folder"
    )
    test_photos: tuple[str, ...] = setting(("test",), "the same for the test set; () is none")
    packed: Literal[PACKED] = setting("", "photos are pixels in the CSVs' columns, or TFRecords")

    def __post_init__(self):
        for name, known in (("submission", FORMS), ("packed", PACKED)):
            if (value := getattr(self, name)) not in known:
                words = ", ".join(map(repr, known))
                raise Problem(f"COMPETITION has {name}={value!r}: give one of {words}.")
        if self.k < 1:
            raise Problem("COMPETITION has no k of 1 or more: give how many labels a cell holds.")
        for name in ("train_photos", "test_photos", "order"):
            if isinstance(value := getattr(self, name), str):
                raise Problem(f"COMPETITION has a text for {name}: give a tuple, {(value,)}.")
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise Problem(f"COMPETITION has a wrong pattern ({error}).") from None
        if self.pattern and not groups:
            raise Problem("COMPETITION has a pattern without a group (...), the label.")

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the CSVs, by which the competition's folder is known."""
        return tuple(filter(None, (self.train_csv, self.sample_csv, self.test_csv)))

    def missing(self, folder: Path) -> str:
        """Return the first of its files that a folder lacks, "" where all are there."""
        for name in self.tables:
            if not table_file(folder, name):
                return name
        if self.tables or self.packed:
            return ""
        places = [
            (folder / name).exists() or archive_of(folder, name)[0] for name in self.train_photos
        ]
        return "" if any(places) else self.train_photos[0]

    def with_fields(self, given: Mapping[str, str]) -> "Layout":
        """Return it with fields given as text. Raises Problem if a field or value is wrong."""
        known = {one.name for one in dataclasses.fields(self)}
        if unknown := sorted(given.keys() - known):
            has = f"it has {', '.join(sorted(known))}{did_you_mean(unknown[0], known)}"
            raise Problem(f"a block has no field {unknown[0]}; {has}")
        values = {name: self.typed(name, text) for name, text in given.items()}
        return dataclasses.replace(self, **values)

    @classmethod
    def typed(cls, name: str, text: str) -> str | int | bool | tuple[str, ...]:
        """Return a field's value from text; several are joined by commas, and . is the folder."""
        default = cls.__dataclass_fields__[name].default
        if isinstance(default, bool):
            if (word := text.strip().casefold()) not in YES | NO:
                raise Problem(f"COMPETITION has {name}={text!r}: give True or False.")
            return word in YES
        if isinstance(default, int):
            return int(text) if text.isdecimal() else 0
        if isinstance(default, tuple) or (name == "label" and "," in text):
            return tuple("" if part == "." else part for part in text.split(",") if part)
        return text

    def block(self) -> str:
        """Return its text in kernel.py: the places of photos, and all fields but defaults."""
        given = [
            (field.name, value)
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
            or field.name in ("train_photos", "test_photos")
        ]
        lines = [f"    {name}={literal(value)}," for name, value in given]
        return "\n".join(["COMPETITION = Layout(", *lines, ")"])


def literal(value: object) -> str:
    """Return a value as Python has it, in double quotes and in lines of at most 100 letters."""
    if isinstance(value, str) and "\\" in value and '"' not in value:
        return f'r"{value}"'
    text = pprint.pformat(value, width=92, compact=True)
    if isinstance(value, tuple) and "\n" in text:
        return "(\n        " + text[1:-1].replace("\n ", "\n        ") + ",\n    )"
    return text.replace("'", '"') if '"' not in text else text


def table_file(folder: Path, name: str) -> Path | None:
    """Return a CSV below a competition's folder, or the zip that it is packed in, if any."""
    return folder / name if (folder / name).is_file() else archive_of(folder, name)[0]


def archive_of(folder: Path, place: str) -> tuple[Path | None, str]:
    """Return the zip that a place (with or without suffix) is or lies in, and its name inside."""
    parts = [] if (folder / place).is_dir() else place.split("/")
    for number in range(len(parts), 0, -1):
        head = "/".join(parts[:number])
        for name in (head, f"{head}.zip"):
            if name.lower().endswith(".zip") and (folder / name).is_file():
                return folder / name, "/".join(parts[number:])
    return None, ""
