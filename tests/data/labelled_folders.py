"""Folders of labelled photos, and what the kernel reads in them."""

from pathlib import Path

from kernelkit.data.find import open_competition
from kernelkit.data.infer_layout import layout_of
from kernelkit.data.read import read_competition
from tiny_competition import HOME, write_csv, write_photo

LABELS = ("cat", "dog", "emu")


def put(folder: Path, *names: str) -> None:
    for name in names:
        write_photo(folder / name)


def classes(folder: Path, *places: str, count: int = 6) -> None:
    """Write photos with different names into class folders."""
    for place in places:
        put(folder, *(f"{place}/{place.replace('/', '-')}{n}.jpg" for n in range(count)))


def write(
    folder: Path, labels=LABELS, train="train", test="test", header=("id", "label"), sample=None
) -> list[tuple]:
    """Write photos in a folder a set, train.csv and a sample submission; return train.csv's rows.

    The sample holds the first label, or what `sample` says.
    """
    rows = [(f"p{n:03d}.jpg", labels[n % len(labels)]) for n in range(24)]
    put(folder, *(f"{train}/{name}" for name, _ in rows), *(f"{test}/t{n}.jpg" for n in range(4)))
    write_csv(folder / "train.csv", rows, header)
    value = labels[0] if sample is None else sample
    write_sample(folder, *(f"t{n}.jpg" for n in range(4)), value=value, header=header)
    return rows


def write_sample(folder: Path, *ids: str, value="cat", header=("id", "label")) -> None:
    write_csv(folder / "sample_submission.csv", [(Id, value) for Id in ids], header)


def read(folder: Path, **given: str):
    """Return the competition as the kernel reads it, whose block is another's."""
    scratch = folder.parent / "scratch"
    folder = open_competition(folder, scratch)
    return read_competition(folder, layout_of(folder, HOME, scratch, given), scratch)


def seen(folder: Path, **given: str) -> tuple[dict, int]:
    """Return the number of training photos of each class, and that of test photos found."""
    competition = read(folder, **given)
    counts = competition.train["label"].value_counts(sort=False)
    return dict(sorted(counts.items())), int((competition.test["path"] != "").sum())
