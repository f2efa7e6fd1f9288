"""Do without internet: find data, weights and wheels that are mounted below Kaggle's inputs."""

import importlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kernelkit.core.files import file_hash
from kernelkit.core.problem import Problem

DEPTH = 5  # folders below the inputs that are searched where a source is in no known place
# Where a dataset's own folder lies below Kaggle's inputs; it depends on the machine's image.
DATASETS = ("*", "*/*", "datasets/*/*")
USUAL_PLACES = [f"{dataset}/{sub}" for dataset in DATASETS for sub in ("", "weights/")]
DEEPEST = 6  # levels below the inputs that are searched for weights
MOST_FOLDERS = 2000  # that are searched for them
MOST_ENTRIES = 1000  # a folder with more holds photos: what lies below it is not searched
PRESET_FILES = ("config.json", "model.weights.h5")  # of keras_hub


# --- what is mounted ---


def find_mounted(inputs: Path, slug: str, marker: Sequence[str]) -> Path:
    """Return the only folder below Kaggle's inputs that holds a competition's files.

    A source lies at `<slug>`, `<owner>/<slug>` or `<kind>/<owner>/<slug>`, depending on the image,
    or else is sought five levels deep. `marker` names files that the folder holds, perhaps packed
    in zips. Raises Problem if there is no such folder, or several that can't be told apart.
    """
    known = [slug, f"*/{slug}", f"*/*/{slug}"]
    anywhere = ["/".join("*" * depth) + "/" for depth in range(1, DEPTH + 1)]
    sought = f"competition data (a folder that holds {' and '.join(marker)}) below {inputs}"
    for pattern in known + anywhere:
        places = sorted(inputs.glob(pattern))
        found = [place for place in places if all(_lies_in(place, file) for file in marker)]
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(map(str, found))
            raise Problem(f"Found more than one {sought}: {several}. Detach all but one.")
    raise Problem(f"Found no {sought}: attach the competition {slug} (competition_sources).")


def _lies_in(place: Path, file: str) -> bool:
    """Tell whether a folder holds a file, or a zip of its name, or one zip with the file in it."""
    if (place / file).exists() or (place / f"{file}.zip").exists():
        return True
    zips = [path for path in place.glob("*.zip") if zipfile.is_zipfile(path)]
    if len(zips) != 1:
        return False
    with zipfile.ZipFile(zips[0]) as bundle:
        return not {file, f"{file}.zip"}.isdisjoint(bundle.namelist())


def find_in_outputs(inputs: Path, pattern: str) -> Iterator[Path]:
    """Yield the files of a glob pattern in mounted outputs of earlier sessions, upper ones first.

    Each output lies down to five levels below `inputs`; the pattern is relative to it.
    """
    for depth in range(1, DEPTH + 1):
        yield from sorted(inputs.glob(f"{depth * '*/'}{pattern}"))


# --- weights ---


def find_weights(
    backbone: str, wanted: str, lib: Path, inputs: Path, handle: str = ""
) -> Path | None:
    """Return the file of a backbone's weights, or None where none were asked for.

    ImageNet weights ("imagenet") come from the lib dataset, any other mounted one below `inputs`,
    or Keras' own cache or download, with the size and hash of the manifest. `wanted` may also be
    "drawn", for weights that come with the repository; "none"; or the path of a file of one's own,
    or of a folder with the file that the manifest names; its mere name finds it in lib/weights too.
    With `handle` it is a preset's folder: see `find_preset`. Raises Problem if there are no such
    weights, or the file is missing or damaged.
    """
    if handle:
        return find_preset(backbone, handle, wanted, lib, inputs)
    if wanted == "none":
        return None
    folder = lib / "weights"
    entry = json.loads((folder / "manifest.json").read_text(encoding="utf-8")).get(backbone)
    if wanted not in ("imagenet", "drawn"):
        return _own_file(backbone, Path(wanted), entry, folder)
    kind = "imagenet" if entry and entry["url"] else "drawn"  # those come with the repository
    if not entry or kind != wanted:
        name = {"imagenet": "ImageNet", "drawn": "drawn"}[wanted]
        others = f"{kind} or --weights none" if entry else "none"
        raise Problem(f"{backbone} has no {name} weights: ask for --weights {others}.")
    found = folder / entry["file"]
    if wanted == "imagenet":
        found = _find_file(entry["file"], folder, inputs)
    elif not found.is_file():
        raise Problem(
            f"The drawn weights of {backbone} are missing: take {found.name} from the repository "
            f"into {folder} and run `ship bundle`, or ask for --weights none."
        )
    if found is None:
        return _download_weights(backbone, entry)
    hashes = {"sha256": entry["sha256"], "md5": entry["md5"]}
    if reason := mismatch(found, entry["size"], hashes):
        raise Problem(f"{found} is damaged: it {reason}. Upload it again.")
    return found


def find_preset(backbone: str, handle: str, wanted: str, lib: Path, inputs: Path) -> Path:
    """Return the folder of a preset, which holds PRESET_FILES.

    `handle` is owner/model/framework/variation/version among Kaggle's models. `wanted` "imagenet"
    looks where `ship weights` puts the preset, at the mounts of Kaggle's models, and for a folder
    of the variation's name anywhere below the inputs; a path is the folder itself, or one that
    holds it under the variation's name. Raises Problem if it is not there, or has no such weights.
    """
    owner, model, framework, variation, version = handle.split("/")
    if wanted in ("none", "drawn"):
        raise Problem(
            f"{backbone} is a preset, whose network only its own files describe: it has no "
            f"--weights {wanted}; leave that out, or give the preset's folder."
        )
    if wanted == "imagenet":
        place = Path(framework, variation, version)
        places = [lib / "weights" / variation, inputs / "models" / owner / model / place]
        places.append(inputs / model / place)
        named = (f for f in _folders_below(inputs) if variation in (f.name, f.parent.name))
        missing = (
            f"The preset of {backbone} is missing: locally, run `ship weights {backbone}` or give "
            f"--weights DIR; on Kaggle, attach the model {handle} (`ship push` does)."
        )
    else:
        places, named = [Path(wanted), Path(wanted, variation)], iter(())
        missing = (
            f"--weights {wanted}: neither this folder nor {variation} in it holds the preset of "
            f"{backbone}, that is {' and '.join(PRESET_FILES)}."
        )
    for folder in itertools.chain(places, named):
        if all((folder / name).is_file() for name in PRESET_FILES):
            return folder
    raise Problem(missing)


def mismatch(
    path: Path,
    size: int | None,
    hashes: dict[str, str | None],
    hash_of: Callable[[Path, str], str] = file_hash,
) -> str:
    """Return how a file differs from the published size and hashes, "" where it does not.

    None is not compared. `hashes` are hexadecimal, by hashlib's names of their algorithms.
    """
    if not path.is_file():
        return "is not there"
    found = path.stat().st_size
    if size is not None and found != size:
        return f"has {found:,} bytes instead of {size:,}"
    for algorithm, published in hashes.items():
        if published and (digest := hash_of(path, algorithm)) != published.lower():
            return f"has the {algorithm.upper()} {digest} instead of the published {published}"
    return ""


def _own_file(backbone: str, path: Path, entry: dict | None, folder: Path) -> Path:
    """Return the file `path`, here or in lib/weights, or in a folder the one of the row."""
    if path.is_dir():
        if not entry:
            raise Problem(
                f"{folder / 'manifest.json'} doesn't say which file in {path} is of {backbone}: "
                "give --weights the file itself."
            )
        path = path / entry["file"]
    if not path.is_file() and path.name == str(path) and (folder / path).is_file():
        return folder / path  # whose files `ship` uploads
    if not path.is_file():
        raise Problem(f"--weights {path}: no such file; imagenet, drawn and none also work.")
    return path


def _find_file(name: str, own: Path, inputs: Path) -> Path | None:
    """Return the first file called `name`: in the folder `own`, else below `inputs`."""
    # The folders in which datasets usually hold weights are looked at first, then the others.
    usual = (path for place in USUAL_PLACES for path in sorted(inputs.glob(place + name)))
    searched = (folder / name for folder in _folders_below(inputs))
    places = itertools.chain([own / name], usual, searched)
    return next((path for path in places if path.is_file()), None)


def _folders_below(inputs: Path) -> Iterator[Path]:
    """Yield the folders below `inputs`, the upper ones first, but no more than a bounded number."""
    # A competition's photos may lie there, 100,000 files on a slow disk: folders of very many files
    # are not entered, nor is `competitions`, in which Kaggle mounts competitions alone.
    waiting = deque([(inputs, 0)])
    for _ in range(MOST_FOLDERS):
        if not waiting:
            return
        folder, depth = waiting.popleft()
        yield folder
        if depth == DEEPEST:
            continue
        try:
            with os.scandir(folder) as entries:
                first = list(itertools.islice(entries, MOST_ENTRIES + 1))
        except OSError:  # for example one that may not be read
            continue
        if len(first) <= MOST_ENTRIES:
            below = sorted(Path(entry.path) for entry in first if entry.is_dir())
            waiting.extend((path, depth + 1) for path in below if path != inputs / "competitions")


def _download_weights(backbone: str, entry: dict) -> Path:
    """Return the weights from Keras' cache or, on a machine with internet, from its download."""
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


# --- wheels ---


def ensure_albumentations(lib: Path) -> None:
    """Make sure that `import albumentations` gives version 2 or later.

    Where it would not, the wheels in `lib`/wheels are installed into a temporary folder that comes
    first in `sys.path`. Raises SystemExit if there are no wheels, or they don't help; its text is
    one sentence.
    """
    if not (reason := _why_unusable()):
        return
    lock = lib / "wheels" / "requirements.txt"
    if not lock.is_file():
        raise SystemExit(
            f"kernel.py: {reason}, and {lib} has no wheels: here, install the project with `pip "
            "install -e .` in its folder; for Kaggle, run `ship wheels` and `ship bundle`, and "
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
    failure = (errors or [done.stderr])[0] if done.returncode else _why_unusable()
    if failure:
        raise SystemExit(
            f"kernel.py: {reason}, and the wheels in {lock.parent} don't help: {failure}"
        )
    print(f"{reason}: using the wheels in {lock.parent} instead.", file=sys.stderr, flush=True)


def _why_unusable() -> str:
    """Return why the albumentations that Python finds can't be used, "" if it can."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # don't ask PyPI for a newer version
    try:
        albumentations = importlib.import_module("albumentations")
    except Exception as error:  # a broken installation can raise any type
        text = str(error).partition("\n")[0]
        return f"albumentations can't be imported ({type(error).__name__}: {text})"
    version = albumentations.__version__
    return f"albumentations {version} is too old" if int(version.split(".")[0]) < 2 else ""
