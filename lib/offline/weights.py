"""ImageNet weights from a mounted dataset, or from the internet where there is one."""

import hashlib
import json
from pathlib import Path

from common import Problem


def find_weights(backbone: str, wanted: str, lib: Path, inputs: Path) -> Path | None:
    """Return the file of a backbone's weights, or None where none were asked for.

    ImageNet weights come from the lib dataset, from any other mounted dataset, or from Keras' own
    cache or download, and must have the size and hash that the manifest gives.

    Args:
        backbone: a name in the manifest.
        wanted: "imagenet", "none" or the path of a file.
        lib: our packages' folder, which holds weights/manifest.json.
        inputs: the folder below which datasets are mounted.

    Raises:
        Problem: a file is missing or damaged; the sentence says what to attach.
    """
    if wanted == "none":
        return None
    if wanted not in ("imagenet", "drawn"):
        if not Path(wanted).is_file():
            raise Problem(f"--weights {wanted}: no such file; imagenet and none also work.")
        return Path(wanted)
    manifest = json.loads((lib / "weights" / "manifest.json").read_text())
    if backbone not in manifest:
        raise Problem(f"{backbone} has no ImageNet weights: ask for --weights none.")
    entry = manifest[backbone]
    places = [lib / "weights" / entry["file"], *inputs.glob(f"**/{entry['file']}")]
    for path in filter(Path.is_file, places):
        if fault := weights_fault(path, entry):
            raise Problem(f"{path} is damaged: its {fault} is not the manifest's. Upload it again.")
        return path
    return download_weights(backbone, entry)


def weights_fault(path: Path, entry: dict) -> str | None:
    """Return what of a weight file differs from its manifest entry, or None."""
    if path.stat().st_size != entry["size"]:
        return "size"
    for algorithm in ("sha256", "md5"):
        with path.open("rb") as file:
            if entry[algorithm] not in (None, hashlib.file_digest(file, algorithm).hexdigest()):
                return algorithm
    return None


def download_weights(backbone: str, entry: dict) -> Path:
    """Return Keras' cached or downloaded weight file."""
    import keras  # only where nothing is mounted

    try:
        hash_ = entry["sha256"] or entry["md5"]
        return Path(
            keras.utils.get_file(origin=entry["url"], file_hash=hash_, cache_subdir="models")
        )
    except Exception as error:  # get_file raises bare Exceptions
        raise Problem(
            f"The ImageNet weights of {backbone} are missing and cannot be downloaded: attach a "
            f"dataset that holds {entry['file']} (`ship weights {backbone}` fetches it, "
            "`ship bundle` uploads it), or ask for --weights none or --weights FILE."
        ) from error
