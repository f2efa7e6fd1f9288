"""The labels of photos: in a table's columns, in names and folders, and as classes."""

import functools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from kernelkit.core.metrics import metric_named
from kernelkit.core.problem import Problem, first_names
from kernelkit.data.layout import Layout
from kernelkit.data.names import LABEL_KEYS, WHOLE_NUMBER, Spellings, folded, number_of, printable

ONE_HOT_WORDS = {"true": "1", "false": "0", "": "0"}
BETWEEN_LABELS = r"[\s,|;]"  # what separates several labels in one text
# What programs write where a value is missing.
MISSING = {"", "nan", "null", "n/a", "#n/a", "<na>"}
MISSING_AMONG_NUMBERS = MISSING | {"na", "none", "?", "-"}
MONTH = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
MONTH += "|янв|фев|мар|апр|май|мая|июн|июл|авг|сен|окт|ноя|дек"
# What spreadsheets make of 1-2, 3/4, MAR5 or 1E5.
DATE = re.compile(
    rf"\d{{1,2}}[-. ]({MONTH})\.?([-. ]\d{{2,4}})?|({MONTH})[-. ]\d{{1,4}}"
    r"|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}|\d{4}-\d\d-\d\d( 00:00:00)?|\d([.,]\d+)?E\+\d+",
    re.I,
)


def sample_labels(sample: pd.DataFrame | None) -> set[str]:
    """Return what a sample submission has as labels: its columns, or its values but for blanks."""
    if sample is None or sample.shape[1] < 2:
        return set()
    names = sample.columns[1:] if sample.shape[1] > 2 else sample.iloc[:, 1]
    return {name.strip() for name in names} - {""}


def with_label(sample: pd.DataFrame, name: str = "label") -> pd.DataFrame:
    """Return a sample submission; a mere list of Ids gets an empty column."""
    return sample.assign(**{name: ""}) if sample.shape[1] == 1 else sample


def known_names(sample: pd.DataFrame | None) -> set[str]:
    """Return the names that a sample shows to be single labels: columns, or different values."""
    names = sample_labels(sample)
    return names if len(names) > 1 else set()


def one_hot(columns: pd.DataFrame, path: Path) -> pd.Series:
    """Return each row's column that is 1, or "". Raises Problem for several, or one not 0 or 1."""
    text = columns.apply(lambda column: column.str.strip().str.casefold().replace(ONE_HOT_WORDS))
    values = text.apply(pd.to_numeric, errors="coerce")
    ones, known = values == 1, values.isin([0, 1])
    if not known.all(axis=None):
        row = int(known.all(axis=1).argmin())
        raise Problem(
            f"{path} line {row + 2} holds values other than 0 and 1 in the columns of the classes "
            f"({first_names(columns.columns)}), so it names no single label: name other columns in "
            "the block's label."
        )
    if (several := ones.sum(axis=1) > 1).any():
        row = int(several.argmax())
        raise Problem(
            f"{path} gives photos several labels (line {row + 2}: "
            f"{', '.join(ones.columns[ones.iloc[row]])}): only competitions with one label a photo "
            "are supported, and this one is not."
        )
    return ones.idxmax(axis=1).where(ones.any(axis=1), "")


def refuse_several(labels: Iterable[str], where: str, single: Iterable[str]) -> None:
    """Refuse labels that are several in one text, separated by spaces, commas, | or ;.

    So it is where each word of most such labels is itself a label, or where few words make up many
    labels of different lengths: `sea lion` is one label beside `lion`, as long as `sea` is none.
    Where one of `single`, names of classes, has several words, none is refused. Raises Problem
    if one is.
    """
    known = set(labels) - {""}
    words = {
        label: set(re.split(f"{BETWEEN_LABELS}+", label))
        for label in known
        if re.search(BETWEEN_LABELS, label)
    }
    if set(map(folded, words)) & set(map(folded, single)):
        return
    alone = known - set(words)
    joined = sorted(label for label in words if words[label] <= alone)
    vocabulary, lengths = alone.union(*words.values()), {len(each) for each in words.values()}
    if len(words) > 2 * len(vocabulary) and len(lengths) > 1:
        joined = sorted(words)
    if len(joined) > len(words) / 2:
        raise Problem(
            f"{where} gives photos several labels in one text ({first_names(map(repr, joined))}): "
            "only competitions with one label a photo are supported, and this one is not. If each "
            "of these texts is a single label, decide it with --set single_labels=True, or by that "
            "field of the block COMPETITION."
        )


def labels_by(pattern: str, names: pd.Series) -> pd.Series:
    """Return the label that a pattern finds in each photo's name, "" where it finds none.

    A pattern with a / is sought in the name with its folders, others in the bare name. Without a
    pattern, the label is the folder on the outermost level that has several folders.
    """
    if pattern:
        texts = names if "/" in pattern else names.str.rpartition("/")[2]
        found = [re.search(pattern, text) for text in texts]
        labels = [(match[1] or "").strip() if match else "" for match in found]
        return pd.Series(labels, names.index, dtype=object)
    parents = names.str.rpartition("/")[0].str.split("/")
    levels = [parents.str[n] for n in range(int(parents.str.len().max()) if len(parents) else 0)]
    several = (level for level in levels if level.replace("", None).nunique() > 1)
    return next(several, levels[-1] if levels else parents).fillna("")


def missing(labels: Iterable[str], known: set[str]) -> set[str]:
    """Return the labels that mean a missing one, such as NaN; among words `None` is a label."""
    labels = set(labels)
    rest = {label for label in labels if label.casefold() not in MISSING_AMONG_NUMBERS}
    numbers = rest and all(number_of(label) is not None for label in rest)
    words = MISSING_AMONG_NUMBERS if numbers else MISSING
    return {la for la in labels if la.casefold() in words and (not la or la not in known)}


def class_names(
    labels: Iterable[str], folders: set[str], sample: Iterable[str]
) -> dict[str, int | str]:
    """Return the class of each label of a table's rows, without those that mean none.

    Labels that are all whole numbers are classes of that value, spelt as the sample submission
    spells them (8 for 08, or 08 for 8); the usual spelling (8) is an int. Two spellings of one
    number are two classes only where there is a class folder for each. Words are as `one_form` has
    them.
    """
    labels, words, sample = set(labels), one_form(labels, sample), set(sample)
    values = {label: number_of(label) for label in labels}
    numbers = set(values.values())
    apart = [number_of(folder) for folder in folders if number_of(folder) in numbers]
    if None in numbers or len(set(apart)) < len(apart):
        return words
    other = {text: value for text in sample - labels if (value := number_of(text)) in numbers}
    width = max(map(len, other), default=0)
    for spell in (int, lambda value: f"{value:0{width}d}"):
        if other and all(str(spell(value)) == text for text, value in other.items()):
            return {label: spell(value) for label, value in values.items()}
    usual = [label for label in labels if WHOLE_NUMBER.fullmatch(label)]
    as_int = not usual and any(map(WHOLE_NUMBER.fullmatch, sample))
    if len(usual) == len(labels) or len(numbers) < len(labels) or as_int:
        return dict(values)
    return {label: label for label in labels}


def one_form(labels: Iterable[str], sample: Iterable[str]) -> dict[str, str]:
    """Return for each label the spelling that counts of those that differ in the form of Unicode.

    Computers write an accent with its letter or behind it, which nobody sees. The spelling of the
    sample submission counts, or else the most frequent one.
    """
    counts, form = Counter(labels), functools.partial(unicodedata.normalize, "NFC")
    ranked = [*sorted(set(sample)), *sorted(counts, key=lambda label: (-counts[label], label))]
    spelt: dict[str, str] = {}
    for label in ranked:
        spelt.setdefault(form(label), label)
    return {label: spelt[form(label)] for label in counts}


def spelling_notes(labels: pd.Series, where: str) -> list[str]:
    """Return a line for each kind of labels, which `where` has, that are probably misspelt."""
    counts, lines = labels.value_counts(), []
    numbers = {label: number_of(label) for label in counts.index}
    if None not in numbers.values():
        if named := _alike(counts, numbers):
            lines.append(f"Spellings of one number count as one class: {named}")
    elif named := _alike(counts, forms := one_form(labels, ())):
        lines.append(f"Spellings of one word in Unicode count as one class: {named}")
        counts = counts.groupby(forms).sum()
    if None in numbers.values() and (
        named := _alike(counts, {label: _visible(label) for label in counts.index})
    ):
        lines.append(
            "Labels that differ only in case, blanks or invisible characters are separate classes: "
            f"{named}. If they mean the same, give them one spelling in {where}."
        )
    dates = counts[[bool(DATE.fullmatch(label)) for label in counts.index]]
    if len(dates):
        lines.append(
            "Labels that a spreadsheet may have changed into dates or powers: "
            f"{first_names(map(_with_count, dates.index, dates))}. If they were other names, give "
            f"them one spelling in {where}."
        )
    return lines


def _visible(label: str) -> str:
    """Return a label without case, kinds of blanks, and invisible characters."""
    text = unicodedata.normalize("NFKC", label)
    seen = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join(seen.split()).casefold()


def _alike(counts: pd.Series, keys: dict[str, object]) -> str:
    """Return the labels that have the same key, with the number of their rows; "" for none."""
    of_key = pd.Series(keys, dtype=object)
    groups = [counts[same.index] for _, same in of_key.groupby(of_key) if len(same) > 1]
    return first_names(" and ".join(map(_with_count, each.index, each)) for each in groups)


def _with_count(label: str, rows: int) -> str:
    plain = unicodedata.normalize("NFKC", label) == label  # else invisible letters are escaped
    return f"{label!r} ({rows} rows)" if plain else f"{label!a} ({rows} rows)"


def are_numbers(labels: Iterable[str]) -> bool:
    """Tell whether labels are all finite numbers, which gives them an order."""
    try:
        return all(math.isfinite(float(label)) for label in labels)
    except ValueError:
        return False


def ordered_classes(classes: Iterable[int | str], layout: Layout) -> list:
    """Return the classes in the order of the block, or else sorted by value.

    Raises Problem if the order is not of these classes, or the metric needs one and they are words.
    """
    by_name = {str(name): name for name in classes}
    if layout.order:
        if differing := sorted(by_name.keys() ^ set(layout.order)):
            raise Problem(
                f"COMPETITION's order {layout.order} is not of the {len(by_name)} classes: it "
                f"differs in {', '.join(differing)}."
            )
        return [by_name[name] for name in dict.fromkeys(layout.order)]
    if not metric_named(layout.metric).ordinal:
        return sorted(by_name.values())
    if not are_numbers(by_name):
        raise Problem(
            f"COMPETITION has the metric {layout.metric}, for which the order of the classes "
            f"counts, but they are words ({', '.join(sorted(by_name)[:9])}): give order, a tuple "
            "of all classes from the least to the greatest."
        )
    return [by_name[name] for name in sorted(by_name, key=float)]


def folder_labels(folders: Iterable[str], labels: Iterable[str]) -> dict[str, str]:
    """Return the label of each class folder, without the folders that are of none.

    A folder 01 is of the label 1 where no label is spelt 01, and no other folder is of that label.
    """
    known, names = Spellings(sorted(set(labels)), LABEL_KEYS), sorted(set(folders))
    of_folder = {name: label for name in names if (label := known.only(name)) is not None}
    exact, claimed = set(of_folder.values()) & set(names), list(of_folder.values())
    return {
        name: label
        for name, label in of_folder.items()
        if name == label or (label not in exact and claimed.count(label) == 1)
    }


def near_folders(labels: Iterable[str], folders: set[str]) -> dict[str, str]:
    """Return for each label without a folder the clause that names folders of nearly its name."""
    known, near = Spellings(sorted(folders), LABEL_KEYS), {}
    for label in labels:
        found = [known.names[position] for position in known.find(label)[0]]
        found = found or get_close_matches(label, known.names)
        near[label] = f"; it may be {' or '.join(map(printable, found))}" if found else ""
    return near
