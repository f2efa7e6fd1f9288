"""`ship follow`, `ship cancel` and `ship status`: runs at Kaggle until they end.

Kaggle ends a session by its number, which no public call returns: `ship` reads it from the run's
log, whose first line is the name of the container, such as kaggle_a1b2-98765432-webtier.
"""

import argparse
import contextlib
import re
import time
import webbrowser
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from kernelkit.core.problem import Problem
from kernelkit.core.progress import EpochProgress, clock_text
from ship.command_line import number_of, option, switch
from ship.commands.doctor import Concern, gpu_time, submissions_left
from ship.context import Context
from ship.kaggle.client_process import Refused, Unavailable
from ship.ledger import LOST, REFUSED, Run, rehearsing, settings_text
from ship.output import emit_json, printable, progress_lines, say

WAITING = ("QUEUED", "NEW_SCRIPT", "RUNNING", "CANCEL_REQUESTED")  # status words before the end
ENDS = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")
TAIL = 15  # last lines of the log that are shown when a run has failed
SESSION = re.compile(r"ship: session [^ ]*?-(\d{3,18})(?:-[A-Za-z]+)?")  # that line


class Log:
    """Shows each line of a run's log once, however often the log is read from its start.

    What is read again is compared with what was shown. Where it differs, the log of another run was
    shown before, and everything from there on is shown.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.progress = ""
        self.session = 0
        self._hashes: list[int] = []  # of the lines that were shown
        self._read = 0  # lines since the start of the log
        self._rest: list[str] = []  # the pieces of a line that has not ended

    def restart(self) -> None:
        """Expect the log to be read from its start again."""
        self._read, self._rest = 0, []

    def add(self, data: str) -> None:
        """Show the lines that this piece of the log completes."""
        first, *others = data.split("\n")
        self._rest.append(first)
        if others:
            *lines, rest = ["".join(self._rest), *others]
            self._rest = [rest]
            for line in map(self._new, lines):
                if line is not None:
                    say(f"  {self.name}| {line}")

    def finish(self, text: str) -> None:
        """Show the lines of a finished log that were not shown yet."""
        self.restart()
        self.add(text if text.endswith("\n") or not text else text + "\n")

    def _new(self, line: str) -> str | None:
        number, content = self._read, hash(line)
        self._read += 1
        if number < len(self._hashes):
            if self._hashes[number] == content:
                return None
            del self._hashes[number:]
        self._hashes.append(content)
        line = line.rstrip("\r").rpartition("\r")[2]  # the last state of a progress bar
        plain = printable(line)
        if session := _session_in(plain):
            self.session = session
            return None
        self.tail.append(line)
        if progress := EpochProgress.parse(plain):
            self.progress = progress.summary()
        return line


def _session_in(line: str) -> int:
    found = SESSION.fullmatch(line)
    return int(found[1]) if found else 0


def text_of(entries: Iterable[dict]) -> str:
    """Return the text of a log's entries."""
    return "".join(str(entry.get("data") or "") for entry in entries)


class StatusPoll:
    """Asks for a run's status again and again, and counts how long Kaggle has given none.

    A new run may be hidden for a moment, and that of a deleted kernel is so for ever.
    """

    def __init__(self, context: Context, run: Run):
        self.context, self.run = context, run
        self.seconds = context.timeouts.lost if run.status == LOST else 0.0  # without a status
        self.why = ""  # what Kaggle gives in the place of a status, or why the run has failed
        self.entries: list[dict] = []  # of the log of a run that has ended
        self._reported: set[str] = set()

    @property
    def lost(self) -> bool:
        """Whether Kaggle has answered for `timeouts.lost` seconds without a known status."""
        return self.seconds > self.context.timeouts.lost

    def ask(self, pause: float = 0.0) -> str:
        """Ask once, save an end with its log, and return Kaggle's status word; "" for no known one.

        The next question comes in `pause` seconds, 0 where there is none.
        """
        run = self.run
        try:
            word, self.why = self.context.remote.run_status(run.kernel, run.version)
            if word not in (*WAITING, *ENDS):
                unknown = f"the unknown status {word!r}" if word else "no status"
                word, self.why = "", f"Kaggle gives {unknown}"
        except Refused as refusal:
            word, self.why = "", f"Kaggle refuses the status ({refusal.status})"
        if word in ENDS:
            self.entries = log_of(self.context, run)
            note_end(self.context, run, word, self.why, self.entries)
        self.seconds = 0.0 if word else self.seconds + pause
        if not word and pause and not self.lost and self.why not in self._reported:
            minutes = self.context.timeouts.lost / 60
            say(f"{self.why} of {run.name}: asking again for {minutes:.0f} minutes")
            self._reported.add(self.why)
        return word


def log_of(context: Context, run: Run) -> list[dict]:
    """Return the entries of a run's log, [] when Kaggle does not give them."""
    try:
        return context.remote.run_output(run.kernel, run.version)[1]
    except (Refused, Unavailable) as problem:
        say(f"the log of {run.name} is not shown: {problem}")
        return []


def note_end(context: Context, run: Run, status: str, failure: str, entries: list[dict]) -> None:
    """Write a run's known end into its record, to which others may have written meanwhile."""
    context.reread(run)
    if run.status != REFUSED:  # it is without a source, however it ends
        run.status, run.failure = status.lower(), failure
    run.gpu_minutes = minutes(entries)
    run.verified["ended"] = f"Kaggle's status {status}"
    context.ledger.keep(run)
    emit_json(run=run.name, run_status=run.status)


def minutes(entries: list[dict]) -> float | None:
    """Return a run's minutes by the times in its log, which are seconds since its start."""
    times = [entry["time"] for entry in entries if isinstance(entry.get("time"), int | float)]
    return round(max(times) / 60, 1) if times else None


def refresh(context: Context, run: Run) -> str:
    """Ask once for a run's status, save an end, and return Kaggle's word, or UNKNOWN."""
    if run.ended:
        return run.status.upper()
    try:
        return StatusPoll(context, run).ask() or "UNKNOWN"
    except Unavailable:
        return "UNKNOWN"


class FollowedRun(StatusPoll):
    """A run that is followed: its log, its clock, and its part of the progress line."""

    def __init__(self, context: Context, run: Run, named: bool):
        super().__init__(context, run)
        self.log = Log(f"v{run.version} " if named else "")
        self.phase, self.since = "", time.monotonic()
        self._stream = 0  # the start of the client's process that streams the log

    def update(self, pause: float) -> bool:
        """Ask for the status, show what is new, and return whether to ask no longer."""
        status = self.ask(pause) or self.phase or "QUEUED"
        if self.lost:
            return True
        if status in ENDS:
            self.log.finish(text_of(self.entries))
            self.run.session = self.log.session or self.run.session
            if not self.run.failed:
                say(f"{self.run.name} is COMPLETE")
            return True
        if status != self.phase:
            self.phase, self.since = status, time.monotonic()
            say(f"{self.run.name}: {status}")
        remote = self.context.remote
        if status == "RUNNING" and self._stream != remote.starts:
            self.log.restart()
            fields = {"kernel": self.run.kernel, "version": self.run.version}
            remote.call("follow_log", "the live log", **fields)
            self._stream = remote.starts
        return False

    def take(self, data: str | None) -> None:
        """Show a piece of the live log; None is the end of the stream."""
        if data is None:
            self._stream = 0
        else:
            self.log.add(data)

    def text(self) -> str:
        """Return the run's part of the progress line."""
        clock = clock_text(time.monotonic() - self.since)
        progress = f" · {self.log.progress}" if self.log.progress else ""
        return f"{self.run.name} {self.phase.lower()} since {clock}{progress}"


def follow(context: Context, runs: list[Run]) -> None:
    """Show runs until each has ended, write their ends into the ledger, and wait out outages.

    Raises Problem where a run failed, or Kaggle gave no known status of one for long.
    """
    going = [run for run in runs if not run.ended]
    followed = {(r.kernel, r.version): FollowedRun(context, r, len(going) > 1) for r in going}
    if going:
        context.doing(f"following {' and '.join(run.name for run in going)}")
        for run in going:
            leave = "" if rehearsing() else " (Ctrl-C leaves it running)"
            say(f"following {run.name}{run.shown_page}{leave}")
        context.remote.on_log = lambda kernel, version, data: followed[kernel, version].take(data)
        try:
            with context.remote.patient(context.timeouts.outage):
                _wait_for_ends(context, list(followed.values()))
        except KeyboardInterrupt:
            for run in going:
                if not run.ended and not rehearsing():
                    say(f"\n{run.name} goes on at Kaggle: come back with `ship`, or see {run.page}")
            raise
        finally:
            context.remote.on_log = lambda kernel, version, data: None
    if failed := next((run for run in runs if run.failed), None):
        one = followed.get((failed.kernel, failed.version))
        raise Problem(_ending(failed, one.log.tail if one else (), context.again))
    if lost := next((one for one in followed.values() if one.lost), None):
        raise Problem(
            f"{lost.why} of {lost.run.name}, for {context.timeouts.lost / 60:.0f} minutes: see "
            f"{lost.run.page}. The same command goes on following it; if it is gone, "
            f"`{context.again}` pushes the same once more."
        )


def _wait_for_ends(context: Context, followed: list[FollowedRun]) -> None:
    with progress_lines() as show:
        for pause in context.timeouts.polls():
            followed = [one for one in followed if not one.update(pause)]
            if not followed:
                return
            until = time.monotonic() + pause
            while (left := until - time.monotonic()) > 0:
                context.remote.wait(min(left, 1.0))
                show("\n".join(one.text() for one in followed))
            for one in followed:  # known to `ship cancel` even if this process is killed
                if one.log.session and not one.run.session:
                    one.run.session = one.log.session
                    context.ledger.keep(one.run)


def _ending(run: Run, tail: Iterable[str], again: str) -> str:
    lines = "\n".join(f"    {line}" for line in tail)
    log = f"\nthe end of its log:\n{lines}" if lines else ""
    reason = f": {run.failure}" if run.failure else ""
    if run.status == "error":
        advice = "correct kernel.py or its settings and run `ship` again."
    else:
        advice = f"it was cancelled, or too many sessions ran at once: then `{again}`."
    page = "" if rehearsing() else f" All of the log: {run.page}"
    return f"{run.name} ended with {run.status.upper()}{reason}{log}\nwhat to do: {advice}{page}"


def cancel(context: Context, run: Run, session: int | None = None, wait: bool = True) -> None:
    """End a run unless it is over, and wait for that; Problem where it can't be ended."""
    context.doing(f"cancelling {run.name}")
    status = refresh(context, run)
    if run.ended:
        return say(f"{run.name} is over already: {status}")
    if not (session := session or run.session):
        lines = text_of(context.remote.run_output(run.kernel, run.version)[1]).split("\n")
        session = next((found for line in lines if (found := _session_in(line.rstrip()))), 0)
    if not session:
        raise Problem(
            f"{run.name} is {status}, and the number of its session is only in the run's own log, "
            f"which has no line yet: try again when it runs, or end it at {run.page}."
        )
    try:
        refusal = context.remote.cancel(session)
    except Refused as problem:
        refusal = str(problem).rstrip(".")
    if refusal:
        status = refresh(context, run)
        if run.ended:
            return say(f"{run.name} was over before it could be cancelled: {status}")
        raise Problem(f"Kaggle does not end {run.name} ({refusal}): end it at {run.page}.")
    say(f"Kaggle was asked to end {run.name}")

    def is_over() -> bool:
        refresh(context, run)
        return run.ended

    if wait and not context.ask_until(is_over, context.timeouts.prove):
        raise Problem(f"{run.name} is still {run.status}: see {run.page}.")
    emit_json(run=run.name, run_status=run.status)
    early = " (it was complete before Kaggle could end it)" if run.status == "complete" else ""
    return say(f"{run.name}: {run.status.upper()}{early}")


def answer_or_none(question: Callable[[Context], Any], context: Context) -> Any:
    """Return Kaggle's answer to a question that only informs; print why where it has none."""
    try:
        return question(context)
    except Concern as concern:
        return say(str(concern))


def _progress_of(context: Context, run: Run) -> str:
    for entry in reversed(log_of(context, run)):
        if progress := EpochProgress.parse(printable(str(entry.get("data") or ""))):
            return progress.summary()
    return ""


OPEN = switch("--open", "open the run's page in a browser")
SESSION_NUMBER = option("--session", "the number of Kaggle's session, as its log has it",
    type=number_of(int, least=1), metavar="N")  # fmt: skip


def open_page(run: Run) -> None:
    """Open a run's page in a browser, where there is one."""
    if not webbrowser.open(run.page):
        say(f"no browser could be opened: {run.page}")


def run_follow(context: Context, arguments: argparse.Namespace) -> None:
    """Show runs until they end."""
    with contextlib.ExitStack() as stack:
        for run in arguments.runs:
            stack.enter_context(context.holding(run))
            if arguments.open:
                open_page(run)
        return follow(context, arguments.runs)


def run_cancel(context: Context, arguments: argparse.Namespace) -> None:
    """End a run at Kaggle."""
    [run] = arguments.runs
    return cancel(context, run, arguments.session, not arguments.no_wait)


def run_status(context: Context, arguments: argparse.Namespace) -> None:
    """Show live runs, GPU quota and submissions left."""
    if context.dry_run:
        return say("would ask Kaggle about the live runs, the GPU quota and the submissions")
    context.doing("asking for the status")
    shown = []
    for run in context.ledger.live_runs():
        word = refresh(context, run)
        progress = _progress_of(context, run) if word == "RUNNING" else ""
        shown.append({"run": run.name, "run_status": word, "progress": progress, "page": run.page})
        words = (f"{run.name}: {word}", settings_text(run.settings), progress)
        say("  ".join(filter(None, words)), result=True)
    if not shown:
        say("no run is under way", result=True)
    if context.state.push:
        say("a push was cut short: the next `ship` asks Kaggle whether it arrived", result=True)
    gpu = answer_or_none(gpu_time, context)
    left = answer_or_none(submissions_left, context)
    if gpu:
        say(f"{gpu.left / 60:.1f} h of GPU time left this week{gpu.until}", result=True)
    if left is not None:
        say(f"{left} submissions left today", result=True)
    return emit_json(runs=shown, gpu_minutes_left=gpu and gpu.left, submissions_left=left)
