"""The copy of the project that a sweep works on, so that later edits change nothing in it.

It lies in `runs/sweeps/KEY`, where KEY is a hash of what the sweep was asked to do, and is made
when the sweep begins. Code is copied; weights and wheels, which nobody edits, are linked.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from kernelkit.core.files import write_atomically
from ship.kaggle.response_schemas import loads
from ship.project.contents import all_files, code_files, copy_files, sha256
from ship.project.project import DATASET_METADATA, KERNEL_METADATA, Project

NOTE = "sweep.json"
"""Says beside the copied files when they were copied, and of which commit they are."""


def key_of(asked: Any) -> str:
    """Return the key of a sweep by the JSON value of what it was asked to do."""
    return sha256(json.dumps(asked, sort_keys=True).encode())[:12]


def frozen_copy(project: Project, key: str) -> Project | None:
    """Return the copy that a sweep works on, None when it has not begun."""
    folder = project.runs / "sweeps" / key
    try:
        note = loads((folder / NOTE).read_text(encoding="utf-8"))
        begun, commit = str(note["begun"]), str(note["commit"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Project(folder, home=project.root, begun=begun, copied_commit=commit)


def freeze(project: Project, key: str) -> Project:
    """Copy the project for a sweep that has not begun; `keep` makes it the sweep's copy."""
    part = project.runs / "sweeps" / f"{key}.part"
    shutil.rmtree(part, ignore_errors=True)
    for name, file in own_files(project).items():
        place = part / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, place)
    code = code_files(project.lib)
    data = {name: file for name, file in all_files(project.lib).items() if name not in code}
    copy_files(data, part / "lib")
    note = {"begun": time.strftime("%Y-%m-%d %H:%M:%S"), "commit": project.commit()}
    write_atomically(part / NOTE, json.dumps(note, indent=1) + "\n")
    return frozen_copy(project, part.name)


def keep(copy: Project, key: str) -> Project:
    """Make a copy that `freeze` has made the one that the sweep works on from now on."""
    folder = copy.root.with_name(key)
    shutil.rmtree(folder, ignore_errors=True)
    copy.root.rename(folder)
    return frozen_copy(Project(copy.home), key)


def own_files(project: Project) -> dict[str, Path]:
    """Return what a person edits and a run is made of, by its path in a frozen copy."""
    files = {project.code.name: project.code}
    files |= {name: project.root / name for name in (KERNEL_METADATA, DATASET_METADATA)}
    return files | {f"lib/{name}": file for name, file in code_files(project.lib).items()}


def differences(copy: Project, project: Project) -> list[str]:
    """Return which files of the project have changed since a copy was made of it."""
    before, now = (
        {name: sha256(file) for name, file in own_files(one).items() if file.is_file()}
        for one in (copy, project)
    )
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
