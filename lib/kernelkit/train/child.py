"""The process in which a preflight tries steps, seen from the one that started it.

An out-of-memory error leaves fragments behind, and XLA or cuDNN may abort or hang: then the process
is ended, and the next trial gets a new one.
"""

import multiprocessing
import os
import signal
from contextlib import suppress
from pathlib import Path

from kernelkit.data.tables import PhotoTables
from kernelkit.train.preflight_worker import TOO_LARGE, WORKED, Makers, Trial, serve

START_LIMIT = 120.0  # seconds in which a child must have imported what it needs


class ChildFailed(Exception):
    """No child process could be started."""


class Child:
    """A process that takes trials, one after another; a new one takes its place after a failure."""

    def __init__(self, tables: PhotoTables, makers: Makers, said: Path):
        self.arguments = tables, makers, said
        self.process = self.connection = None

    def start(self) -> None:
        """Start the process.

        Raises:
            ChildFailed: it can't run.
        """
        try:
            self.spawn()
        except BaseException as error:
            self.stop()
            if isinstance(error, Exception):
                raise ChildFailed(str(error) or "it ended while it started") from error
            raise

    def spawn(self) -> None:
        """Start the process and wait until it takes trials.

        Raises:
            Exception: whatever keeps it from starting.
        """
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *self.arguments))
        self.process.start()
        theirs.close()
        if not self.connection.poll(START_LIMIT):
            raise TimeoutError(f"it did not start within {START_LIMIT:.0f} seconds")
        self.connection.recv()

    def take(self, trial: Trial, seconds: float) -> dict:
        """Return what became of a trial: see `kernelkit.train.preflight_worker.answer`.

        Raises:
            ChildFailed: no process could be started.
        """
        if self.process is None:
            self.start()
        nothing = {"images_per_second": None, "peak_bytes": None, "predict": None}
        try:
            self.connection.send(trial)
            if not self.connection.poll(seconds):
                found = nothing | {"outcome": f"no answer within {seconds:.0f} s"}
            else:
                found = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(10)
            found = nothing | {"outcome": f"the process ended ({self.ending()})"}
        if found["outcome"] not in (WORKED, TOO_LARGE):
            self.stop()
        return found

    def ending(self) -> str:
        """Return how the process ended."""
        code = self.process.exitcode
        if code is not None and code < 0:
            with suppress(ValueError):
                return signal.Signals(-code).name
        return f"exit status {code}"

    def stop(self) -> None:
        """End the process and what it started, and wait for its end."""
        if self.process is None:
            return
        self.connection.close()
        if self.process.pid:
            if hasattr(os, "killpg"):
                with suppress(OSError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.join()
        self.process = self.connection = None
