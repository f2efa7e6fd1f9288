"""Copies of a project: for a rehearsal, and the frozen one in runs/sweeps/KEY that a sweep uses."""

import json
import shutil
import time
from pathlib import Path

from kernelkit.core.files import write_atomically
from kernelkit.core.packages import code_files
from ship.kaggle.response_schemas import loads
from ship.project.contents import all_files, copy_files, sha256
from ship.project.project import DATASET_METADATA, KERNEL_METADATA, Project

NOTE = "sweep.json"  # beside the copied files: when a sweep began, and their commit


def sources(project: Project) -> dict[str, Path]:
    """Return what a person edits and a run is made of, by its path in a copy."""
    files = {project.code.relative_to(project.root).as_posix(): project.code}
    files |= {name: project.root / name for name in (KERNEL_METADATA, DATASET_METADATA)}
    return files | {f"lib/{name}": file for name, file in code_files(project.lib).items()}


def copy_project(project: Project, target: Path) -> Project:
    """Copy a project; its weights and wheels, which nobody edits, are linked.

    The runs of the copy are those of the project.
    """
    own = sources(project)
    for name, file in own.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target / name)
    files = {f"lib/{name}": file for name, file in all_files(project.lib).items()}
    copy_files({name: file for name, file in files.items() if name not in own}, target)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return Project(target, home=project.root, begun=now, copied_commit=project.commit())


def freeze(project: Project, key: str) -> Project:
    """Copy a project for a sweep that has not begun; with `keep` the copy becomes the sweep's."""
    folder = project.runs / "sweeps" / key
    shutil.rmtree(folder, ignore_errors=True)
    return copy_project(project, folder)


def keep(copy: Project) -> None:
    """Note that a sweep has begun to work on a copy."""
    note = {"begun": copy.begun, "commit": copy.copied_commit}
    write_atomically(copy.root / NOTE, json.dumps(note, indent=1) + "\n")


def frozen_copy(project: Project, key: str) -> Project | None:
    """Return the copy that a sweep works on, None when it has not begun."""
    folder = project.runs / "sweeps" / key
    try:
        note = loads((folder / NOTE).read_text(encoding="utf-8"))
        begun, commit = str(note["begun"]), str(note["commit"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Project(folder, home=project.root, begun=begun, copied_commit=commit)


def changed_files(copy: Project, project: Project) -> list[str]:
    """Return which files of a project have changed since it was copied."""
    before, now = (
        {name: sha256(file) for name, file in sources(one).items() if file.is_file()}
        for one in (copy, project)
    )
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
