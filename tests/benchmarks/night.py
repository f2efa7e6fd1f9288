"""A night in fast motion: what a sweep of twelve settings makes of 24 hours of mishaps.

python tests/benchmarks/night.py [--speed 600] [--short]

An hour lasts `3600 / speed` seconds: all of `ship`'s paces, the runs and the mishaps are shortened
alike, and only the programs themselves are as slow as they are. While the sweep is under way
somebody edits kernel.py, two outages of an hour come, the week's GPU time runs out and is renewed,
the key is renewed, the clock jumps by an hour, and `ship` is killed three times, once in the middle
of a push whose answer is lost while Kaggle's lists lag. After each kill the same command is given.

Prints what happened when, and what was checked; the exit status is 1 where a check has failed. With
--short it is a quarter of the night, with four settings, one outage and two kills.
"""

import argparse
import dataclasses
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "ship"), str(TESTS.parent / "lib")]

from shipping import KEY, World, open_world  # noqa: E402

SKILLS = {False: (33, 28, 36, 30, 39, 31, 35, 29, 38, 34, 32, 37), True: (33, 39, 28, 36)}
"""The settings by whether the night is short; each is right on so many of 40 validation photos."""
HOURS = 2.5
"""How long a run takes."""
PREDICTION = '(int(name[:3]) + int(CONFIG["shift"])) % 3'
BY_SKILL = '(int(name[:3]) + (int(name[:3]) - 100 > int(CONFIG["skill"]) - 30)) % 3'
"""The better a setting is on the validation photos, the more of the nine test photos are right."""
CLOCK = """
import os, time
from pathlib import Path
true_time = time.time
time.time = lambda: true_time() + float(Path(os.environ["NIGHT_CLOCK"]).read_text())
"""
"""Becomes `sitecustomize`: a clock that is as many seconds ahead as a file says."""
BEGINS, ENDS = re.compile("^no usable answer from Kaggle"), re.compile("^Kaggle answers again")


class Night:
    """A sweep that is under way, what befalls it, and a record of both."""

    def __init__(self, folder: Path, world: World, speed: float, short: bool):
        self.world, self.speed, self.short = world, speed, short
        self.began = time.monotonic()
        self.events: list[tuple[float, str]] = []
        self.lines: list[tuple[float, str]] = []
        self.clock = folder / "ahead"
        self.clock.write_text("0")
        (folder / "clock").mkdir()
        (folder / "clock" / "sitecustomize.py").write_text(CLOCK)
        self.path = os.pathsep.join([str(folder / "clock"), world.environment["PYTHONPATH"]])
        self.pushes_refused = 0
        self.quota_ends = 0.0
        self.kill_in_push = threading.Event()
        self.process: subprocess.Popen | None = None
        self.starts: list[float] = []
        kernel = world.project / "kernel.py"
        kernel.write_text(kernel.read_text().replace(PREDICTION, BY_SKILL))
        self.renew_key(KEY)
        self.command = ("sweep", f"skill={','.join(map(str, SKILLS[short]))}", "--submit", "best")
        self.command += ("--set", f"seconds={HOURS * 3600 / speed}")
        self.watch_server()

    # --- time ---

    def hours(self) -> float:
        """Return the hours since the night began."""
        return (time.monotonic() - self.began) * self.speed / 3600

    def sleep(self, hours: float) -> None:
        """Let hours pass."""
        time.sleep(hours * 3600 / self.speed)

    def note(self, text: str) -> None:
        """Record an event."""
        self.events.append((self.hours(), text))

    @property
    def paces(self) -> dict[str, str]:
        """`ship`'s paces in fast motion; a program can't answer faster than it does."""
        usual = {"poll": 2, "poll_max": 60, "prove": 180, "backoff": 1, "silence": 240}
        usual |= {"ready": 3600, "score": 3600, "outage": 86400}
        least = {"poll": 0.02, "backoff": 0.02, "prove": 1.5, "ready": 20, "score": 20}
        values = {
            name: max(value / self.speed, least.get(name, 0)) for name, value in usual.items()
        }
        return {f"SHIP_{name.upper()}": str(value) for name, value in values.items()}

    # --- Kaggle ---

    def watch_server(self) -> None:
        """Let Kaggle refuse pushes while the quota is used up, and tell of each version."""
        kernels = self.world.kaggle.kernels
        save, quota = kernels.SaveKernel, kernels.GetAcceleratorQuotaStatistics

        def saved(request: dict) -> dict:
            if time.monotonic() < self.quota_ends:
                self.pushes_refused += 1
                return {"error": "You have used up your weekly GPU quota"}
            answer = save(request)
            if self.kill_in_push.is_set() and "versionNumber" in answer:
                self.kill_in_push.clear()
                self.process.kill()
            return answer

        def told(request: dict) -> dict:
            left = self.quota_ends - time.monotonic()
            if left < 0:
                return quota(request)
            used = {"timeUsed": "108000s", "timeReserved": "0s", "totalTimeAllowed": "108000s"}
            renewal = datetime.fromtimestamp(time.time() + left, UTC).replace(tzinfo=None)
            return {"quotaRefreshTime": renewal.isoformat() + "Z", "gpuQuota": used}

        kernels.SaveKernel, kernels.GetAcceleratorQuotaStatistics = saved, told

    def versions(self) -> int:
        """Return how many versions of the kernel Kaggle has."""
        return self.world.kaggle.counts["kernel_versions"]

    def renew_key(self, key: str) -> None:
        """Let Kaggle accept another key, which is written where the client looks."""
        kaggle = self.world.kaggle
        file = kaggle.folder / "home" / ".kaggle" / "kaggle.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"username": "alice", "key": key}))
        kaggle.settings = dataclasses.replace(kaggle.settings, key=key)

    # --- ship ---

    def start(self) -> None:
        """Give the command, and record each line that it prints."""
        changes = {"KAGGLE_USERNAME": None, "KAGGLE_KEY": None, "NIGHT_CLOCK": str(self.clock)}
        changes |= self.paces | {"PYTHONPATH": self.path, "SHIP_TIMEOUT": "4"}
        self.starts.append(self.hours())
        self.process = self.world.start(*self.command, stderr=subprocess.STDOUT, **changes)

        def read(stream) -> None:
            for line in stream:
                self.lines.append((self.hours(), line.rstrip("\n")))

        self.reading = threading.Thread(target=read, args=(self.process.stdout,))
        self.reading.start()

    def end(self) -> int:
        """Wait for the command's end and return its exit status."""
        status = self.process.wait(timeout=48 * 3600 / self.speed + 120)
        self.reading.join()
        return status

    def until(self, question: Callable[[], bool], what: str) -> None:
        """Wait until a question has a true answer while the sweep is under way.

        Raises:
            RuntimeError: the sweep has ended before.
        """
        while not question():
            if self.process.poll() is not None:
                self.reading.join()
                said = "\n".join(line for _, line in self.lines[-15:])
                raise RuntimeError(f"the sweep has ended before {what}:\n{said}")
            time.sleep(0.02)

    # --- mishaps ---

    def kill(self) -> None:
        """Kill `ship`, and give its command again after five minutes."""
        self.process.kill()
        self.end()
        self.note("ship was killed")
        self.sleep(1 / 12)
        self.start()

    def edit(self) -> None:
        """Change kernel.py so that every run of it would predict and print something else."""
        kernel = self.world.project / "kernel.py"
        text = kernel.read_text().replace(BY_SKILL, "2 - int(name[:3]) % 3")
        kernel.write_text(text + "print('EDITED')\n")
        self.note("kernel.py was edited")

    def outage(self, kind: str, **details) -> None:
        """Let no call be answered for an hour."""
        self.note(f"an outage of an hour began ({kind})")
        self.world.kaggle.faults.add("*", kind, times=10**9, **details)
        self.sleep(1.0)
        self.world.kaggle.faults.clear()
        self.note("the outage was over")

    def lose_quota(self, hours: float) -> None:
        """Let the week's GPU time be used up for a while."""
        self.quota_ends = time.monotonic() + hours * 3600 / self.speed
        self.note(f"the week's GPU time was used up for {hours:.0f} hours")

    def kill_in_a_push(self) -> None:
        """Kill `ship` when Kaggle has got a push, before it has the answer."""
        self.world.kaggle.settings = dataclasses.replace(self.world.kaggle.settings, lag=1.0)
        self.world.kaggle.kernels._settings = self.world.kaggle.settings
        self.kill_in_push.set()
        self.until(lambda: not self.kill_in_push.is_set(), "a push was cut short")
        self.end()
        self.note("ship was killed in the middle of a push, and lists lagged")
        self.start()

    def pass_by(self) -> int:
        """Let the night pass, give the command again, and return the worst exit status."""
        self.start()
        self.note("the sweep began")
        mishaps = self.mishaps()
        for number, mishap in mishaps.items():
            self.until(lambda n=number: self.versions() >= n, f"version {number} was pushed")
            mishap()
        status = self.end()
        self.note(f"the sweep ended with exit status {status}")
        if not self.short:
            self.sleep(max(0.0, 24 - self.hours()))
        self.start()
        self.note("in the morning the same command was given again")
        return self.end() or status

    def mishaps(self) -> dict[int, Callable[[], None]]:
        """Return what happens as soon as there are so many versions of the kernel."""
        if self.short:
            return {1: self.edit, 2: self.quota_and_kill, 3: lambda: self.outage("drop")}
        return {
            2: self.edit,
            3: self.kill,
            4: lambda: self.outage("drop"),
            6: self.quota_and_kill,
            8: self.new_key,
            9: lambda: self.outage("status", code=503),
            10: self.kill_in_a_push,
        }

    def quota_and_kill(self) -> None:
        """Let the quota run out; meanwhile `ship` is killed, and the clock put forward an hour."""
        self.lose_quota(4.0)
        refused = self.pushes_refused
        self.until(lambda: self.pushes_refused > refused, "a push was refused")
        self.clock.write_text(str(3600 / self.speed))
        self.note("the clock jumped forward by an hour")
        self.kill()
        self.until(lambda: time.monotonic() > self.quota_ends, "the quota was renewed")
        self.note("the week's GPU time was renewed")

    def new_key(self) -> None:
        """Renew the key: the old one is refused from now on."""
        self.renew_key("another-key-0123456789abcdef")
        self.note("the key was renewed")

    # --- what came of it ---

    def checks(self, status: int) -> list[tuple[str, str]]:
        """Return what was checked, and what is wrong with it ("" where nothing is)."""
        kaggle, best = self.world.kaggle, max(SKILLS[self.short])
        scripts = [
            (kaggle.kernels._folder(version) / "script.py").read_text()
            for version in kaggle.kernels._versions()
        ]
        pushed = Counter(re.search(r"'skill': '(\d+)'", text)[1] for text in scripts)
        edited = sum("EDITED" in text for text in scripts)
        counts = kaggle.counts
        sent = kaggle.store.state["submissions"]
        runs = {run.settings["skill"]: run for run in self.world.runs if run.version}
        right = f" {runs[str(best)].name} " if str(best) in runs else "?"
        printed = [line for _, line in self.lines]
        rows = {
            m[1]: m[2] for m in map(re.compile(r"skill=(\d+)\s.*?(0\.\d{4})").match, printed) if m
        }
        wanted = {str(skill): f"{skill / 40:.4f}" for skill in SKILLS[self.short]}
        ours = [line for line in printed if not line.startswith(("still ", "  skill=", "skill="))]
        repeated, times = Counter(ours).most_common(1)[0]
        outages = sum("outage of" in text for _, text in self.events)
        said = tuple(sum(bool(mark.match(x)) for x in printed) for mark in (BEGINS, ENDS))
        moments = [when for when, _ in self.lines]
        gaps = [
            later - earlier
            for earlier, later in itertools.pairwise(moments)
            if not any(earlier < start <= later for start in self.starts)
        ]
        quiet = max(gaps) * 3600 / self.speed
        allowed = 300 / self.speed + 10  # programs are not faster than in daytime
        return [
            ("exit status 0", f"it is {status}" if status else ""),
            ("each setting pushed once", str(pushed) if set(pushed.values()) != {1} else ""),
            ("all settings pushed", str(pushed) if pushed.keys() != wanted.keys() else ""),
            ("by the code that the sweep began with", f"{edited} edited" if edited else ""),
            ("one dataset version", str(counts) if counts["dataset_versions"] != 1 else ""),
            ("one submission", str(len(sent)) if len(sent) != 1 else ""),
            ("of the best run", str(sent) if right not in str(sent) else ""),
            ("the table is right", f"{rows}" if rows != wanted else ""),
            (
                "its score is known",
                "" if right != "?" and runs[str(best)].public_score is not None else "it is not",
            ),
            (
                f"a push refused for lack of quota at most 16 times ({self.pushes_refused})",
                "too often" if self.pushes_refused > 16 else "",
            ),
            (
                f"each of {outages} outages said once at its begin and end {said}",
                "" if all(outages <= n <= outages + 1 for n in said) else "it is not",
            ),
            (f"no line more than 6 times ({times})", repeated if times > 6 else ""),
            (f"never silent for long ({quiet:.1f} s)", "too long" if quiet > allowed else ""),
        ]


def main() -> None:
    """Let a night pass, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--speed", type=float, default=600, help="how much faster time passes (600)"
    )
    parser.add_argument("--short", action="store_true", help="a quarter of the night")
    parser.add_argument("--log", type=Path, help="where to write all that `ship` has printed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = {"daily_submissions": 5}
        with open_world(Path(folder), **settings) as world:
            night = Night(Path(folder), world, arguments.speed, arguments.short)
            try:
                results = night.checks(night.pass_by())
            except RuntimeError as error:
                results = [("all mishaps during the sweep", str(error))]
                night.process.kill()
                night.end()
    if arguments.log:
        arguments.log.write_text("".join(f"{when:6.2f} h  {text}\n" for when, text in night.lines))
    show(night, results)
    sys.exit(any(wrong for _, wrong in results))


def show(night: Night, results: list[tuple[str, str]]) -> None:
    """Print the events with `ship`'s progress between them, and the checks."""
    told = [(when, f"    {text}") for when, text in night.lines if TOLD.search(text)]
    for when, text in sorted([*night.events, *told]):
        print(f"{int(when):02d}:{int(when * 60) % 60:02d}  {text}")
    print()
    for what, wrong in results:
        print(f"{'WRONG' if wrong else 'ok':6} {what}{f': {wrong}' if wrong else ''}")


TOLD = re.compile(
    r"^pushed |: COMPLETE|^no usable answer|answers again|used up|public score|goes on"
)
"""The lines of `ship` that the record of the night shows."""

if __name__ == "__main__":
    main()
