"""Propose the block of an unknown competition from its files' names and its tables."""

import dataclasses
import os
import posixpath
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common import Problem
from common.tables import read_csv
from ImageDataAugmentor.clutter import is_clutter
from photos.guessing import (
    Photos,
    check_single,
    form_of,
    group_column,
    has_class_folders,
    id_column,
    label_column,
    names_pattern,
    place_of,
)
from photos.labels import are_numbers, missing, spelling_notes
from photos.layout import ORDINAL, Layout
from photos.matching import folders_of
from photos.pixels import pixel_columns
from photos.records import RECORDS
from photos.rows import class_folders, known_names, label_in, one_hot
from photos.spelling import WAYS_OF_LABELS, Spellings

PREVIEWED = 3  # rows
PIXELS = 50  # columns of numbers from which on a table holds photos


@dataclass(frozen=True)
class Proposal:
    """The block of a competition, as far as its files tell."""

    layout: Layout
    notes: list[str]
    """What was concluded, and from what."""
    doubts: list[str]
    """What could not be told: a person must decide it."""
    rows: pd.DataFrame
    """The first rows as they are understood: Id, label, group and photo ("" where unknown)."""


@dataclass(frozen=True)
class Source:
    """An unknown competition's files."""

    names: Sequence[str]
    """Below its folder; of members of zips the zip's name is a folder."""
    table: Callable[[str], pd.DataFrame]
    """Reads a CSV as text."""
    slug: str = ""
    metric: str = ""
    """The row of METRICS; "" while it is unknown."""
    given: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Fields of the block that a person has decided."""


def layout_of(folder: Path, layout: Layout) -> Layout:
    """Return the block if it fits a competition's folder, or one that is proposed for the folder.

    Raises:
        Problem: neither its files are there nor can another layout be told without doubt.
    """
    missing = layout.missing(folder)
    if not missing:
        return layout
    sentence = f"There is no {missing} in {folder}, which the block COMPETITION names, and "
    cure = ": give the folder into which the competition's files were downloaded, or mend the block"
    if not folder.is_dir():
        raise Problem(f"There is no folder {folder}{cure}.")
    try:
        proposal = propose(Source(names_below(folder), lambda name: table_below(folder, name)))
    except Problem as problem:
        reason = str(problem).rstrip(".")
        raise Problem(f"{sentence}no other layout is recognised ({reason}){cure}.") from None
    if proposal.doubts:
        raise Problem(f"{sentence}its own is in doubt ({'; '.join(proposal.doubts)}){cure}.")
    print(
        f"COMPETITION is another competition's. This folder is read as\n{proposal.layout.block()}"
    )
    for note in proposal.notes:
        print(f"  {note}")
    return proposal.layout


def names_below(folder: Path) -> list[str]:
    """Return the names of a folder's files, and of those in its zips."""
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        inside = Path(parent).relative_to(folder).as_posix()
        for name in sorted(files):
            path = name if inside == "." else f"{inside}/{name}"
            names.append(path)
            if name.lower().endswith(".zip"):
                names += [f"{path}/{member}" for member in members_of(folder / path)]
    return names


def members_of(archive: Path) -> list[str]:
    """Return the names in a zip; none where it can't be read."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            return [name for name in bundle.namelist() if not is_clutter(posixpath.basename(name))]
    except (OSError, zipfile.BadZipFile):
        return []


def table_below(folder: Path, name: str) -> pd.DataFrame:
    """Read a CSV of a folder, or the one in a zip of its name."""
    if (folder / name).is_file():
        return read_csv(folder / name)
    with zipfile.ZipFile(folder / f"{name}.zip") as bundle:
        inside = next(m for m in bundle.namelist() if m.lower().endswith(".csv"))
        with bundle.open(inside) as file:
            return pd.read_csv(file, dtype=str, keep_default_na=False)


def propose(source: Source) -> Proposal:
    """Return the block of a competition.

    Raises:
        Problem: it can't be told, or is of a kind that is not supported.
    """
    photos = Photos(source.names)
    sample_csv, tables = csvs_of(source.names)
    sample = source.table(sample_csv) if sample_csv else None
    tests = photos.of(sample.iloc[:, 0], "test") if sample is not None else []
    if not photos.names:
        return propose_packed(source, sample_csv, sample, tables)
    found = training_table(source, photos, sample, tables, set(tests))
    fields: dict = {"slug": source.slug, "sample_csv": sample_csv}
    fields["single_labels"] = typed("single_labels", source.given.get("single_labels", ""))
    notes: list[str] = []
    if found:
        fields["train_csv"], table = found
        rows = rows_of(table, photos, sample, fields, notes)
        trains = photos.of(rows["Id"], "train")
    else:
        trains = trained(photos, tests)
        if not trains:
            raise Problem(f"none of the {len(photos.names)} photos is one of the training set")
        rows = unlisted_rows(photos, trains, tests, fields, notes)
    if sample is None:
        if found:
            raise Problem(f"there is {fields['train_csv']} but no sample submission")
        tests = [n for n in photos.names if n not in set(trains) and is_test(n)]
        notes.append("there is no sample submission: each test photo is a row of the submission")
    places = {"train_photos": (trains, tests), "test_photos": (tests, trains)}
    for field, (own, others) in places.items():
        fields[field] = (place_of(own, others),) if own else ()
    if sample is not None and not tests:
        raise Problem(f"no photo has one of the Ids of {sample_csv}, such as {sample.iat[0, 0]}")
    first = rows.head(PREVIEWED)
    found_photos = [(photos.of([Id], "train") or [""])[0] for Id in first["Id"]]
    proposal = concluded(source, fields, sample, rows, notes)
    return dataclasses.replace(proposal, rows=first.assign(photo=found_photos))


def csvs_of(names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the sample submission ("" without one) and the other CSVs."""
    packed = [name for name in names if ".zip/" in name.lower()]
    alone = [name for name in names if name not in set(packed)]
    csvs = [re.sub(r"\.zip$", "", n) for n in alone if re.search(r"\.csv(\.zip)?$", n, re.I)]
    csvs = sorted(dict.fromkeys(csvs), key=lambda name: (name.count("/"), name))
    samples = [n for n in csvs if re.search(r"sample.?sub|submission", posixpath.basename(n), re.I)]
    samples.sort(key=lambda name: "sample" not in name.lower())
    sample = samples[0] if samples else ""
    return sample, [name for name in csvs if name not in samples]


def training_table(
    source: Source,
    photos: Photos,
    sample: pd.DataFrame | None,
    tables: Sequence[str],
    tests: set[str],
) -> tuple[str, pd.DataFrame] | None:
    """Return the table of the training photos' labels, and its name; None where there is none."""
    preferred = sample.columns[0] if sample is not None else ""
    for name in sorted(tables, key=lambda name: not re.search("train|label", name, re.I)):
        table = source.table(name)
        column = id_column(table, photos, preferred)
        if column is None or table.shape[1] < 2:
            continue
        some = photos.of(table[column].head(20), "train")
        if not set(some) <= tests:
            return name, table
    return None


def rows_of(
    table: pd.DataFrame,
    photos: Photos,
    sample: pd.DataFrame | None,
    fields: dict,
    notes: list[str],
) -> pd.DataFrame:
    """Return a table's rows as Id, label and group; `fields` and `notes` get what they mean."""
    where, preferred = fields["train_csv"], sample.columns[0] if sample is not None else ""
    Id = id_column(table, photos, preferred)
    label = label_column(table, Id, sample)
    if not fields["single_labels"]:
        check_single(table, label, f"the column {label} of {where}", photos, sample)
    many = not isinstance(label, str)
    labels = one_hot(table[list(label)], Path(where)) if many else table[label].str.strip()
    group = group_column(table, [Id, *([label] if isinstance(label, str) else label)])
    of_sample = "" if sample is None else sample.columns[1]
    told = {"id": Id if Id != preferred else "", "group": group}
    fields |= told | {"label": label if many or label != of_sample else ""}
    shown = f"the columns {', '.join(label)} as one-hot" if many else f"the column {label}"
    named = labels[~labels.isin(missing(labels, folders_of(photos.names) | known_names(sample)))]
    notes.append(f"labels: {shown} of {where}, {named.nunique()} classes")
    if blank := len(labels) - len(named):
        notes.append(f"{blank} rows of {where} have no label and are left out")
    notes += spelling_notes(named, f"give them one spelling in {where}")
    if group:
        notes.append(f"group: photos of one {group} are kept together in the split")
    groups = table[group] if group else ""
    return pd.DataFrame({"Id": table[Id], "label": labels}).assign(group=groups)


def is_test(name: str) -> bool:
    """Tell whether a photo lies in a folder or zip of test photos."""
    return any(part.startswith("test") for part in name.lower().split("/")[:-1])


def trained(photos: Photos, tests: Sequence[str]) -> list[str]:
    """Return the photos that no table lists and that are no test photos."""
    left = [name for name in photos.names if name not in set(tests) and not is_test(name)]
    named = [name for name in left if "train" in posixpath.dirname(name).lower()]
    return named or left


def unlisted_rows(
    photos: Photos, trains: list[str], tests: list[str], fields: dict, notes: list[str]
) -> pd.DataFrame:
    """Return rows of photos whose folder or name is the label.

    Raises:
        Problem: neither is.
    """
    place = place_of(trains, tests)
    names = [posixpath.relpath(name, place or ".") for name in trains]
    rows = pd.DataFrame({"Id": names, "label": "", "group": ""}, dtype=object)
    if has_class_folders(names):
        rows["label"] = class_folders(rows["Id"])
        notes.append(f"labels: the folders of the photos, {rows['label'].nunique()} classes")
    elif pattern := names_pattern(names):
        fields["pattern"] = pattern
        rows["label"] = [label_in(pattern, posixpath.basename(name)) for name in names]
        notes.append(f"labels: the photos' names, {rows['label'].nunique()} classes")
    else:
        raise Problem(
            f"no table names the {len(trains)} training photos' labels, nor do folders or names, "
            f"such as {trains[0] if trains else 'none'}"
        )
    return rows[rows["label"] != ""].reset_index(drop=True)


def concluded(
    source: Source, fields: dict, sample: pd.DataFrame | None, rows: pd.DataFrame, notes: list[str]
) -> Proposal:
    """Return the proposal, with the submission's form and the metric."""
    labels, doubts = set(rows["label"]), []
    metric = source.given.get("metric") or source.metric
    form, k = form_of(sample, labels, metric)
    if not form and "submission" not in source.given:
        doubts.append(
            "whether labels or probabilities are submitted: labels are 0 and 1, the sample has "
            f"{sample.iat[0, 1]!r}; decide `submission` and `metric`"
        )
    form = form or "label"
    usual = {"label": "accuracy", "best": "map@5"}.get(form, "log-loss")
    if not metric:
        notes.append(f"the files do not tell the metric: {usual} is the usual one for this form")
    metric = metric or usual
    if metric in ORDINAL and "order" not in source.given and not are_numbers(labels):
        doubts.append(
            f"which order the classes {', '.join(sorted(labels)[:9])} have, which counts for "
            f"{metric}: decide `order`, from the least to the greatest"
        )
    fields |= {"submission": form, "metric": metric}
    if form == "best":
        fields["k"] = k
    if form == "probability" and labels != {"0", "1"}:
        column = sample.columns[1]
        likely = column if column in labels else max(labels)
        fields["positive"] = likely
        if column not in labels and "positive" not in source.given:
            doubts.append(
                f"which of {' and '.join(sorted(labels))} the probability is of: {likely} is a "
                "guess; decide `positive`"
            )
    fields |= {name: typed(name, text) for name, text in source.given.items()}
    known = {field.name for field in dataclasses.fields(Layout)}
    if unknown := fields.keys() - known:
        raise Problem(f"a block has no field {min(unknown)}; it has {', '.join(sorted(known))}")
    return Proposal(Layout(**fields), notes, doubts, rows.head(PREVIEWED).assign(photo=""))


def typed(name: str, text: str) -> str | int | bool | tuple[str, ...]:
    """Return the value of a block's field that is given as text; several are joined by commas."""
    if name == "k":
        return int(text) if text.isdecimal() else 0
    if name == "single_labels":
        return text.strip().casefold() in ("true", "yes", "1")
    if name in ("train_photos", "test_photos", "order") or (name == "label" and "," in text):
        return tuple(text.split(",")) if text else ()
    return text


def propose_packed(
    source: Source, sample_csv: str, sample: pd.DataFrame | None, tables: Sequence[str]
) -> Proposal:
    """Return the block of a competition without photos: they are in tables or records, if at all.

    Raises:
        Problem: there are none.
    """
    fields: dict = {"slug": source.slug, "sample_csv": sample_csv}
    records = [name for name in source.names if RECORDS.search(name)]
    if records:
        places = sorted({posixpath.dirname(name) for name in records}, key=by_size)
        largest = [place for place in places if by_size(place) == by_size(places[-1])]
        tests = [place for place in largest if "test" in place.lower()]
        trains = [place for place in largest if place not in tests]
        fields |= {"packed": "tfrecords", "train_photos": tuple(trains), "test_photos": (*tests,)}
        notes, rows = ["photos: in TFRecords"], pd.DataFrame({"Id": [], "label": [], "group": []})
        return concluded(source, fields, sample, rows, notes)
    for name in sorted(tables, key=lambda name: "train" not in name.lower()):
        table = source.table(name)
        pixels = set(pixel_columns(table.columns, name))
        if len(pixels) >= PIXELS and "train" in name.lower():
            others = [column for column in table.columns if column not in pixels]
            known = "" if sample is None else sample.columns[0]
            label = label_column(
                table[others], Spellings(others, WAYS_OF_LABELS).only(known), sample
            )
            tests = [n for n in tables if "test" in n.lower()]
            fields |= {"packed": "pixels", "train_csv": name, "label": label}
            fields |= {"train_photos": (name,), "test_photos": tuple(tests[:1])}
            many = not isinstance(label, str)
            labels = one_hot(table[list(label)], Path(name)) if many else table[label].str.strip()
            rows = pd.DataFrame({"Id": table.index.astype(str), "label": labels})
            notes = [f"photos: {len(pixels)} columns of pixels in {name}"]
            return concluded(source, fields, sample, rows.assign(group=""), notes)
    archives = [n for n in source.names if re.search(r"\.(7z|tar|gz|tgz|rar)$", n, re.I)]
    said = f"; {archives[0]} must be unpacked first" if archives else ""
    raise Problem(f"its {len(source.names)} files hold no photos{said}")


def by_size(place: str) -> int:
    """Return the number in a folder's name, such as the photos' side: the largest are taken."""
    return max((int(digits) for digits in re.findall(r"\d+", place)), default=0)
