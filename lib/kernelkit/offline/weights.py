"""Find a backbone's weights: in the lib dataset, in another mounted one, or on the internet."""

import itertools
import json
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from kernelkit.core.files import file_hash
from kernelkit.core.problem import Problem

# Where a dataset's own folder lies below Kaggle's inputs; it depends on the machine's image.
DATASETS = ("*", "*/*", "datasets/*/*")
USUAL_PLACES = [f"{dataset}/{sub}" for dataset in DATASETS for sub in ("", "weights/")]
DEEPEST = 6  # levels below the inputs that are searched
MOST_FOLDERS = 2000  # that are searched
MOST_ENTRIES = 1000  # a folder with more holds photos: what lies below it is not searched


def find_weights(backbone: str, wanted: str, lib: Path, inputs: Path) -> Path | None:
    """Return the file of a backbone's weights, or None where none were asked for.

    ImageNet weights come from the lib dataset, from any other mounted dataset, or from Keras' own
    cache or download. The file must have the size and the hash that the manifest gives.

    Args:
        backbone: a name in the manifest.
        wanted: "imagenet"; "drawn", for weights that were trained on drawn photos and come with
            the repository; "none"; or the path of a file, or of a folder that holds the file that
            the manifest names. A file of one's own isn't compared with the manifest.
        lib: the folder of our packages, which holds weights/manifest.json.
        inputs: the folder below which datasets are mounted.

    Raises:
        Problem: the backbone has no such weights, or the file is missing or damaged.
    """
    if wanted == "none":
        return None
    manifest = lib / "weights" / "manifest.json"
    if wanted not in ("imagenet", "drawn"):
        return own_file(backbone, Path(wanted), manifest)
    entry = manifest_entry(backbone, wanted, manifest)
    if wanted == "drawn":
        path = lib / "weights" / entry["file"]
        if not path.is_file():
            raise Problem(
                f"The drawn weights of {backbone} are missing: take {path.name} from the "
                f"repository into {path.parent} and run `ship bundle`, or ask for --weights none."
            )
        return verified(path, entry)
    found = find_file(entry["file"], lib / "weights", inputs)
    return verified(found, entry) if found else download_weights(backbone, entry)


def own_file(backbone: str, path: Path, manifest: Path) -> Path:
    """Return the file `path`, or the one of the backbone's row of the manifest in a folder.

    Raises:
        Problem: the file is missing, or the manifest has no such row.
    """
    if path.is_dir():
        entry = json.loads(manifest.read_text(encoding="utf-8")).get(backbone)
        if not entry:
            raise Problem(
                f"{manifest} doesn't say which file in {path} is of {backbone}: give --weights the "
                "file itself."
            )
        path = path / entry["file"]
    if not path.is_file():
        raise Problem(f"--weights {path}: no such file; imagenet, drawn and none also work.")
    return path


def manifest_entry(backbone: str, wanted: str, manifest: Path) -> dict:
    """Return a backbone's row of the manifest if its weights are of the kind that is wanted.

    Rows with a url are ImageNet weights; those without come with the repository.
    """
    entry = json.loads(manifest.read_text(encoding="utf-8")).get(backbone)
    kind = "imagenet" if entry and entry["url"] else "drawn"
    if entry and kind == wanted:
        return entry
    name = {"imagenet": "ImageNet", "drawn": "drawn"}[wanted]
    other = f"{kind} or --weights none" if entry else "none"
    raise Problem(f"{backbone} has no {name} weights: ask for --weights {other}.")


def find_file(name: str, own: Path, inputs: Path) -> Path | None:
    """Return the first file called `name`: in the folder `own`, else below `inputs`.

    The folders in which datasets usually hold weights are looked at first, then the others.
    """
    if (own / name).is_file():
        return own / name
    usual = (path for place in USUAL_PLACES for path in sorted(inputs.glob(place + name)))
    searched = (folder / name for folder in searched_folders(inputs))
    return next((path for path in itertools.chain(usual, searched) if path.is_file()), None)


def searched_folders(inputs: Path) -> Iterator[Path]:
    """Yield the folders below `inputs`, the upper ones first, but no more than a bounded number.

    A competition's photos may lie there, 100,000 files on a slow disk: folders of very many files
    are not entered, nor is `competitions`, in which Kaggle mounts competitions alone.
    """
    waiting = deque([(inputs, 0)])
    for _ in range(MOST_FOLDERS):
        if not waiting:
            return
        folder, depth = waiting.popleft()
        yield folder
        entries = list_entries(folder) if depth < DEEPEST else []
        if len(entries) <= MOST_ENTRIES:
            below = sorted(entry.path for entry in entries if entry.is_dir())
            waiting.extend(
                (Path(path), depth + 1) for path in below if Path(path) != inputs / "competitions"
            )


def list_entries(folder: Path) -> list[os.DirEntry]:
    """Return what a folder holds, at most one entry more than `MOST_ENTRIES`."""
    try:
        with os.scandir(folder) as entries:
            return list(itertools.islice(entries, MOST_ENTRIES + 1))
    except OSError:  # for example one that may not be read
        return []


def verified(path: Path, entry: dict) -> Path:
    """Return `path` if its file is the one that the manifest's row describes.

    Raises:
        Problem: its size or a hash differs.
    """
    if differing := mismatch(path, entry):
        raise Problem(f"{path} is damaged: its {differing} is not the manifest's. Upload it again.")
    return path


def mismatch(path: Path, entry: dict) -> str | None:
    """Return the name of what differs between a weight file and its manifest row, or None."""
    if path.stat().st_size != entry["size"]:
        return "size"
    for algorithm in ("sha256", "md5"):
        if entry[algorithm] and file_hash(path, algorithm) != entry[algorithm]:
            return algorithm
    return None


def download_weights(backbone: str, entry: dict) -> Path:
    """Return the weights from Keras' cache or, on a machine with internet, from its download.

    Raises:
        Problem: there is no internet, or the file is damaged; the sentence says what to attach.
    """
    import keras  # slow to import, and needed only where nothing is mounted

    try:
        hash_ = entry["sha256"] or entry["md5"]
        return Path(
            keras.utils.get_file(origin=entry["url"], file_hash=hash_, cache_subdir="models")
        )
    except Exception as error:  # get_file raises bare Exceptions
        raise Problem(
            f"The ImageNet weights of {backbone} are missing and cannot be downloaded: run `ship "
            f"weights {backbone}` where there is internet (and `ship bundle`, which takes "
            f"{entry['file']} to Kaggle), or ask for --weights none or --weights FILE."
        ) from error
