"""Open the state of a run: a new one, the unfinished one, or that of an earlier session."""

import json
import shutil
from pathlib import Path

from common import Problem
from inference.portfolio import as_json
from inference.scores import metric_named
from offline.mounts import find_in_outputs
from training.state import State, damaged

MOUNTED = "state/state.json"  # in the output of an earlier session


def open_state(
    folder: Path, settings: dict, fingerprint: str, fresh: bool, inputs: Path | None = None
) -> State:
    """Return the unfinished run in `folder` if it has these settings and data, or a new one.

    Args:
        folder: holds the state alone; it is made, or emptied where `fresh` asks for it.
        settings: JSON values that must be equal for a run to go on.
        fingerprint: a hash of the data, which must be equal too.
        fresh: throw an unfinished run away.
        inputs: below which the output of an earlier session may be mounted; where `folder` has no
            run, its unfinished one goes on.

    Raises:
        Problem: an unfinished run with other settings or data lies there, its file is damaged, or
            there is no such metric.
    """
    file = folder / "state.json"
    settings = as_json(settings)
    metric_named(settings.get("metric", "accuracy"))
    if inputs and not fresh and not file.is_file():
        take_over(folder, settings, fingerprint, inputs)
    if fresh or not file.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return State(folder, settings, fingerprint)
    state = read_state(folder)
    changed = [key for key in settings if settings[key] != state.settings.get(key)]
    if state.fingerprint != fingerprint:
        changed.append("the photos")
    if changed:
        raise Problem(
            f"{folder.parent} holds an unfinished run with other settings ({', '.join(changed)}): "
            "give the same settings to go on, another --output, or --fresh to throw it away."
        )
    state.resumed, state.stopped_by_time_limit, state.ended = True, False, False
    state.jobs = [job for job in state.jobs if not job.get("cut")]
    state.mend()
    if state.epoch == 0:  # nothing of the last stage has run: what fits is to be found anew
        state.last_epochs = 0
    state.earlier_seconds = sum(row["seconds"] for row in state.history)
    return state


def read_state(folder: Path) -> State:
    """Return the state in a folder.

    Raises:
        Problem: its file is damaged.
    """
    file = folder / "state.json"
    try:
        return State(**json.loads(file.read_text(encoding="utf-8")) | {"folder": folder})
    except (OSError, ValueError, TypeError) as error:
        raise damaged(file) from error


def take_over(folder: Path, settings: dict, fingerprint: str, inputs: Path) -> None:
    """Copy the unfinished run of an earlier session, whose output is mounted below `inputs`.

    It must have the same settings and data; of several the one that is furthest. A line is printed
    of what is found.
    """
    found = []
    for file in find_in_outputs(inputs, MOUNTED):
        try:
            earlier = read_state(file.parent)
        except Problem:
            print(f"{file} is damaged: its run does not go on.")
            continue
        if (earlier.settings, earlier.fingerprint) == (settings, fingerprint):
            found.append(earlier)
        else:
            print(f"{file} is of a run with other settings or photos: it does not go on.")
    if not found:
        return
    earlier = max(found, key=lambda state: len(state.history))
    beside = folder.with_name(f"partial-{folder.name}")
    for each in (beside, folder):
        shutil.rmtree(each, ignore_errors=True)
    beside.mkdir(parents=True)
    for file in earlier.folder.iterdir():
        shutil.copyfile(file, beside / file.name)  # not its rights: inputs are read-only
    beside.rename(folder)
    print(f"going on after {len(earlier.history)} epochs of an earlier session: {earlier.folder}")
