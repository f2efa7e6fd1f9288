"""`ship follow`: show a run's log as it comes and a line of progress, until the run ends."""

import argparse
import time
from collections import deque
from collections.abc import Iterable

from tqdm import tqdm

from common import EpochProgress, Problem, clock_text
from ship.context import Context, interactive, say
from ship.push import FAILED, name_of, page_of, resolve_interrupted_push
from ship.remote import Refused

WAITING = ("QUEUED", "NEW_SCRIPT", "RUNNING", "CANCEL_REQUESTED")
"""Status words of runs that have not ended."""

TAIL = 15
"""How many of the log's last lines are shown when a run has failed."""


class Log:
    """Shows each line of a run's log once, however often the log is read from its start."""

    def __init__(self) -> None:
        self.shown = 0
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.progress = ""
        self._replayed = 0
        self._rest = ""

    def restart(self) -> None:
        """Expect the log to be read from its start again."""
        self._replayed, self._rest = 0, ""

    def add(self, data: str) -> None:
        """Show the lines that this piece of the log completes."""
        *lines, self._rest = (self._rest + data).split("\n")
        for line in lines:
            self._line(line)

    def finish(self, entries: Iterable[dict]) -> None:
        """Show the lines of a finished log that were not shown yet."""
        self.restart()
        for entry in entries:
            self.add(str(entry.get("data") or ""))
        if self._rest:
            self._line(self._rest)

    def _line(self, line: str) -> None:
        self._replayed += 1
        if self._replayed <= self.shown:
            return
        self.shown += 1
        line = line.rstrip("\r").rpartition("\r")[2]  # the last state of a progress bar
        self.tail.append(line)
        if progress := EpochProgress.parse(line):
            self.progress = progress.summary()
        tqdm.write(f"  | {line}")


class Watch:
    """The display of one run that is followed: its log, its clock and its line of progress."""

    def __init__(self, context: Context, run: dict):
        self.context, self.run, self.log = context, run, Log()
        self.live, self.streaming = True, False
        self.phase, self.since = "", time.monotonic()
        self.bar = tqdm(total=0, bar_format="{desc}", disable=not interactive(), leave=False)

    def enter(self, status: str) -> None:
        """Note the run's status word, and print it when it is a new one."""
        if status != self.phase:
            self.phase, self.since = status, time.monotonic()
            tqdm.write(f"{name_of(self.run)}: {status}")
        self.draw()

    def draw(self) -> None:
        """Bring the line of progress up to date."""
        clock = clock_text(time.monotonic() - self.since)
        progress = f" · {self.log.progress}" if self.log.progress else ""
        self.bar.set_description_str(
            f"{name_of(self.run)} {self.phase.lower()} since {clock}{progress}"
        )

    def rest(self, seconds: float) -> None:
        """Pause while the line of progress is kept up to date."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.context.remote.wait(min(left, 1.0))
            self.draw()

    def read_log(self) -> None:
        """Read the log of a running session as a live stream, or whole with an old client."""
        remote = self.context.remote
        if self.live and not self.streaming:
            self.log.restart()
            self.streaming = True
            self.live = remote.call(
                "follow_log", "the live log", kernel=self.run["ref"], version=self.run["version"]
            )
        if not self.live:
            self.log.restart()
            for entry in remote.run_output(self.run["ref"], self.run["version"])[1]:
                self.log.add(str(entry.get("data") or ""))

    def take(self, data: str | None) -> None:
        """Show a piece of the live log; None says that the stream has ended."""
        if data is None:
            self.streaming = False
        else:
            self.log.add(data if data.endswith("\n") else data + "\n")


def follow(context: Context, run: dict) -> None:
    """Show a run until it is COMPLETE, and write its end into `run` and the ledger.

    Raises:
        Problem: the run failed; or Kaggle gave no known status, and the next `ship` follows the
            run again.
    """
    if run.get("status") == "COMPLETE":
        return
    context.doing(f"following {name_of(run)}")
    say(f"following {name_of(run)}: {page_of(run)} (Ctrl-C leaves it running)")
    watch = Watch(context, run)
    context.remote.on_log = watch.take
    try:
        status, failure = wait_for_end(watch)
        entries = context.remote.run_output(run["ref"], run["version"])[1]
        watch.log.finish(entries)
    except KeyboardInterrupt:
        watch.bar.close()
        say(f"\n{name_of(run)} goes on at Kaggle: come back with `ship`, or see {page_of(run)}")
        raise
    finally:
        watch.bar.close()
        context.remote.on_log = lambda data: None
    context.ledger.append(name_of(run), status=status.lower(), gpu_minutes=minutes(entries))
    run["status"] = status
    context.state.save()
    if status in FAILED:
        raise Problem(ending(watch, failure))
    say(f"{name_of(run)} is COMPLETE")


def wait_for_end(watch: Watch) -> tuple[str, str]:
    """Poll a run's status until it has ended; return the status and the failure message.

    Kaggle may not know a new run for a moment: a few answers of 404 in a row change nothing.
    """
    context, run = watch.context, watch.run
    unknown = 0
    for pause in context.pace.polls():
        try:
            status, failure = context.remote.run_status(run["ref"], run["version"])
            unknown = 0
        except Refused as refusal:
            unknown += 1
            if refusal.status != 404 or unknown >= context.pace.retries:
                raise
            status, failure = watch.phase or "QUEUED", ""
        if status == "COMPLETE" or status in FAILED:
            return status, failure
        if status not in WAITING:
            given = f"the unknown status {status!r}" if status else "no status"
            raise Problem(
                f"Kaggle gives {given} for {name_of(run)}: see {page_of(run)}; run `ship` again to "
                "go on following it."
            )
        watch.enter(status)
        if status == "RUNNING":
            watch.read_log()
        watch.rest(pause)
    raise AssertionError("polling never ends by itself")


def minutes(entries: list[dict]) -> float | None:
    """Return a run's minutes by the times in its log, which are seconds since its start."""
    times = [entry["time"] for entry in entries if isinstance(entry.get("time"), int | float)]
    return round(max(times) / 60, 1) if times else None


def ending(watch: Watch, failure: str) -> str:
    """Return the sentence for a run that failed, with the tail of its log and what to do."""
    run = watch.run
    tail = "\n".join(f"    {line}" for line in watch.log.tail) or "    (no log)"
    reason = f": {failure}" if failure else ""
    if run["status"] == "ERROR":
        what = "correct kernel.py or its settings and run `ship` again."
    else:
        what = (
            "it was cancelled, or there were too many sessions at once: see that no other session "
            "runs, then run `ship` again."
        )
    return (
        f"{name_of(run)} ended with {run['status']}{reason}\nthe end of its log:\n{tail}\n"
        f"what to do: {what} All of the log: {page_of(run)}"
    )


def chosen_run(context: Context, version: int | None) -> dict:
    """Return the newest run, or that of another version of the kernel.

    Raises:
        Problem: no run is known.
    """
    if not context.dry_run:
        resolve_interrupted_push(context)
    run = context.state.run
    if version and version != run.get("version"):
        return {"ref": context.kernel_ref, "version": version, "settings": {}}
    if not run.get("version"):
        raise Problem("no run is known here: push one with `ship push`, or name it with --version.")
    return run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship follow` and `ship fetch`."""
    parser.add_argument(
        "--version", type=int, metavar="N", help="the kernel's version (that of the last push)"
    )


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship follow`."""
    chosen = chosen_run(context, arguments.version)
    if context.dry_run:
        return say(f"would follow {name_of(chosen)}: {page_of(chosen)}")
    return follow(context, chosen)
