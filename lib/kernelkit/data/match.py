"""Find the photo of every row."""

import re

import pandas as pd

from kernelkit.core.problem import first_names
from kernelkit.data.names import WAYS_OF_FILES, Spellings, printable

NEAR = 3  # near misses that a reason names


def folders_of(names: pd.Series) -> set[str]:
    """Return the names of all folders that photos lie in, at any depth."""
    parents = {name.rpartition("/")[0] for name in names}
    return {folder for parent in parents for folder in parent.split("/")} - {""}


def with_labels(photos: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """Return the photos with a column folder: the label of the class folder they lie in, or "".

    Of several class folders within each other the innermost counts.

    Args:
        photos: as `list_files` returns them.
        labels: the label of each class folder, by the folder's name.
    """

    def label_of(parent: str) -> str:
        return next((labels[f] for f in reversed(parent.split("/")) if f in labels), "")

    parents = [name.rpartition("/")[0] for name in photos["name"]]
    of_parent = {parent: label_of(parent) for parent in set(parents)}
    return photos.assign(folder=[of_parent[parent] for parent in parents])


class PhotoIndex:
    """Finds photos by Id: the name of the file, with or without its folders and its suffix.

    Args:
        photos: columns name, path, folder and packed.
    """

    def __init__(self, photos: pd.DataFrame):
        self.packed, photos = photos[photos["packed"] > 0], photos[photos["packed"] == 0]
        self.paths, self.folders = photos["path"].tolist(), photos["folder"].tolist()
        self.names = photos["name"].tolist()
        self.spellings = Spellings(self.names, WAYS_OF_FILES)

    def match(self, ids: pd.Series, labels: pd.Series | None = None) -> pd.DataFrame:
        """Find the photos of Ids.

        Of several photos with the same Id, the one in the class folder of the row's label is taken,
        and then the one whose folders the Id names. Where two Ids are near the same photo, it
        belongs to the one that is spelt as the photo is.

        Returns:
            Columns path and folder, "" where no one photo is meant, and near: the names of photos
            that may be meant, as a clause of a reason, or "".
        """
        labels = pd.Series("", ids.index) if labels is None else labels
        found = [self.find(Id, label) for Id, label in zip(ids, labels, strict=True)]
        table = pd.DataFrame(found, columns=["position", "way", "near"], index=ids.index)
        claimed = table.assign(Id=ids.str.strip())[table["position"] >= 0]
        firsts = claimed.groupby("position")["way"].transform("min")
        several = claimed[claimed["way"] == firsts].groupby("position")["Id"].nunique() > 1
        lost = claimed[(claimed["way"] > firsts) | claimed["position"].map(several)]
        for row, position in lost["position"].items():
            table.at[row, "near"] = (
                f"; {printable(self.names[position])} is nearly its name, and that of another row"
            )
            table.at[row, "position"] = -1
        return table.assign(
            path=[self.paths[p] if p >= 0 else "" for p in table["position"]],
            folder=[self.folders[p] if p >= 0 else "" for p in table["position"]],
        )

    def find(self, Id: str, label: str) -> tuple[int, int, str]:
        """Return the position of an Id's photo or -1, how it was found, and near misses."""
        found, way = self.spellings.find(Id)
        meant = [p for p in found if label and self.folders[p] == label] or found
        if len(meant) > 1:
            inside = re.split(r"[/\\]", Id.strip())
            meant = [
                p for p in meant if self.names[p].split("/")[-len(inside) :] == inside
            ] or meant
        if len(meant) == 1:
            return meant[0], way, ""
        if not meant:
            return -1, -1, ""
        names = first_names((printable(self.names[p]) for p in meant), NEAR)
        return -1, -1, f"; it may be any of {names}"

    def without_row(self, used: pd.Series, csv: str) -> pd.DataFrame:
        """Return the photos whose path is not in `used` as rows to exclude."""
        orphans = pd.DataFrame({"Id": self.names, "path": self.paths}, dtype=object)
        orphans = orphans[~orphans["path"].isin(set(used))]
        names = [name.rpartition("/")[2] for name in orphans["Id"]]
        orphans = orphans.assign(Id=names, reason=f"{csv} has no row for it")
        left = self.packed.rename(columns={"name": "Id"})[["Id", "path"]].assign(
            reason=[
                f"{csv} has no row for it; its {size / 1e9:.1f} GB stay packed"
                for size in self.packed["packed"]
            ]
        )
        return pd.concat([orphans, left], ignore_index=True)
