"""What a submission must be so that its competition can score it, checked before it is sent."""

import codecs
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ImageDataAugmentor.files import lies_in_clutter
from kernelkit.core.problem import Problem
from ship.commands.fetch import read_metrics
from ship.context import Context
from ship.kaggle.client_process import Refused
from ship.output import say
from ship.project.script import read_block

if TYPE_CHECKING:
    import pandas as pd

MOST_LISTED = 20_000  # names of a competition's files that are listed to find one
PACKED = (b"PK\3", b"\x1f\x8b")  # the beginnings of zip and gzip files
# The beginnings of files of Excel and PowerShell, which Kaggle takes for a part of a name.
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Unscorable(Problem):
    """A file that its competition can't score."""


def _read(path: Path) -> "pd.DataFrame":
    """Return a CSV file as Kaggle reads it, every value as text; Problem if that can't be."""
    from kernelkit.core.tables import read_csv  # imports pandas, which takes half a second

    return read_csv(path, advice="nothing was submitted", separators=",")


def check(
    path: Path, sample: Path, classes: set[str], form: str = "label", varied: bool = True
) -> None:
    """Check that the competition can score a submission.

    Raises Unscorable where columns, number of rows, Ids or their order differ from the sample's; a
    value is blank, no known label or no probability; or every row has the same.

    Args:
        path: the submission.
        sample: the competition's sample submission.
        classes: the known labels; none where they are unknown.
        form: of the submission, as the block's field `submission` has it.
        varied: rows must differ, as they need not for the few photos of a code competition.
    """
    expected = _read(sample)
    try:
        fault = next(_faults(path, sample, expected, classes, form, varied), "")
    except Problem as problem:
        raise Unscorable(str(problem)) from None
    if fault:
        raise Unscorable(f"{path} {fault}: nothing was submitted.")


def _faults(
    path: Path,
    sample: Path,
    expected: "pd.DataFrame",
    classes: set[str],
    form: str,
    varied: bool,
) -> Iterator[str]:
    """Yield what is wrong with a submission; what follows the first fault may make no sense."""
    with path.open("rb") as file:
        head = file.read(3)
        if head.startswith(PACKED):
            yield "is a packed file (unpack it, and submit the table)"
        if head.startswith(MARKS):
            yield (
                "begins with a byte-order mark, which becomes part of the first column's name "
                '(write it with encoding="utf-8")'
            )
    table = _read(path)
    header = list(table.columns)
    if header != list(expected.columns):
        separator = next((mark for mark in ";\t|" if mark in header[0]), None)
        cure = f' (write it with commas, sep=",", not {separator!r})' if separator else ""
        yield f"has the columns {header}, not {list(expected.columns)}{cure}"
    blank = table.map(str.strip).eq("").any(axis=1)
    if blank.any():
        yield f"line {blank.argmax() + 2} has a blank value"
    for fault in _faults_of_ids(table[header[0]].tolist(), expected[header[0]].tolist()):
        yield f"{fault}; the sample is {sample}, and without that file Kaggle's is fetched anew"
    values = table[header[1:]]
    if form in ("probability", "probabilities"):
        import pandas as pd

        cells = values.stack()
        wrong = cells[~pd.to_numeric(cells, errors="coerce").between(0, 1)]
        for (row, _), value in wrong.items():
            yield f"line {row + 2} has {value!r}, which is no probability from 0 to 1"
    else:
        cells = set(values.to_numpy().ravel())
        labels = {word for cell in cells for word in cell.split()} if form == "best" else cells
        for label in sorted(labels - classes) if classes else ():
            known = ", ".join(sorted(classes))
            yield f"has the label {label!r}, which is none of the classes {known}"
    if varied and len(values.drop_duplicates()) == 1:
        kind = "label" if form == "label" else "value"
        yield f"has the {kind} {values.iloc[0, 0]!r} in every row"


def _faults_of_ids(found: list[str], expected: list[str]) -> Iterator[str]:
    moved = [a for a, b in zip(found, expected, strict=False) if a != b]
    for fault, names in {
        "an Id twice": [name for name, count in Counter(found).items() if count > 1],
        "an Id that is not in the sample": sorted(set(found) - set(expected)),
        "no row for an Id of the sample": sorted(set(expected) - set(found)),
        "the Ids in another order than the sample, first at": moved,
    }.items():
        if names:
            yield f"has {fault} ({names[0]}; {len(found)} rows, the sample {len(expected)})"


def takes_kernels_only(context: Context) -> bool:
    """Tell whether the competition runs kernels on a hidden test set, as far as Kaggle tells."""
    try:
        about = context.remote.competition(context.project.competition)
    except Refused:  # what is submitted is refused with a reason
        return False
    return about.get("isKernelsSubmissionsOnly") is True


def check_for(context: Context, path: Path, varied: bool = True) -> None:
    """Check a submission against the competition of the kernel's block; see `check`."""
    layout = read_block(context.project.code)
    sample = _data_file(context, layout.sample_csv)
    labelled = layout.submission in ("label", "best")
    classes = _known_classes(context, path.parent) if labelled else set()
    check(path, sample, classes, layout.submission, varied)


def _known_classes(context: Context, folder: Path) -> set[str]:
    classes = read_metrics(folder).get("classes")
    if isinstance(classes, list) and classes:
        return {str(label) for label in classes}
    layout = read_block(context.project.code)
    if not layout.train_csv:  # its labels are photos' folders or names, which are not here
        return set()
    table = _read(_data_file(context, layout.train_csv))
    return set(table[layout.label if layout.label in table else table.columns[1]])


def _data_file(context: Context, name: str) -> Path:
    competition = context.project.competition
    kept = context.project.runs / competition / name
    with context.sharing(kept):
        if kept.exists():
            return kept
        try:
            download_table(context, competition, name, kept)
        except Refused as refusal:
            page = f"https://www.kaggle.com/competitions/{competition}"
            cures = {
                403: f"accept the competition's rules at {page}/rules",
                404: f"see {page}/data, and correct the block of {context.project.code.name}",
            }
            if refusal.status not in cures:
                raise
            sentence = f"{str(refusal).rstrip('.')}: {cures[refusal.status]}"
            raise Problem(f"{sentence}. Nothing was submitted.") from None
    return kept


def download_table(context: Context, competition: str, name: str, kept: Path) -> None:
    """Download a CSV of a competition, where need be out of a zip of its name or one that holds it.

    `name` may begin with the zip's name without its suffix, as a folder. The file `kept` is written
    once it is complete. Raises Refused where Kaggle does not give it, Problem where it is no table.
    """
    say(f"downloading {name} of {competition}")
    new = kept.with_name(kept.name + ".new")
    fields = {"competition": competition, "path": str(new)}
    try:
        context.remote.call("download_data", name, name=name, **fields)
    except Refused as refusal:
        if refusal.status != 404:
            raise
        archive, member = _holder_of(context, competition, name)
        if member:
            context.remote.call("download_member", name, name=archive, member=member, **fields)
        else:
            context.remote.call("download_data", name, name=f"{name}.zip", **fields)
    if zipfile.is_zipfile(new):  # Kaggle packs some files
        new.write_bytes(_unpacked(new, name))
    _read(new)
    new.replace(kept)


def _unpacked(archive: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(archive) as bundle:
            inside = [one for one in bundle.namelist() if not lies_in_clutter(one)]
            tables = [one for one in inside if one.lower().endswith(".csv")]
            named = [one for one in inside if Path(one).name == Path(name).name] or tables
            if len(named) == 1:
                return bundle.read(named[0])
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError) as error:
        raise Problem(f"the zip with {name} can't be unpacked ({error}).") from None
    held = ", ".join(inside[:5]) or "nothing"
    raise Problem(f"the zip of {name} holds {len(tables)} tables and none of that name: {held}.")


def _holder_of(context: Context, competition: str, name: str) -> tuple[str, str]:
    """Return the zip of a competition's data that holds a file, and the file's name there.

    Both are "" where none does, or only a zip of the file's own name.
    """
    listed = context.remote.data_files(competition, MOST_LISTED)
    for archive, _ in listed:
        if archive.lower().endswith(".zip") and archive != f"{name}.zip":
            inside = context.remote.call("zip_names", name, competition=competition, name=archive)
            for member in inside:
                if name in (member, f"{archive[: -len('.zip')]}/{member}"):
                    return archive, member
    return "", ""
