"""Where Kaggle mounts the sources of a kernel below its input folder."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

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
