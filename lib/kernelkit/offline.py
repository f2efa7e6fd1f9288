"""Where Kaggle mounts the sources of a kernel below its input folder."""

import importlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from kernelkit.core.files import file_hash
from kernelkit.core.problem import Problem

DEPTH = 5  # folders below the inputs that are searched where a source is in no known place


def find_mounted(inputs: Path, slug: str, marker: Sequence[str]) -> Path:
    """Return the only folder below Kaggle's inputs that holds a competition's files.

    A source lies at `<slug>`, `<owner>/<slug>` or `<kind>/<owner>/<slug>`, depending on the image;
    these places are looked at first, then every folder down to five levels.

    Args:
        inputs: the folder below which sources are mounted.
        slug: the competition's name at Kaggle.
        marker: files that the folder holds, relative to it; each may be packed in a zip of its
            name.

    Raises:
        Problem: there is no such folder, or several that can't be told apart.
    """
    known = [slug, f"*/{slug}", f"*/*/{slug}"]
    anywhere = ["/".join("*" * depth) + "/" for depth in range(1, DEPTH + 1)]
    sought = f"competition data (a folder that holds {' and '.join(marker)}) below {inputs}"
    for pattern in known + anywhere:
        places = sorted(inputs.glob(pattern))
        found = [place for place in places if all(lies_in(place, file) for file in marker)]
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(map(str, found))
            raise Problem(f"Found more than one {sought}: {several}. Detach all but one.")
    raise Problem(
        f"Found no {sought}: attach the competition {slug} to the kernel (competition_sources)."
    )


def find_in_outputs(inputs: Path, pattern: str) -> Iterator[Path]:
    """Yield the files that match `pattern` in outputs of earlier sessions, the upper ones first.

    Args:
        inputs: the folder below which outputs are mounted, each down to five levels.
        pattern: of `Path.glob`, relative to an output.
    """
    for depth in range(1, DEPTH + 1):
        yield from sorted(inputs.glob(f"{depth * '*/'}{pattern}"))


def lies_in(place: Path, file: str) -> bool:
    """Tell whether a folder holds a file, or a zip of its name, or one zip with the file in it."""
    if (place / file).exists() or (place / f"{file}.zip").exists():
        return True
    zips = [path for path in place.glob("*.zip") if zipfile.is_zipfile(path)]
    if len(zips) != 1:
        return False
    with zipfile.ZipFile(zips[0]) as bundle:
        return not {file, f"{file}.zip"}.isdisjoint(bundle.namelist())


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


def why_unusable() -> str | None:
    """Return why the albumentations that Python finds can't be used, or None if it can.

    Version 2 or later is needed.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # don't ask PyPI for a newer version
    try:
        albumentations = importlib.import_module("albumentations")
    except Exception as error:  # a broken installation can raise any type
        text = str(error).partition("\n")[0]
        return f"albumentations can't be imported ({type(error).__name__}: {text})"
    version = albumentations.__version__
    return f"albumentations {version} is too old" if int(version.split(".")[0]) < 2 else None


def ensure_albumentations(lib: Path) -> None:
    """Make sure that `import albumentations` gives version 2 or later.

    Where it would not, the wheels in `lib`/wheels are installed into a temporary folder that comes
    first in `sys.path`.

    Raises:
        SystemExit: there are no wheels, or they don't help; its text is one sentence.
    """
    if not (reason := why_unusable()):
        return
    lock = lib / "wheels" / "requirements.txt"
    if not lock.is_file():
        raise SystemExit(
            f"kernel.py: {reason}, and {lib} has no wheels: here, `pip install -e .` in the "
            "project's folder mends it; for Kaggle, run `ship wheels` and `ship bundle`, and "
            "attach the new version of that dataset."
        )
    target = tempfile.mkdtemp(prefix="wheels-")
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--quiet", "--no-index"]
    command += ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command += ["--target", target, "--find-links", str(lock.parent), "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for name in list(sys.modules):  # forget the failed or outdated import
        if name.partition(".")[0] in ("albumentations", "albucore"):
            del sys.modules[name]
    sys.path.insert(0, target)
    importlib.invalidate_caches()
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    failure = (errors or [done.stderr])[0] if done.returncode else why_unusable()
    if failure:
        raise SystemExit(
            f"kernel.py: {reason}, and the wheels in {lock.parent} don't help: {failure}"
        )
    print(f"{reason}: using the wheels in {lock.parent} instead.", file=sys.stderr, flush=True)
