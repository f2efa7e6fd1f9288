"""Find the photo of every row."""

import os

import numpy as np
import pandas as pd

from kernelkit.core.problem import first_names
from kernelkit.data.names import FILE_KEYS, Spellings, printable

NEAR = 3  # near misses that a reason names


def folders_of(names: pd.Series) -> set[str]:
    """Return the names of all folders that photos lie in, at any depth."""
    parents = {name.rpartition("/")[0] for name in names}
    return {folder for parent in parents for folder in parent.split("/")} - {""}


def real_paths(paths: pd.Series) -> pd.Series:
    """Return paths without links to folders, so that those of one photo are equal."""
    folders = {os.path.dirname(path) for path in paths}
    real = {folder: os.path.realpath(folder) if folder else "" for folder in folders}
    return paths.map(
        lambda path: os.path.join(real[os.path.dirname(path)], os.path.basename(path))
    ).astype(object)


def with_labels(photos: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """Return photos with a column folder: the label of the innermost class folder, or ""."""
    parents = [name.rpartition("/")[0] for name in photos["name"]]
    inner = {parent: reversed(parent.split("/")) for parent in set(parents)}
    of_parent = {
        parent: next((labels[f] for f in inner[parent] if f in labels), "") for parent in inner
    }
    return photos.assign(folder=[of_parent[parent] for parent in parents])


class PhotoIndex:
    """Finds photos (name, path, folder) by Id: a file's name with or without folders and suffix."""

    def __init__(self, photos: pd.DataFrame):
        self.paths, self.folders = photos["path"].tolist(), photos["folder"].tolist()
        self.names = photos["name"].tolist()
        self.spellings = Spellings(self.names, FILE_KEYS)

    def match(self, ids: pd.Series, labels: pd.Series | None = None) -> pd.DataFrame:
        """Return of each Id its photo's path and folder, "" where no one photo is meant, and near.

        Of several photos with the same Id, the one whose folders the Id names is taken, and then
        the one in the class folder of the row's label. Where two Ids are near the same photo, it
        belongs to the one that is spelt as the photo is. `near` names photos that may be meant, as
        a clause of a reason.
        """
        labels = pd.Series("", ids.index) if labels is None else labels
        found = [self._find(Id, label) for Id, label in zip(ids, labels, strict=True)]
        table = pd.DataFrame(found, columns=["position", "level", "near"], index=ids.index)
        claimed = table.assign(Id=ids.str.strip())[table["position"] >= 0]
        firsts = claimed.groupby("position")["level"].transform("min")
        several = claimed[claimed["level"] == firsts].groupby("position")["Id"].nunique() > 1
        lost = claimed[(claimed["level"] > firsts) | claimed["position"].map(several)]
        for row, position in lost["position"].items():
            table.at[row, "near"] = (
                f"; {printable(self.names[position])} is nearly its name, and that of another row"
            )
            table.at[row, "position"] = -1
        return table.assign(
            path=[self.paths[p] if p >= 0 else "" for p in table["position"]],
            folder=[self.folders[p] if p >= 0 else "" for p in table["position"]],
        )

    def _find(self, Id: str, label: str) -> tuple[int, int, str]:
        """Return the position of the photo or -1, the level of its spelling, and near misses."""
        found, level = self.spellings.closest(Id)
        meant = [p for p in found if label and self.folders[p] == label] or found
        if len(meant) == 1:
            return meant[0], level, ""
        if not meant:
            return -1, -1, ""
        names = first_names((printable(self.names[p]) for p in meant), NEAR)
        return -1, -1, f"; it may be any of {names}"

    def without_row(self, used: pd.Series, csv: str) -> pd.DataFrame:
        """Return the photos whose path is not in `used` as rows to exclude."""
        orphans = pd.DataFrame({"Id": self.names, "path": self.paths}, dtype=object)
        orphans = orphans[~orphans["path"].isin(set(used))]
        names = [name.rpartition("/")[2] for name in orphans["Id"]]
        return orphans.assign(Id=names, reason=f"{csv} has no row for it")


def is_predicted(ids: pd.Series, photos: pd.DataFrame, tests: pd.DataFrame) -> pd.Series:
    """Tell of each Id of the training table whether it means only photos to be predicted.

    `photos` are those in the places of the training photos, `tests` those to be predicted.
    """
    both = pd.concat([photos[["name", "path"]], tests[["name", "path"]]])
    both = both.assign(path=real_paths(both["path"])).drop_duplicates("path")
    folders, names = both["path"].str.rpartition("/")[0], both["name"].str.rpartition("/")[2]
    spellings = Spellings(folders + "/" + names, FILE_KEYS[1:])
    predicted = set(np.flatnonzero(both["path"].isin(real_paths(tests["path"]))))
    found = (spellings.closest(Id)[0] for Id in ids)
    return pd.Series([bool(each) and predicted.issuperset(each) for each in found], ids.index)
