"""`ship follow`: show runs' logs as they come and a line of progress, until the runs end."""

import argparse
import contextlib
import time
from collections import deque
from collections.abc import Iterable

from kernelkit.core.problem import Problem
from kernelkit.core.progress import EpochProgress, clock_text
from ship.commands.push import chosen_run, open_argument, open_page
from ship.context import Context
from ship.grammar import version_arguments
from ship.kaggle.client_process import Refused, Unavailable
from ship.ledger import LOST, REFUSED, Run, rehearsing
from ship.output import printable, progress_lines, say, tell

WAITING = ("QUEUED", "NEW_SCRIPT", "RUNNING", "CANCEL_REQUESTED")
"""Status words of runs that have not ended."""
ENDS = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")

TAIL = 15
"""How many of the log's last lines are shown when a run has failed."""

SESSION = "ship: session "
"""How the line begins that a pushed script prints first; its container's name follows."""


def session_in(line: str) -> int:
    """Return the number of Kaggle's session in a line of a log, 0 where there is none.

    The container's name ends in it, or in it and a word: kaggle_a1b2-98765432-webtier.
    """
    name = line.removeprefix(SESSION)
    if name == line or " " in name:
        return 0
    words = name.split("-")[1:]
    number = words[-2] if len(words) > 1 and words[-1].isalpha() else (words or [""])[-1]
    return int(number) if number.isdecimal() and 3 <= len(number) <= 18 else 0


class Log:
    """Shows each line of a run's log once, however often the log is read from its start.

    What is read again is compared with what was shown; where it differs, another log was shown
    before, and everything from there on is news.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.progress = ""
        self.session = 0
        self._lines: list[int] = []  # a hash of each line that was shown
        self._replayed = 0
        self._rest: list[str] = []  # the pieces of a line that has not ended

    def restart(self) -> None:
        """Expect the log to be read from its start again."""
        self._replayed, self._rest = 0, []

    def add(self, data: str) -> None:
        """Show the lines that this piece of the log completes."""
        first, *others = data.split("\n")
        self._rest.append(first)
        if others:
            *lines, rest = ["".join(self._rest), *others]
            self._rest = [rest]
            self._show(lines)

    def finish(self, entries: Iterable[dict]) -> None:
        """Show the lines of a finished log that were not shown yet."""
        self.restart()
        text = "".join(str(entry.get("data") or "") for entry in entries)
        self.add(text if text.endswith("\n") or not text else text + "\n")

    def _show(self, lines: list[str]) -> None:
        shown = [f"  {self.name}| {line}" for line in map(self._news, lines) if line is not None]
        if shown:
            say("\n".join(shown))

    def _news(self, line: str) -> str | None:
        """Return what is to be shown of a line, None when it was shown before."""
        number, content = self._replayed, hash(line)
        self._replayed += 1
        if number < len(self._lines):
            if self._lines[number] == content:
                return None
            del self._lines[number:]
        self._lines.append(content)
        line = line.rstrip("\r").rpartition("\r")[2]  # the last state of a progress bar
        plain = printable(line)
        if session := session_in(plain):
            self.session = session
            return None  # which tells a person nothing
        self.tail.append(line)
        if progress := EpochProgress.parse(plain):
            self.progress = progress.summary()
        return line


class Sight:
    """What Kaggle shows of a run, asked again and again, and for how long it has shown nothing.

    A new run may be hidden for a moment, and a run of a kernel that was deleted is so for ever: it
    is `lost` when Kaggle has answered for `timeouts.lost` seconds without a status that `ship`
    knows.
    """

    def __init__(self, context: Context, run: Run):
        self.context, self.run = context, run
        self.seconds = context.timeouts.lost if run.status == LOST else 0.0
        """For how many seconds it has been hidden."""
        self.why = ""
        """What Kaggle gives in the place of a status, or why the run has failed."""
        self._said: set[str] = set()

    @property
    def lost(self) -> bool:
        """Whether nobody need ask any longer."""
        return self.seconds > self.context.timeouts.lost

    def look(self, pause: float) -> str:
        """Ask once and return Kaggle's word, "" while it gives none; the next look is in `pause`.

        Raises:
            Unavailable: Kaggle did not answer.
            CredentialsRefused: the credentials are wrong.
        """
        word, self.why = told_status(self.context, self.run)
        self.seconds = 0.0 if word else self.seconds + pause
        if not word and not self.lost and self.why not in self._said:
            minutes = self.context.timeouts.lost / 60
            say(f"{self.why} of {self.run.name}: asking again for {minutes:.0f} minutes")
            self._said.add(self.why)
        return word


def told_status(context: Context, run: Run) -> tuple[str, str]:
    """Return a run's status word, and its failure message.

    Where Kaggle gives no word that `ship` knows, the word is "", and the message says so.

    Raises:
        Unavailable: Kaggle did not answer.
        CredentialsRefused: the credentials are wrong.
    """
    try:
        word, failure = context.remote.run_status(run.kernel, run.version)
    except Refused as refusal:
        return "", f"Kaggle refuses the status ({refusal.status})"
    if word in (*WAITING, *ENDS):
        return word, failure
    return "", f"Kaggle gives the unknown status {word!r}" if word else "Kaggle gives no status"


def log_of(context: Context, run: Run) -> list[dict]:
    """Return the entries of the log of a run that is over, [] when Kaggle does not give them."""
    try:
        return context.remote.run_output(run.kernel, run.version)[1]
    except (Refused, Unavailable) as problem:
        say(f"the log of {run.name} is not shown: {problem}")
        return []


class Watch:
    """The display of one run that is followed: its log, its clock, and its share of the bar."""

    def __init__(self, context: Context, run: Run, named: bool):
        self.context, self.run = context, run
        self.log = Log(f"v{run.version} " if named else "")
        self.live, self.told_ends = True, False
        self.stream = 0  # the start of the client that streams the log
        self.phase, self.since = "", time.monotonic()
        self.sight = Sight(context, run)

    def ask(self, pause: float) -> bool:
        """Ask for the run's status, show what is new, and tell whether no more is to be asked.

        Args:
            pause: the seconds until the next question.
        """
        status = self.sight.look(pause) or self.phase or "QUEUED"
        if self.sight.lost:
            return True
        if status in ENDS:
            self.end(status)
            return True
        if status != self.phase:
            self.phase, self.since = status, time.monotonic()
            say(f"{self.run.name}: {status}")
        if status == "RUNNING":
            self.read_log()
        return False

    def read_log(self) -> None:
        """Read the log of a running session as a live stream, or whole with an old client."""
        remote, run = self.context.remote, self.run
        if self.live and (not self.stream or self.stream != remote.starts):
            self.log.restart()
            self.live = remote.call(
                "follow_log", "the live log", kernel=run.kernel, version=run.version
            )
            self.stream = remote.starts
        if not self.live:
            self.log.restart()
            for entry in remote.run_output(run.kernel, run.version)[1]:
                self.log.add(str(entry.get("data") or ""))

    def take(self, data: str | None) -> None:
        """Show a piece of the live log; None says that the stream has ended.

        Until a piece tells where a line ends, each piece is taken for a line: some clients leave
        the ends out.
        """
        if data is None:
            self.stream = 0
            return
        self.told_ends = self.told_ends or "\n" in data
        self.log.add(data if self.told_ends else data + "\n")

    def end(self, status: str) -> None:
        """Show the rest of the log and save how the run ended."""
        entries = log_of(self.context, self.run)
        self.log.finish(entries)
        note_end(self.context, self.run, status, self.sight.why, entries)
        self.run.session = self.log.session or self.run.session
        if not self.run.failed:
            say(f"{self.run.name} is COMPLETE")

    def text(self) -> str:
        """Return the run's share of the line of progress."""
        clock = clock_text(time.monotonic() - self.since)
        progress = f" · {self.log.progress}" if self.log.progress else ""
        return f"{self.run.name} {self.phase.lower()} since {clock}{progress}"


def note_end(context: Context, run: Run, status: str, failure: str, entries: list[dict]) -> None:
    """Write a run's known end into its record, to which others may have written meanwhile."""
    context.reread(run)
    if run.status != REFUSED:  # it is without a source, however it ends
        run.status, run.failure = status.lower(), failure
    run.gpu_minutes = minutes(entries)
    run.verified["ended"] = f"Kaggle's status {status}"
    context.ledger.keep(run)
    tell(**{"run": run.name, "run_status": run.status})


def follow(context: Context, runs: list[Run]) -> None:
    """Show runs until each has ended, and write their ends into the ledger.

    An outage of Kaggle or of the connection is waited out.

    Raises:
        Problem: a run failed; or Kaggle gave no known status for long, and the next `ship` follows
            the run again.
    """
    going = [run for run in runs if not run.ended]
    watches = [Watch(context, run, len(going) > 1) for run in going]
    names = " and ".join(run.name for run in going)
    if going:
        context.doing(f"following {names}")
        for run in going:
            leave = "" if rehearsing() else " (Ctrl-C leaves it running)"
            say(f"following {run.name}{run.shown_page}{leave}")
        with progress_line(context, watches), context.remote.patient(context.timeouts.outage):
            wait_for_ends(context, watches)
    lost = [watch for watch in watches if watch.sight.lost]
    failed = [run for run in runs if run.failed]
    if failed:
        watch = next((watch for watch in watches if watch.run is failed[0]), None)
        raise Problem(ending(failed[0], watch.log.tail if watch else ()))
    if lost:
        run = lost[0].run
        raise Problem(
            f"{lost[0].sight.why} of {run.name}, for {context.timeouts.lost / 60:.0f} minutes: see "
            f"{run.page}. The same command goes on following it; if it is gone, `ship push "
            "--again` pushes the same once more."
        )


@contextlib.contextmanager
def progress_line(context: Context, watches: list[Watch]):
    """Pass live logs on to their watches, and say at Ctrl-C that the runs go on."""
    by_run = {(watch.run.kernel, watch.run.version): watch for watch in watches}
    context.remote.on_log = lambda kernel, version, data: by_run[kernel, version].take(data)
    try:
        yield
    except KeyboardInterrupt:
        for watch in watches:
            if not watch.run.ended and not rehearsing():
                name, page = watch.run.name, watch.run.page
                say(f"\n{name} goes on at Kaggle: come back with `ship`, or see {page}")
        raise
    finally:
        context.remote.on_log = lambda kernel, version, data: None


def wait_for_ends(context: Context, watches: list[Watch]) -> None:
    """Ask for the runs' statuses until all have ended, and keep the line of progress up to date."""
    with progress_lines() as show:
        for pause in context.timeouts.polls():
            watches = [watch for watch in watches if not watch.ask(pause)]
            if not watches:
                return
            until = time.monotonic() + pause
            while (left := until - time.monotonic()) > 0:
                context.remote.wait(min(left, 1.0))
                show("\n".join(watch.text() for watch in watches))
            for watch in watches:  # known for `ship cancel` even if this one is killed
                if watch.log.session and not watch.run.session:
                    watch.run.session = watch.log.session
                    context.ledger.keep(watch.run)


def refresh(context: Context, run: Run) -> str:
    """Ask once how a run goes on, save it when it has ended, and return Kaggle's word.

    The word is UNKNOWN when Kaggle does not tell; only wrong credentials raise a Problem.
    """
    if run.ended:
        return run.status.upper()
    try:
        word, failure = told_status(context, run)
        if word in ENDS:
            note_end(context, run, word, failure, log_of(context, run))
    except Unavailable:
        return "UNKNOWN"
    return word or "UNKNOWN"


def minutes(entries: list[dict]) -> float | None:
    """Return a run's minutes by the times in its log, which are seconds since its start."""
    times = [entry["time"] for entry in entries if isinstance(entry.get("time"), int | float)]
    return round(max(times) / 60, 1) if times else None


def ending(run: Run, tail: Iterable[str]) -> str:
    """Return the sentence for a run that failed, with the tail of its log and what to do."""
    lines = "\n".join(f"    {line}" for line in tail)
    log = f"\nthe end of its log:\n{lines}" if lines else ""
    reason = f": {run.failure}" if run.failure else ""
    if run.status == "error":
        what = "correct kernel.py or its settings and run `ship` again."
    else:
        what = (
            "it was cancelled, or there were too many sessions at once: see that no other session "
            "runs, then `ship push --again`."
        )
    return (
        f"{run.name} ended with {run.status.upper()}{reason}{log}\n"
        f"what to do: {what}{'' if rehearsing() else f' All of the log: {run.page}'}"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship follow`."""
    version_arguments(parser)
    open_argument(parser)


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship follow`."""
    versions = list(dict.fromkeys(arguments.versions)) or [None]
    chosen = [chosen_run(context, version) for version in versions]
    if context.dry_run:
        return say("would follow " + " and ".join(one.page for one in chosen))
    with contextlib.ExitStack() as stack:
        for one in chosen:
            stack.enter_context(context.holding(one))
            if arguments.open:
                open_page(one)
        follow(context, chosen)
    return None
