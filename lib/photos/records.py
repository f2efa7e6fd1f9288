"""Photos in TFRecords."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from common import Problem
from photos.layout import Layout
from photos.packing import UNPACKED, converted

BEGINNINGS = {b"\xff\xd8": "jpg", b"\x89P": "png", b"BM": "bmp"}
LABELS = ("class", "label", "target", "category")
IDS = ("id", "image_name", "image_id", "filename")


def unpack_records(folder: Path, layout: Layout, scratch: Path) -> tuple[Path, Layout]:
    """Write the photos of both sets' records as files, once; return their folder and its layout.

    Raises:
        Problem: there are no records, or they lack a picture, a label or an Id.
    """
    sets = layout.train_photos, layout.test_photos
    train, test = ([f for p in s for f in sorted((folder / p).rglob("*.tfrec*"))] for s in sets)
    if not train or not test:
        raise Problem(f"{folder} lacks the TFRecords of a set: download them again.")

    def convert(target: Path) -> pd.DataFrame:
        write_pictures(test, target / "test", IDS)
        return write_pictures(train, target / "train", LABELS)

    names = [layout.sample_csv, *(str(file.relative_to(folder)) for file in (*train, *test))]
    target = converted(folder, names, layout.sample_csv, scratch, convert)
    return target, replace(layout, **UNPACKED)


def write_pictures(files: list[Path], target: Path, wanted: tuple[str, ...]) -> pd.DataFrame:
    """Write the pictures of records; return Id, and as label the first feature that is wanted."""
    target.mkdir(parents=True)
    rows = []
    for number, example in enumerate(examples(files)):
        found = [v for v in example.values() if type(v) is bytes and v[:2] in BEGINNINGS]
        value = next((example[name] for name in wanted if name in example), None)
        if not found or value is None:
            raise Problem(f"The records in {files[0].parent} lack a picture or {wanted[0]}.")
        text = value.decode() if isinstance(value, bytes) else str(value)
        rows.append((text if wanted is IDS else str(number), text))
        (target / f"{rows[-1][0]}.{BEGINNINGS[found[0][:2]]}").write_bytes(found[0])
    return pd.DataFrame(rows, columns=["Id", "label"])


def examples(files: list[Path]) -> Iterator[dict[str, bytes | int]]:
    """Yield the first value of each feature of each record, by its name."""
    import tensorflow as tf  # which nothing else here needs

    for raw in tf.data.TFRecordDataset([str(file) for file in files]).as_numpy_iterator():
        features = tf.train.Example.FromString(raw).features.feature
        kinds = {name: f.bytes_list.value or f.int64_list.value for name, f in features.items()}
        yield {name: values[0] for name, values in kinds.items() if values}
