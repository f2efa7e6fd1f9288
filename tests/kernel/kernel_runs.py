"""Runs of the tiny kernel, in this process or in one of its own."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pandas as pd
import pytest

from shared_folders import made_once
from tiny_kernel import TINY, kernel, without_pictures

SCRIPT = Path(__file__).with_name("tiny_kernel.py")
SHORT = ["--stages", "head:0:3e-2:1:views=1,all:1:1e-2:2", "--tta", "2"]
MEMBERS = ["--members", "a:TinyNet,b:TinyNet:image_size=32x40", "--folds", "2"]
BLEND = [*SHORT, *MEMBERS, "--tta", "3"]
EPOCHS = [("head", 1), ("all", 1), ("all", 2)]


def run(data, output, *arguments, pictures: bool = False) -> int:
    """Run the tiny kernel in this process, without its pictures unless asked for."""
    words = [*TINY, "--data", str(data), "--output", str(output), *map(str, arguments)]
    with nullcontext() if pictures else without_pictures():
        return kernel.main(words)


def check_submission(data, output) -> pd.DataFrame:
    """Assert what Kaggle asks of a submission; return it."""
    sample = pd.read_csv(data / "sample-submission.csv")
    made = pd.read_csv(output / "submission.csv")
    assert list(made.columns) == list(sample.columns)
    assert list(made.Id) == list(sample.Id)
    assert set(made.Category) <= {0, 1, 2, 10}
    return made


def whole_run(competition, tmp_path_factory) -> Path:
    """Return the output of a run of all stages, which is made once for all modules. Read-only."""
    make = lambda folder: _succeed(competition, folder, pictures=True)  # noqa: E731
    return made_once(tmp_path_factory, "whole-run", make)


def blended_run(competition, tmp_path_factory) -> Path:
    """Return the same of a short run of two members on two folds, with three views."""
    make = lambda folder: _succeed(competition, folder, *BLEND)  # noqa: E731
    return made_once(tmp_path_factory, "blended-run", make)


def _succeed(*arguments, **options) -> None:
    assert run(*arguments, **options) == 0


def start(data: Path, output: Path, *arguments: str, script: Path = SCRIPT) -> subprocess.Popen:
    """Start the kernel as a process of its own."""
    root = Path(kernel.__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "lib")])}
    command = [sys.executable, str(script), "--data", str(data), "--output", str(output)]
    command += arguments
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_in(
    process: subprocess.Popen,
    stage: str,
    number: signal.Signals,
    delay: float,
    occurrence: int = 1,
) -> str:
    """Send a signal `delay` seconds after a stage's first line; return what was said on stderr.

    Of several networks that have the stage, the signal waits for that of the number `occurrence`.
    """
    for line in process.stdout:
        occurrence -= f"stage {stage} begins" in line
        if not occurrence:
            time.sleep(delay)
            process.send_signal(number)
            break
    _, said = process.communicate(timeout=60)
    return said


def run_short(data, output, *arguments) -> int:
    return run(data, output, *SHORT, *arguments, pictures=True)


@contextmanager
def full_disk(moment: int):
    """Let the disk be full at the writing moment of this number, from 1, of the files that count.

    Yields:
        A list that will hold the paths that were written, the one that failed last.
    """
    written, put = [], os.replace

    def replacing(source, target, *more, **options):
        if Path(source).name.startswith(".partial-"):
            written.append(str(target))
            if len(written) == moment:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return put(source, target, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replacing)
        yield written


def check_full_disk(data: Path, output: Path, moment: int, say) -> str:
    """Run with a disk that fills at a moment, then again; return what failed, "" if nothing did.

    `say` returns what was printed since it was called last, (out, err).
    """
    with full_disk(moment) as written:
        status = run_short(data, output)
    out, err = say()
    if len(written) < moment:
        return ""
    failed = written[moment - 1]
    name = Path(failed).name
    if status:
        assert status == 1
        assert f"the disk of {failed} is full (while " in err
        assert "Traceback" not in err
    else:  # what decorates the results, or saves time later, ends nothing
        assert " could not be " in out or name.startswith("features-")  # for a later session
    state = output / "state" / "state.json"
    before = json.loads(state.read_text())["history"] if state.is_file() else []
    if status:
        assert run_short(data, output) == 0
        say()
    history = pd.read_csv(output / "history.csv")
    assert list(zip(history.stage, history.epoch, strict=True)) == EPOCHS
    kept = [row["seconds"] for row in before]
    assert list(history.seconds[: len(kept)]) == pytest.approx(kept)  # not trained again
    assert len(pd.read_csv(output / "submission.csv")) == 12
    return (
        f"{name}: {'goes on when called again' if status else 'goes on'}, {len(kept)} epochs kept"
    )
