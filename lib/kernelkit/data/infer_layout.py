"""Propose the block of an unknown competition from its files' names and its tables.

The sample submission decides first: its Ids are the photos to predict, and the column that holds
its values is the label. Then tables count, and then the names of folders and files. A guess that
something contradicts is a doubt, which a person must decide.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from kernelkit.core.metrics import METRICS, metric_named, usual_metric
from kernelkit.core.problem import Problem, first_names
from kernelkit.data.find import copied_folders, find_files, is_photo_file, list_files, read_table
from kernelkit.data.infer_draft import (
    Draft,
    Source,
    counted,
    inside,
    unread,
)
from kernelkit.data.infer_folders import rows_of_photos, training_photos
from kernelkit.data.infer_sample import choose_sample, lists_all, photos_to_predict
from kernelkit.data.infer_table import (
    LabelColumn,
    LabelTable,
    choose_table,
    label_column,
    rows_of_table,
)
from kernelkit.data.labels import are_numbers
from kernelkit.data.layout import Layout
from kernelkit.data.names import (
    LABEL_KEYS,
    Spellings,
    branches,
    common_folder,
    named_role,
    number_of,
    role_of,
    words_of,
)
from kernelkit.data.packed import RECORDS, pixel_columns

PREVIEWED = 3  # rows
PIXELS = 50  # columns of numbers from which on a table holds photos
# Words of columns whose numbers are amounts if they are many, and words beside them of classes.
AMOUNTS = "age boneage score scores count counts price rating year years months days weight height"
AMOUNTS += " length width depth distance temperature amount quantity percent percentage"
CLASSES = "class group category label id bin code type model"
MOST_GRADES = 20  # of numbers that may be grades, whatever their column is called


@dataclass(frozen=True)
class Proposal:
    """The block of a competition, as far as its files show it."""

    layout: Layout
    notes: list[str]  # conclusions, and from what
    doubts: list[str]  # what is uncertain, and the option that decides it
    rows: pd.DataFrame  # the first rows: Id, label, group and photo ("" where unknown)


def source_of(folder: Path, scratch: Path, **known) -> Source:
    """Return the files of a folder, whose zips are unpacked below `scratch`; and other fields."""
    found = find_files(folder, scratch)
    names = dict.fromkeys([*list_files(folder)["name"], *found["name"]])
    photos = found[found["path"].map(is_photo_file).astype(bool)]
    chosen = known.get("given", {}).keys() & {"train_photos", "test_photos"}
    photos, copies = photos["name"].tolist(), {} if chosen else copied_folders(photos)
    return Source(
        [*names], photos, lambda name: read_table(folder, name, scratch), copies=copies, **known
    )


def layout_of(
    folder: Path, layout: Layout, scratch: Path, given: Mapping[str, str] | None = None
) -> Layout:
    """Return the block if it fits a competition's folder, or one that is proposed for the folder.

    `given` are fields of the block that a person has decided. Zips are unpacked below `scratch`.
    Raises Problem if its files are not there, and the folder's own layout is not certain.
    """
    decided = layout.with_fields(given or {})
    emptied = "" in (given or {}).values()  # which makes no other competition's block fit
    lacking = decided.missing(folder) or (emptied and layout.missing(folder))
    if not (lacking := lacking or _missing_column(layout, folder, scratch)):
        return decided
    cure = ": give the folder into which the competition's files were downloaded, or correct the "
    cure += "block"
    if not folder.is_dir():
        raise Problem(f"There is no folder {folder}{cure}.")
    sentence = f"There is no {lacking} in {folder}, which the block COMPETITION names, and "
    try:
        proposal = propose(source_of(folder, scratch, given=given or {}))
    except Problem as problem:
        reason = str(problem).rstrip(".")
        raise Problem(f"{sentence}no other layout is recognised ({reason}){cure}.") from None
    print("COMPETITION is another competition's. This folder is read as")
    print("\n  ".join([proposal.layout.block(), *proposal.notes]))
    if proposal.doubts:
        raise Problem(
            f"{sentence}its own is in doubt: {'; '.join(proposal.doubts)}. Add to the same command "
            "what decides it, or paste the block above into kernel.py and correct it."
        )
    return proposal.layout


def _missing_column(layout: Layout, folder: Path, scratch: Path) -> str:
    """Return a column that the block names if the table has none of these; "" otherwise."""
    columns = [*LabelColumn(layout.label).names, layout.id]
    if not layout.train_csv or not all(columns):
        return ""
    known = set(read_table(folder, layout.train_csv, scratch).columns.str.strip())
    return "" if known.intersection(columns) else f"column {columns[0]} in {layout.train_csv}"


def propose(source: Source) -> Proposal:
    """Return a competition's block. Raises Problem if it is unknown, or of an unsupported kind."""
    proposal = _propose(source)
    places = [*proposal.layout.train_photos, *proposal.layout.test_photos]
    if not (read := inside([f"{folder}/" for folder in source.copies], places)):
        return proposal
    proposal, folder = _propose(replace(source, copies={})), read[0].rstrip("/")
    if not proposal.doubts:
        place = ",".join(name or "." for name in proposal.layout.train_photos)
        question = f"whether {folder} trains beside {source.copies[folder]}, which has the same "
        question += f"photos; if not, delete one (decide it with --set 'train_photos={place}')"
        proposal.doubts.append(question)
    return proposal


def _propose(source: Source) -> Proposal:
    draft = Draft(source)
    choose_sample(draft)
    if not source.photos or _are_illustrations(draft):
        return _propose_packed(draft)
    tests = photos_to_predict(draft)
    if lists_all(draft, tests):
        draft.tables.append(draft.fields.pop("sample_csv"))
        draft.sample, tests = None, []
    chosen = choose_table(draft, set(tests))
    if chosen:
        rows, trains = rows_of_table(draft, chosen)
    else:
        trains = training_photos(draft, tests)
        rows = rows_of_photos(draft, trains, tests)
    _doubt_labelled(draft, chosen, tests, trains)
    if draft.sample is None:
        draft.notes.append(
            "there is no sample submission: each test photo is a row of the submission"
        )
    used = {*trains, *tests}
    if unused := [name for name in draft.photos.names if name not in used]:
        counts = pd.Series([posixpath.dirname(name) or "." for name in unused]).value_counts()
        where = first_names([f"{folder} ({count})" for folder, count in counts.items()], 3)
        draft.notes.append(
            f"{len(unused)} photos are left out, neither to train nor to be predicted: {where}"
        )
    draft.fields["train_photos"] = (common_folder(trains),) if trains else ()
    draft.fields["test_photos"] = (common_folder(tests),) if tests else ()
    if draft.sample is None and inside(trains, draft.fields["test_photos"]):
        places = sorted(set(branches(tests).values()))
        question = f"which of {' and '.join(places)} holds the photos to predict"
        draft.doubt(question, test_photos=places if len(places) > 1 else tests[0])
    return _concluded(draft, rows)


def _doubt_labelled(
    draft: Draft, chosen: LabelTable | None, tests: list[str], trains: list[str]
) -> None:
    """Doubt photos to predict that have labels: the Ids of a test set may be names of both sets."""
    if draft.sample is None or any(draft.photos.roles[name] == "test" for name in tests):
        return
    place, where = common_folder(tests) or ".", draft.fields["sample_csv"]
    cure = "download the photos of the test set"
    folders = {posixpath.dirname(name) for name in trains}
    if not chosen and len(folders) > 1 and folders.issuperset(map(posixpath.dirname, tests)):
        raise Problem(f"the photos with the Ids of {where} lie in folders of classes; {cure}")
    labels = chosen.labels_of(tests) if chosen else ()
    trained = "train" in map(role_of, place.split("/"))
    if len(labels) > 1 or (trained and (labels or not chosen)):
        known = f"labelled in {chosen.name}" if chosen else "in a folder of training photos"
        question = f"whether the photos in {place} are to be predicted, which have the Ids of "
        draft.doubt(f"{question}{where} but are {known}: if not, {cure}", test_photos=place)


def _concluded(draft: Draft, rows: pd.DataFrame) -> Proposal:
    sample, given, labels = draft.sample, draft.given, set(rows["label"]) - {""}
    metric, before = given.get("metric") or draft.source.metric, len(draft.doubts)
    form, k = _form_of(sample, labels, metric)
    if not form:
        draft.doubt(
            "whether labels or probabilities are submitted: labels are 0 and 1, the sample has "
            f"{sample.iat[0, 1]!r}",
            submission=["label", "probability"],
            metric="auc",
        )
    form = given.get("submission") or form or "label"
    if form == "label" and sample is not None and labels:
        _doubt_values(draft, labels)
    if form == "label" and not metric:
        _doubt_amounts(draft, labels)
    if not metric:
        metric = usual_metric(form)
        draft.notes.append(f"the files do not show the metric: {metric} is the usual one")
        numbers = {number_of(label) for label in labels}
        if form == "label" and len(numbers) > 2 and numbers == set(range(len(numbers))):
            name, row = next((name, row) for name, row in METRICS.items() if row.ordinal)
            draft.notes.append(
                f"labels are the numbers 0 to {len(numbers) - 1}: if they are grades in order, "
                f"--set metric={name} is the {row.name}"
            )
    if metric_named(metric).ordinal and "order" not in given and not are_numbers(labels):
        classes = sorted(labels)
        question = f"which order the classes {first_names(classes)} have, which counts for {metric}"
        draft.doubt(f"{question}: name them from least to greatest", order=",".join(classes))
    fields = draft.fields | {"submission": form, "metric": metric}
    if form == "best":
        fields["k"] = k
    if form == "probability" and labels - {"0", "1"}:  # unknown while they are packed in records
        fields["positive"] = _likely_positive(draft, labels)
    first = rows.head(PREVIEWED)
    photos = [[*draft.photos.alike(Id, "train"), ""][0] for Id in first["Id"]]
    layout = Layout(**fields).with_fields(given)
    doubts = draft.doubts[before:] + draft.doubts[:before]  # what is submitted may decide others
    return Proposal(layout, draft.notes, doubts, first.assign(photo=photos))


def _likely_positive(draft: Draft, labels: set[str]) -> str:
    """Return the class that one probability is of; doubt a mere guess."""
    if len(labels) > 2:
        raise Problem(
            f"one probability is of one of two classes, and there are {len(labels)} "
            f"({first_names(sorted(labels))}): submit labels with --set submission=label"
        )
    column = draft.sample.columns[1]
    likely = column if column in labels else max(labels)
    if column not in labels and {label.casefold() for label in labels} != {"true", "false"}:
        question = f"which of {' and '.join(sorted(labels))} the probability is of"
        others = sorted(labels - {likely})
        draft.doubt(f"{question}: {likely} is a guess", positive=[likely, *others])
    return likely


def _form_of(sample: pd.DataFrame | None, labels: set[str], metric: str) -> tuple[str, int]:
    """Return the form of the submission ("" where it is uncertain), and the labels in a cell."""
    if sample is None:
        return "label", 1
    if sample.shape[1] > 2:
        return "probabilities", 1
    cells = [cell.split() for cell in sample.iloc[:, 1].str.strip().unique()]
    words = max((len(cell) for cell in cells), default=0)
    several = words > 1 and all(set(cell) <= labels for cell in cells if len(cell) > 1)
    usual = metric_named(metric).submission if metric else ""
    if (usual == "best" or several) and not any(" " in label for label in labels):
        return "best", max(words, metric_named(metric).labels if usual == "best" else 1)
    numbers = [cell[0] for cell in cells if cell]
    fractions = [text for text in numbers if number_of(text) is None and are_numbers([text])]
    if len(labels) <= 2 and (usual == "probability" or fractions):
        return "probability", 1
    binary = {number_of(label) for label in labels} == {0, 1}
    return "" if binary and not usual and numbers else "label", 1


def _doubt_values(draft: Draft, labels: set[str]) -> None:
    values = [text for text in draft.sample.iloc[:, 1].str.strip().unique() if text]
    known = Spellings(sorted(labels), LABEL_KEYS)
    whole = all(number_of(text) is not None for text in (*values, *labels))
    strange = [text for text in values if not known.find(text)[0]]
    fraction = any(number_of(text) is None and are_numbers([text]) for text in strange)
    if strange and not whole and (fraction or len(strange) == len(values)):
        draft.doubt(
            f"whether labels such as {min(labels)} are submitted: the sample has {strange[0]!r}",
            submission=["label", "probability"] if len(labels) <= 2 else "label",
        )


def _doubt_amounts(draft: Draft, labels: set[str]) -> None:
    """Doubt that numbers are classes where they seem to be amounts, such as ages."""
    # Of whole numbers only the column's name tells: classes are numbered without gaps too, and may
    # have few photos each, as individuals have. With it, most of their range must be filled.
    if len(labels) <= MOST_GRADES or not are_numbers(labels):
        return
    of_sample = "" if draft.sample is None else draft.sample.columns[1]
    column = draft.fields.get("label") or of_sample
    words = set(words_of(column)) if isinstance(column, str) else set()
    named = bool(words & {*AMOUNTS.split()}) and not words & {*CLASSES.split()}
    least, most = min(labels, key=float), max(labels, key=float)
    dense = len(labels) > (float(most) - float(least)) / 2
    if (named and dense) or None in map(number_of, labels):
        span = f"the {len(labels)} numbers of the column {column}, {least} to {most}"
        question = f"whether {span}, are classes: to predict amounts is not supported"
        draft.doubt(question, submission="label")


def _are_illustrations(draft: Draft) -> bool:
    """Tell whether the photos are a few pictures beside tables that hold far more as pixels."""
    tables = (draft.table(name) for name in draft.tables if named_role(name) == "train")
    long = (table for table in tables if len(table) > 10 * len(draft.photos.names))
    return any(len(pixel_columns(table.columns, "")) >= PIXELS for table in long)


def _propose_packed(draft: Draft) -> Proposal:
    names = draft.source.names
    if records := [name for name in names if RECORDS.search(name)]:
        return _propose_records(draft, records)
    for name in (name for name in draft.tables if named_role(name) == "train"):
        table = draft.source.table(name)
        pixels = set(pixel_columns(table.columns, name))
        others = [column for column in table.columns if column not in pixels]
        if len(pixels) >= PIXELS and others:
            return _propose_pixels(draft, name, table[others], len(pixels))
    raise Problem(f"its {len(names)} files hold no photos{unread(names)}")


def _propose_records(draft: Draft, records: list[str]) -> Proposal:
    def size_of(place: str) -> int:
        return max((int(digits) for digits in re.findall(r"\d+", place)), default=0)

    places = sorted({posixpath.dirname(name) for name in records}, key=size_of)
    largest = [place for place in places if size_of(place) == size_of(places[-1])]
    if len(places) == 1:  # the names of the files tell the sets apart
        largest = records
    parts = {place: [part.partition(".")[0] for part in place.split("/")] for place in largest}
    tests = [place for place in largest if "test" in map(role_of, parts[place])]
    trains = tuple(place for place in largest if place not in tests)
    draft.fields |= {"packed": "tfrecords", "train_photos": trains, "test_photos": (*tests,)}
    draft.notes.append("photos: in TFRecords")
    return _concluded(draft, pd.DataFrame({"Id": [], "label": [], "group": []}))


def _propose_pixels(draft: Draft, name: str, table: pd.DataFrame, pixels: int) -> Proposal:
    """Return the block of a competition whose photos are numbers; `table` is without these."""
    preferred = draft.sample.columns[0] if draft.sample is not None else ""
    Id = Spellings(table.columns, LABEL_KEYS).only(preferred) if preferred else None
    column = label_column(table, Id or "", draft.sample) or LabelColumn(table.columns[0])
    if "label" in draft.given:
        column = LabelColumn(Layout.typed("label", draft.given["label"]))
    column.doubt_others(draft, name)
    labels = column.values(table, name)
    tests = [other for other in draft.tables if named_role(other) == "test"]
    draft.fields |= {"packed": "pixels", "train_csv": name, "label": column.name}
    draft.fields |= {"train_photos": (name,), "test_photos": tuple(tests[:1])}
    draft.notes.append(f"photos: {pixels} columns of pixels in {name}; {counted(labels)}")
    rows = pd.DataFrame({"Id": table.index.astype(str), "label": labels, "group": ""})
    return _concluded(draft, rows)
