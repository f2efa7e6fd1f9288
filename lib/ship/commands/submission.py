"""What a submission must be so that its competition can score it, checked before it is sent."""

import codecs
import zipfile
import zlib
from collections import Counter
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
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""The beginnings of files of Excel and PowerShell, which Kaggle takes for a part of a name."""


class Unscorable(Problem):
    """A file that its competition can't score."""


def _unscorable(path: Path, fault: str, cure: str = "") -> Unscorable:
    return Unscorable(f"{path} {fault}: nothing was submitted.{cure}")


def _read(path: Path) -> "pd.DataFrame":
    """Return a CSV file as Kaggle reads it, every value as text; Problem if that can't be."""
    from kernelkit.core.tables import read_csv  # imports pandas, which takes half a second

    return read_csv(path, advice="nothing was submitted", separators=",")


def check(
    path: Path, sample: Path, classes: set[str], form: str = "label", varied: bool = True
) -> None:
    """Check that the competition can score a submission.

    Args:
        path: the submission.
        sample: the competition's sample submission.
        classes: the known labels; none where they are unknown.
        form: of the submission, as the block's field `submission` has it.
        varied: whether rows must differ, as they need not for the few photos that a code
            competition shows.

    Raises:
        Unscorable: columns, number of rows, Ids or their order differ from the sample's; a value is
            blank, no known label or no probability; or every row has the same.
        Problem: the sample can't be read.
    """
    with path.open("rb") as file:
        if file.read(3).startswith(MARKS):
            fault = "begins with a byte-order mark, which becomes part of the first column's name"
            raise _unscorable(path, fault, ' Write it with encoding="utf-8".')
    try:
        table = _read(path)
    except Problem as problem:
        raise Unscorable(str(problem)) from None
    expected = _read(sample)
    header = list(table.columns)
    if header != list(expected.columns):
        separator = next((mark for mark in ";\t|" if mark in header[0]), None)
        cure = f' Write it with commas, sep=",", not {separator!r}.' if separator else ""
        fault = f"has the columns {header}, not {list(expected.columns)}"
        raise _unscorable(path, fault, cure)
    blank = table.map(str.strip).eq("").any(axis=1)
    if blank.any():
        raise _unscorable(path, f"line {blank.argmax() + 2} has a blank value")
    _check_ids(path, table[header[0]].tolist(), expected[header[0]].tolist())
    values = table[header[1:]]
    if form in ("probability", "probabilities"):
        import pandas as pd

        cells = values.stack()
        wrong = cells[~pd.to_numeric(cells, errors="coerce").between(0, 1)]
        if len(wrong):
            place, value = wrong.index[0][0] + 2, wrong.iloc[0]
            fault = f"line {place} has {value!r}, which is no probability from 0 to 1"
            raise _unscorable(path, fault)
    else:
        cells = set(values.to_numpy().ravel())
        labels = {word for cell in cells for word in cell.split()} if form == "best" else cells
        if classes and (unknown := sorted(labels - classes)):
            known = ", ".join(sorted(classes))
            fault = f"has the label {unknown[0]!r}, which is none of the classes {known}"
            raise _unscorable(path, fault)
    if varied and len(values.drop_duplicates()) == 1:
        kind = "label" if form == "label" else "value"
        raise _unscorable(path, f"has the {kind} {values.iloc[0, 0]!r} in every row")


def _check_ids(path: Path, found: list[str], expected: list[str]) -> None:
    if found == expected:
        return
    faults = {
        "an Id twice": [name for name, count in Counter(found).items() if count > 1],
        "an Id that is not in the sample": sorted(set(found) - set(expected)),
        "no row for an Id of the sample": sorted(set(expected) - set(found)),
        "the Ids in another order than the sample, first at": [
            a for a, b in zip(found, expected, strict=False) if a != b
        ],
    }
    fault, names = next((fault, names) for fault, names in faults.items() if names)
    rows = f"{len(found)} rows, the sample {len(expected)}"
    raise _unscorable(path, f"has {fault} ({names[0]}; {rows})")


def check_for(context: Context, path: Path, varied: bool = True) -> None:
    """Check a submission against the competition of the kernel's block; see `check`."""
    layout = read_block(context.project.code)
    sample = _data_file(context, path.parent, layout.sample_csv)
    labelled = layout.submission in ("label", "best")
    classes = _known_classes(context, path.parent) if labelled else set()
    check(path, sample, classes, layout.submission, varied)


def _known_classes(context: Context, folder: Path) -> set[str]:
    """Return the competition's labels as text, from the run's metrics or its table; else none."""
    classes = read_metrics(folder).get("classes")
    if isinstance(classes, list) and classes:
        return {str(label) for label in classes}
    layout = read_block(context.project.code)
    if not layout.train_csv:  # its labels are photos' folders or names, which are not here
        return set()
    table = _read(_data_file(context, folder, layout.train_csv))
    return set(table[layout.label if layout.label in table else table.columns[1]])


def _data_file(context: Context, folder: Path, name: str) -> Path:
    """Return a small file of the competition, in the run's folder or in runs/<competition>/."""
    if (folder / name).is_file():
        return folder / name
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
    once it is complete.

    Raises:
        Refused: Kaggle does not give it.
        Problem: it is no table.
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
    """Return the CSV of a name in a zip, or the only CSV that it holds."""
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
