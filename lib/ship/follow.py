"""`ship follow`: a run's log as it comes and a line of progress, until the run ends."""

import argparse
import re
import time
from collections import deque
from collections.abc import Iterable

from tqdm import tqdm

from common import Problem
from ship.desk import Desk, interactive, say
from ship.push import OVER, name_of, page_of, settle
from ship.remote import Refused

WAITING = ("QUEUED", "NEW_SCRIPT", "RUNNING", "CANCEL_REQUESTED")
PROGRESS = re.compile(
    r"\[stage (?P<stage>\d+/\d+) (?P<name>[^\]]+)\] epoch (?P<epoch>\d+/\d+)(?P<rest>.*)"
)
LEFT = re.compile(r"left (\S+)")
ACCURACY = re.compile(r"\bval_accuracy (\S+)")
TAIL = 15


class Log:
    """A run's log as it is shown: each line once, however often the log is read from its start."""

    def __init__(self) -> None:
        self.shown = 0
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.progress = ""
        self._replayed = 0
        self._rest = ""

    def restart(self) -> None:
        """Expect the log from its start again."""
        self._replayed, self._rest = 0, ""

    def add(self, data: str) -> None:
        """Show the lines that a piece of the log completes."""
        *lines, self._rest = (self._rest + data).split("\n")
        for line in lines:
            self._line(line)

    def finish(self, entries: Iterable[dict]) -> None:
        """Show what a finished log holds beyond what was shown."""
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
        if found := PROGRESS.search(line):
            rest = found["rest"]
            accuracy, left = ACCURACY.search(rest), LEFT.search(rest)
            self.progress = f"stage {found['stage']} {found['name']}, epoch {found['epoch']}"
            self.progress += f", val_accuracy {accuracy[1]}" if accuracy else ""
            self.progress += f", left {left[1]}" if left else ""
        tqdm.write(f"  | {line}")


class Watch:
    """One run that is being followed: its log, its clock and its line of progress."""

    def __init__(self, desk: Desk, run: dict):
        self.desk, self.run, self.log = desk, run, Log()
        self.live, self.streaming = True, False
        self.phase, self.since = "", time.monotonic()
        self.bar = tqdm(total=0, bar_format="{desc}", disable=not interactive(), leave=False)

    def enter(self, status: str) -> None:
        """Note a status word, and say so when it is a new one."""
        if status != self.phase:
            self.phase, self.since = status, time.monotonic()
            tqdm.write(f"{name_of(self.run)}: {status}")
        self.draw()

    def draw(self) -> None:
        """Bring the line of progress up to date."""
        seconds = int(time.monotonic() - self.since)
        clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        progress = f" · {self.log.progress}" if self.log.progress else ""
        self.bar.set_description_str(
            f"{name_of(self.run)} {self.phase.lower()} since {clock}{progress}"
        )

    def rest(self, seconds: float) -> None:
        """Pause, with the line of progress going on."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.desk.remote.wait(min(left, 1.0))
            self.draw()

    def read_log(self) -> None:
        """Get the log of a run that is under way: live, or with an old client piece by piece."""
        remote = self.desk.remote
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
        """Take a piece of the live log; None when the stream has ended."""
        if data is None:
            self.streaming = False
        else:
            self.log.add(data if data.endswith("\n") else data + "\n")


def follow(desk: Desk, run: dict) -> None:
    """Show a run until it is COMPLETE; raise Problem for every other end.

    The end is written into `run` and the ledger. A status that Kaggle does not give, or that is
    unknown, ends the following but not the run: the next `ship` follows it again.
    """
    if run.get("status") == "COMPLETE":
        return
    say(f"following {name_of(run)}: {page_of(run)} (Ctrl-C leaves it running)")
    watch = Watch(desk, run)
    desk.remote.on_log = watch.take
    try:
        status, failure = wait_for_end(watch)
        entries = desk.remote.run_output(run["ref"], run["version"])[1]
        watch.log.finish(entries)
    except KeyboardInterrupt:
        watch.bar.close()
        say(f"\n{name_of(run)} goes on at Kaggle: come back with `ship`, or see {page_of(run)}")
        raise
    finally:
        watch.bar.close()
        desk.remote.on_log = lambda data: None
    desk.ledger.append(name_of(run), status=status.lower(), gpu_minutes=minutes(entries))
    run["status"] = status
    desk.state.save()
    if status in OVER:
        raise Problem(ending(watch, failure))
    say(f"{name_of(run)} is COMPLETE")


def wait_for_end(watch: Watch) -> tuple[str, str]:
    """Poll a run's status until it is COMPLETE or over; return it with the failure message."""
    desk, run = watch.desk, watch.run
    unknown = 0
    for pause in desk.pace.polls():
        try:
            status, failure = desk.remote.run_status(run["ref"], run["version"])
        except Refused as refusal:
            unknown += 1
            if refusal.status != 404 or unknown >= desk.pace.retries:
                raise
            status, failure = "QUEUED", ""
        if status == "COMPLETE" or status in OVER:
            return status, failure
        if status not in WAITING:
            raise Problem(
                f"Kaggle gives {f'the unknown status {status!r}' if status else 'no status'} for "
                f"{name_of(run)}: see {page_of(run)}; run `ship` again to go on following it."
            )
        watch.enter(status)
        if status == "RUNNING":
            watch.read_log()
        watch.rest(pause)
    raise AssertionError("polling never ends by itself")


def minutes(entries: list[dict]) -> float | None:
    """Return how long a run took by its log, whose times are seconds since its start."""
    times = [entry["time"] for entry in entries if isinstance(entry.get("time"), int | float)]
    return round(max(times) / 60, 1) if times else None


def ending(watch: Watch, failure: str) -> str:
    """Say how a run ended without a result, with the tail of its log and what to do."""
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


def chosen_run(desk: Desk, version: int | None) -> dict:
    """Return the newest run, or another version of the kernel; raise Problem when there is none."""
    if not desk.dry_run:
        settle(desk)
    run = desk.state.run
    if version and version != run.get("version"):
        return {"ref": desk.kernel_ref, "version": version, "settings": {}}
    if not run.get("version"):
        raise Problem("no run is known here: push one with `ship push`, or name it with --version.")
    return run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship follow` and `ship fetch`."""
    parser.add_argument(
        "--version", type=int, metavar="N", help="the kernel's version (that of the last push)"
    )


def run(desk: Desk, arguments: argparse.Namespace) -> None:
    """Run `ship follow`."""
    chosen = chosen_run(desk, arguments.version)
    if desk.dry_run:
        return say(f"would follow {name_of(chosen)}: {page_of(chosen)}")
    return follow(desk, chosen)
