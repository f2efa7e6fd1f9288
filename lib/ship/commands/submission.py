"""What a submission must be so that its competition can score it, checked before it is sent."""

import codecs
import zipfile
import zlib
from collections import Counter
from pathlib import Path

from ImageDataAugmentor.files import lies_in_clutter
from kernelkit.core.problem import Problem
from ship.commands.fetch import read_metrics
from ship.context import Context
from ship.kaggle.client_process import Refused
from ship.output import say
from ship.project.script import read_block

MOST_LISTED = 20_000
"""Names of a competition's files that are listed to find one."""
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""With what files begin that Excel and PowerShell write; Kaggle takes it for a column's name."""


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the column names and the rows of a CSV file, every value as text.

    Raises:
        Problem: the file can't be read or has no rows.
    """
    from kernelkit.core.tables import read_csv  # imports pandas, which takes half a second

    table = read_csv(path, advice="nothing was submitted", separators=",")  # as Kaggle reads it
    return list(table.columns), table.to_numpy().tolist()


def check(path: Path, sample: Path, classes: set[str], form: str = "label") -> None:
    """Check that the competition can score a submission.

    Args:
        path: the submission.
        sample: the competition's sample submission.
        classes: the known labels; none where they are unknown.
        form: what is submitted, as the block's field `submission` has it.

    Raises:
        Problem: columns, number of rows, Ids or their order differ from the sample's; a value is
            blank, no known label or no probability; or every row has the same.
    """
    with path.open("rb") as file:
        if file.read(3).startswith(MARKS):
            raise Problem(
                f"{path} begins with a byte-order mark, which becomes part of the first column's "
                'name: write it with encoding="utf-8". Nothing was submitted.'
            )
    header, rows = read_table(path)
    expected_header, expected = read_table(sample)
    if header != expected_header:
        separator = next((mark for mark in ";\t|" if mark in header[0]), None)
        cure = f' Write it with commas, sep=",", not {separator!r}.' if separator else ""
        raise Problem(
            f"{path} has the columns {header}, not {expected_header}: nothing was submitted.{cure}"
        )
    for number, row in enumerate(rows, start=2):
        if not all(value.strip() for value in row):
            raise Problem(f"{path} line {number} has a blank value: nothing was submitted.")
    check_ids(path, [row[0] for row in rows], [row[0] for row in expected])
    if form in ("probability", "probabilities"):
        check_probabilities(path, rows)
    else:
        check_labels(path, rows, classes, form)
    if len({tuple(row[1:]) for row in rows}) == 1:
        what = "label" if form == "label" else "value"
        raise Problem(f"{path} has the {what} {rows[0][1]!r} in every row: nothing was submitted.")


def check_labels(path: Path, rows: list[list[str]], classes: set[str], form: str) -> None:
    """Raise Problem when a label, or one of several in a cell, is unknown."""
    cells = {value for row in rows for value in row[1:]}
    labels = {word for cell in cells for word in cell.split()} if form == "best" else cells
    if classes and (unknown := sorted(labels - classes)):
        raise Problem(
            f"{path} has the label {unknown[0]!r}, which is none of the classes "
            f"{', '.join(sorted(classes))}: nothing was submitted."
        )


def check_probabilities(path: Path, rows: list[list[str]]) -> None:
    """Raise Problem when a value is no number between 0 and 1."""
    for number, row in enumerate(rows, start=2):
        for value in row[1:]:
            try:
                fits = 0 <= float(value) <= 1
            except ValueError:
                fits = False
            if not fits:
                raise Problem(
                    f"{path} line {number} has {value!r}, which is no probability from 0 to 1: "
                    "nothing was submitted."
                )


def check_ids(path: Path, found: list[str], expected: list[str]) -> None:
    """Raise Problem when the Ids are not those of the sample in the sample's order."""
    if found == expected:
        return
    kinds = {
        "an Id twice": [name for name, count in Counter(found).items() if count > 1],
        "an Id that is not in the sample": sorted(set(found) - set(expected)),
        "no row for an Id of the sample": sorted(set(expected) - set(found)),
        "the Ids in another order than the sample, first at": [
            a for a, b in zip(found, expected, strict=False) if a != b
        ],
    }
    what, names = next((what, names) for what, names in kinds.items() if names)
    raise Problem(
        f"{path} has {what} ({names[0]}; {len(found)} rows, the sample {len(expected)}): "
        "nothing was submitted."
    )


def data_file(context: Context, folder: Path, name: str) -> Path:
    """Return a small file of the competition: the one in the run's folder, or else a download.

    The download is kept in runs/<competition>/.
    """
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

    Args:
        context: of the command.
        competition: its slug.
        name: of the CSV; where it lies in a zip, the zip's name without its suffix may be a folder.
        kept: the file that is written once it is complete.
    """
    say(f"downloading {name} of {competition}")
    new = kept.with_name(kept.name + ".new")
    fields = {"competition": competition, "path": str(new)}
    try:
        context.remote.call("download_data", name, name=name, **fields)
    except Refused as refusal:
        if refusal.status != 404:
            raise
        archive, member = holder_of(context, competition, name)
        if member:
            context.remote.call("download_member", name, name=archive, member=member, **fields)
        else:
            context.remote.call("download_data", name, name=f"{name}.zip", **fields)
    if zipfile.is_zipfile(new):  # Kaggle packs some files
        new.write_bytes(unpacked(new, name))
    read_table(new)
    new.replace(kept)


def unpacked(archive: Path, name: str) -> bytes:
    """Return the CSV of a name in a zip, or the only CSV that it holds.

    Raises:
        Problem: it holds neither, or can't be unpacked.
    """
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


def holder_of(context: Context, competition: str, name: str) -> tuple[str, str]:
    """Return the zip of a competition's data that holds a file, and the file's name there.

    Both are "" where none does, or only a zip of the file's own name.
    """
    listed, _ = context.remote.some_data_files(competition, MOST_LISTED)
    for archive, _ in listed:
        if archive.lower().endswith(".zip") and archive != f"{name}.zip":
            inside = context.remote.call("zip_names", name, competition=competition, name=archive)
            for member in inside:
                if name in (member, f"{archive[: -len('.zip')]}/{member}"):
                    return archive, member
    return "", ""


def known_classes(context: Context, folder: Path) -> set[str]:
    """Return the competition's labels as text: those in the run's metrics, or in its table.

    Empty where neither tells them.
    """
    classes = read_metrics(folder).get("classes")
    if isinstance(classes, list) and classes:
        return {str(label) for label in classes}
    layout = read_block(context.project.code)
    if not layout.train_csv:  # its labels are photos' folders or names, which are not here
        return set()
    header, rows = read_table(data_file(context, folder, layout.train_csv))
    column = header.index(layout.label) if layout.label in header else 1
    return {row[column] for row in rows}


def check_for(context: Context, path: Path) -> None:
    """Check a submission against the competition of the kernel's block; see `check`."""
    layout = read_block(context.project.code)
    sample = data_file(context, path.parent, layout.sample_csv)
    labelled = layout.submission in ("label", "best")
    classes = known_classes(context, path.parent) if labelled else set()
    check(path, sample, classes, layout.submission)
