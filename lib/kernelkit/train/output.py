"""The output folder of a run: which one it is, its lock, and the unfinished run in it."""

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernelkit.core.boundary import DISK_FULL, Boundary
from kernelkit.core.contract import METRICS_FILE, RUN_FILES, RUN_FOLDERS, read_json
from kernelkit.core.files import as_json, numbered, scratch_folder
from kernelkit.core.locks import only_one
from kernelkit.core.problem import Problem
from kernelkit.offline import find_in_outputs
from kernelkit.train.devices import worker_folder
from kernelkit.train.state import State, readable

STATE = "state/state.json"
# What an unfinished and a finished run leave behind, with keys that no other program's file has.
MARKERS = {STATE: {"fingerprint", "micro_batches"}}
MARKERS |= {METRICS_FILE: {"recipe", "val_accuracy_submitted"}}
WRITTEN = (*RUN_FILES, STATE)  # a folder that has one of them but no marker is somebody else's


def has_marker(folder: Path, name: str) -> bool:
    """Return whether a folder holds one of MARKERS, and not another program's file of that name."""
    try:
        return MARKERS[name] <= read_json(folder / name).keys()
    except Problem:  # damaged: `open_state` says so, and nothing overwrites it
        return name == STATE


def choose_output(output: Path, fresh: bool) -> Path:
    """Return the folder that a run writes to: `output`, or the first free one of output-2, ...

    A folder with an unfinished run is taken up. One with a finished run stays as it is, unless
    `fresh` asks for it, and one in which somebody else's file would be overwritten in any case.
    """
    finished, foreign = None, None
    for folder in numbered(output.absolute()):
        if has_marker(folder, STATE):
            break
        if has_marker(folder, METRICS_FILE):
            finished = finished or folder
        elif names := [
            *(name for name in WRITTEN if (folder / name).exists()),
            *(n for n in RUN_FOLDERS if (folder / n).is_dir() and any((folder / n).iterdir())),
        ]:
            foreign = foreign or folder / names[0]
        else:
            break
    if fresh and finished and not has_marker(folder, STATE):
        return finished
    if folder != output.absolute():
        reason = f"{foreign} is not of a run" if foreign else f"{finished} holds a finished run"
        cure = "" if foreign else "; --fresh would write over it"
        print(f"{reason}: this one goes to {folder}{cure}", flush=True)
    return folder


def _check_writable(output: Path) -> None:
    """Raise Problem where no folder for the results can be made; what is tried is removed."""
    output = output.absolute()
    above = next(folder for folder in (output, *output.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".try-", dir=above):
            pass
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        cure = "check the path and its permissions, or give another --output"
        raise Problem(f"{output} can't be used ({error.strerror}): {cure}.") from None


@contextmanager
def workplace(options, usual: Path | None) -> Iterator[tuple[Path, Path]]:
    """Give a run the folder for its results, which is locked, and one for temporary files.

    The second is the same one each time that a run goes on, and is removed when the run ends well.
    A mere plan gets a temporary folder and changes nothing else. `options` are the command line's:
    data, output, fresh and plan. `usual` is the folder for results where they have none; None is
    ./output, or one beside it where that is not free (see `choose_output`). Raises Problem if there
    is no such competition, or the folder can't be written to, or is another process's.
    """
    if options.data and not options.data.exists():
        raise Problem(f"--data {options.data}: there is no such folder or zip.")
    output = options.output or usual or Path("output")
    output = output if usual else choose_output(output, options.fresh)
    _check_writable(output)
    if options.plan:
        with tempfile.TemporaryDirectory(prefix="plan-") as scratch:
            yield output, Path(scratch)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    output = worker_folder(output)  # of several machines one writes to `output`
    if boundary := Boundary.running:
        boundary.traceback_file = output / "traceback.txt"
        going_on = "The same command goes on from the last finished epoch"
        boundary.safe = f"{going_on} ({output / 'state'})."
    occupied = f"{output} is in use by {{holder}}: wait for its end, or give another --output."
    with only_one(output / ".lock", occupied, remove=True):
        scratch = scratch_folder("car-classification", output, options.fresh)
        yield output, scratch
        shutil.rmtree(scratch, ignore_errors=True)


def open_state(
    folder: Path,
    settings: dict,
    fingerprint: str,
    fresh: bool,
    inputs: Path | None = None,
    read_only: bool = False,
) -> State:
    """Return the unfinished run in `folder` if it has these settings and data, or a new one.

    `settings`, JSON values, and `fingerprint`, a hash of the data, must be equal for a run to go
    on; `fresh` throws an unfinished one away. Where `folder` has no run, the unfinished one of an
    earlier session goes on, whose output is mounted below `inputs`. With `read_only` no file
    changes. Raises Problem if an unfinished run with other settings or data lies there, its file is
    damaged, or there is no such metric.
    """
    state = State(folder, as_json(settings), fingerprint)
    _ = state.metric  # raises
    if read_only:
        return state if fresh else _unfinished(state) or state
    if inputs and not fresh and not (folder / "state.json").is_file():
        _copy_earlier_run(state, inputs)
    found = None if fresh else _unfinished(state)
    if found is None:
        if has_marker(folder.parent, METRICS_FILE):  # of a finished run that `fresh` writes over
            (folder.parent / METRICS_FILE).unlink()
        if has_marker(folder.parent, STATE):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state.save()  # from here on the folder is known to be a run's
        return state
    found.resumed, found.stopped_by_time_limit, found.ended = True, False, False
    found.jobs = [job for job in found.jobs if not job.get("cut")]
    found.recover_files()
    if found.epoch == 0:  # nothing of the last stage has run: its epochs are counted anew
        found.last_epochs = 0
    found.earlier_seconds = sum(row["seconds"] for row in found.history)
    return found


def _unfinished(wanted: State) -> State | None:
    """Return the unfinished run in the folder of `wanted`; None without one, or before an epoch.

    Raises Problem if it has other settings or data, or its file is damaged.
    """
    folder, settings = wanted.folder, wanted.settings
    if not (folder / "state.json").is_file():
        return None
    state = _read_state(folder)
    changed = [key for key in settings if settings[key] != state.settings.get(key)]
    if state.fingerprint != wanted.fingerprint:
        changed.append("the photos")
    if changed and not state.history:
        return None
    if changed:
        raise Problem(
            f"{folder.parent} holds an unfinished run with other settings ({', '.join(changed)}): "
            "give the same settings to go on, another --output, or --fresh to throw it away."
        )
    return state


def _read_state(folder: Path) -> State:
    with readable(folder / "state.json") as file:
        return State(**json.loads(file.read_text(encoding="utf-8")) | {"folder": folder})


def _copy_earlier_run(wanted: State, inputs: Path) -> None:
    """Copy the mounted run that is furthest, of those with these settings and data."""
    found = []
    for file in find_in_outputs(inputs, STATE):
        try:
            earlier = _read_state(file.parent)
        except Problem:
            print(f"{file} is damaged: its run does not go on.")
            continue
        if (earlier.settings, earlier.fingerprint) == (wanted.settings, wanted.fingerprint):
            found.append(earlier)
        else:
            print(f"{file} is of a run with other settings or photos: it does not go on.")
    if not found:
        return
    earlier, folder = max(found, key=lambda state: len(state.history)), wanted.folder
    beside = folder.with_name(f"partial-{folder.name}")
    for each in (beside, folder):
        shutil.rmtree(each, ignore_errors=True)
    beside.mkdir(parents=True)
    for file in earlier.folder.iterdir():
        shutil.copyfile(file, beside / file.name)  # not its rights: inputs are read-only
    beside.rename(folder)
    epochs = f"{len(earlier.history)} epoch{'s' * (len(earlier.history) != 1)}"
    print(f"going on after {epochs} of an earlier session: {earlier.folder}")
