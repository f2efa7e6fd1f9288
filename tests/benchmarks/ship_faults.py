"""Every fault at every call, and kills at any moment, while two runs are under way.

python tests/benchmarks/ship_faults.py [--kills 63] [--only SaveKernel] [--results FILE]

Each trial has a project and a loopback Kaggle of its own. `ship sweep` drives two settings at once,
or two `ship`s do so side by side; a fault is injected into one call, or the processes are killed
at random moments. Then the same commands are given until they succeed. Each setting must end with
one run, one submission and the right score, every failure in one sentence, and none in a traceback.
In a code competition one `ship` goes through both kernels: two datasets, two runs, one submission.

Each result is appended to the results' file, so the script can be stopped at any time and goes on
with the trials that are missing. At the end it prints the table of what happened.
"""

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "ship"), str(TESTS.parent / "lib")]

from shipping import (  # noqa: E402
    BOTH_ONCE,
    CODE,
    CODE_ONCE,
    COMPETITION,
    SCORE,
    TWO,
    World,
    make_competition,
    open_world,
)

TIMEOUT = 1.0
SWEEP = ("sweep", "shift=0,1", "--set", "seconds=0.4", "--submit", "all")
SEEN = CODE[1:]  # without --code: Kaggle tells that the competition takes kernels only
ATTEMPTS = 8
"""How often a `ship` may be given again until all has arrived."""

BY_SWEEP = (
    "GetDataset",
    "StartBlobUpload",
    "PUT blob",
    "CreateDataset",
    "CreateDatasetVersion",
    "GetDatasetStatus",
    "ListDatasetFiles",
    "GetAcceleratorQuotaStatistics",
    "GetKernel",
    "ListKernels",
    "SaveKernel",
    "GetKernelSessionStatus",
    "ListKernelSessionOutput",
    "GET output",
    "GetSubmissionLimits",
    "DownloadDataFile",
    "GET data",
    "StartSubmissionUpload",
    "CreateSubmission",
    "ListSubmissions",
    "CreateCodeSubmission",
    "IntrospectToken",
)
BY_CODE = {
    "GetCompetition": 0,
    "GetDataset": 2,
    "CreateDataset": 1,
    "GetKernel": 2,
    "SaveKernel": 1,
    "ListKernelSessionOutput": 2,
    "CreateCodeSubmission": 0,
    "ListSubmissions": 2,
}
"""Calls of a code competition's way, and how many pass before the one that fails."""
BY_TWO = ("ListDataFiles", "GET log")
"""Calls that `ship` makes and `ship sweep` does not."""
CHANGING = (
    "CreateDataset",
    "CreateDatasetVersion",
    "SaveKernel",
    "CreateSubmission",
    "CreateCodeSubmission",
)

PAGE = {"body": "<html>busy</html>", "content_type": "text/html"}
FAULTS = {
    **{str(code): ("status", {"code": code}) for code in (400, 401, 403, 404, 500, 503)},
    "429, come back": ("status", {"code": 429, "retry_after": 0.2}),
    "dropped": ("drop", {}),
    "no answer": ("hang", {"seconds": 60}),
    "slow": ("late", {"seconds": 0.6}),
    "too slow": ("late", {"seconds": TIMEOUT + 0.5}),
    "web page": ("body", PAGE),
    "JSON list": ("body", {"body": ["x"]}),
    "nothing": ("body", {"body": {}}),
    "null": ("body", {"body": None}),
    "error in a 200": ("body", {"body": {"code": 500, "message": "oops"}}),
    "half of the JSON": ("body", {"body": '{"a": ', "content_type": "application/json"}),
    "cut": ("cut", {"fraction": 0.4}),
    "cut untold": ("cut", {"fraction": 0.4, "with_length": False}),
    "partial": ("partial", {"fraction": 0.5}),
    "dropped afterwards": ("drop", {"effect": True}),
    "web page afterwards": ("body", PAGE | {"effect": True}),
    "500 afterwards": ("body", PAGE | {"effect": True, "code": 500}),
    "JSON list afterwards": ("body", {"body": ["x"], "effect": True}),
    "nothing afterwards": ("body", {"body": {}, "effect": True}),
}
BYTES_ONLY = ("cut untold",)
JSON_ONLY = ("JSON list", "nothing", "null", "error in a 200", "half of the JSON")


@dataclass(frozen=True)
class Trial:
    """A world, what goes wrong in it, and how two settings are shipped."""

    name: str
    spoil: Callable[[World], None]
    by_sweep: bool = True
    code: bool = False
    token: bool = False
    again: bool = False
    """The dataset is there already, in an older version."""
    predicts: bool = False
    """It is a code competition: one `ship` goes through both kernels."""


def applies(call: str, name: str) -> bool:
    """Tell whether a fault can happen to a call."""
    if name == "partial":
        return call == "PUT blob"
    if name in BYTES_ONLY:
        return call in ("GET output", "GET data")
    if call == "GET log" and name == "slow":
        return False  # a stream has no end that could come late
    if name.endswith("afterwards"):
        return call in CHANGING
    return name not in JSON_ONLY or not call.startswith(("GET ", "PUT "))


def fault_trials(rounds: int) -> Iterator[Trial]:
    """Yield a trial for each fault at each call, and with more rounds at its later calls."""
    for after in range(rounds):
        for call in (*BY_SWEEP, *BY_TWO):
            for name, (kind, details) in FAULTS.items():
                if not applies(call, name):
                    continue

                def spoil(world: World, call=call, kind=kind, details=details, after=after) -> None:
                    if call == "ListKernels":  # asked only after an answer was lost
                        world.kaggle.faults.add("SaveKernel", "drop")
                    world.kaggle.faults.add(call, kind, after=after, **details)

                more = {
                    "by_sweep": call not in BY_TWO,
                    "code": call == "CreateCodeSubmission",
                    "token": call == "IntrospectToken",
                    "again": call == "CreateDatasetVersion",
                }
                later = f", after {after}" if after else ""
                yield Trial(f"{call}: {name}{later}", spoil, **more)


def kill_trials(count: int) -> Iterator[Trial]:
    """Yield trials in which the processes are killed twice at random moments."""
    for seed in range(count):
        by_sweep = seed % 3 == 2

        def spoil(world: World, seed=seed, by_sweep=by_sweep) -> None:
            moment = random.Random(1000 + seed)
            for _ in range(2):
                both = [world.start(*one) for one in ((SWEEP,) if by_sweep else TWO)]
                for process in both:
                    time.sleep(moment.uniform(0.2, 5.0 if by_sweep else 2.5))
                    process.kill()
                for process in both:
                    process.communicate()

        yield Trial(f"kill {seed}", spoil, by_sweep)


def code_trials(kills: int) -> Iterator[Trial]:
    """Yield trials of a code competition, with faults and with three kills each."""
    for call, after in BY_CODE.items():
        for name, (kind, details) in FAULTS.items():
            if applies(call, name):

                def spoil(world: World, call=call, kind=kind, details=details, after=after) -> None:
                    world.kaggle.faults.add(call, kind, after=after, **details)

                yield Trial(f"code {call}: {name}", spoil, predicts=True)
    for seed in range(kills):

        def killed(world: World, seed=seed) -> None:
            moment = random.Random(seed)
            for _ in range(3):
                process = world.start(*SEEN)
                time.sleep(moment.uniform(0.5, 6.0))
                process.kill()
                process.communicate()

        yield Trial(f"code kill {seed}", killed, predicts=True)


def perform(trial: Trial) -> dict:
    """Make a trial and return what happened; `wrong` says what should not have."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        hidden = {COMPETITION: make_competition(Path(folder, "hidden"))} if trial.predicts else {}
        world = stack.enter_context(open_world(Path(folder), hidden=hidden))
        try:
            sentences, wrong = shipped(world, trial), ""
        except AssertionError as error:
            sentences, wrong = [], str(error)[:2000]
        left = world.kaggle.faults.left()
        counts = world.kaggle.counts
    return {
        "trial": trial.name,
        "wrong": wrong,
        "happened": not left,
        "sentences": sentences,
        "counts": counts,
        "seconds": round(time.monotonic() - began, 1),
    }


def shipped(world: World, trial: Trial) -> list[str]:
    """Ship both settings, check what arrived, and return the sentences of failures."""
    changes = {"SHIP_TIMEOUT": str(TIMEOUT)}
    if trial.token:
        changes |= {"KAGGLE_API_TOKEN": "KGAT_1234", "KAGGLE_USERNAME": "", "KAGGLE_KEY": ""}
    versions = 1
    if trial.again:
        assert world.ship("bundle").status == 0
        (world.project / "lib" / "photos" / "more.py").write_text("X = 2\n")
        versions = 2
    trial.spoil(world)
    if trial.predicts:
        sentences = world.until_done([SEEN], ATTEMPTS, **changes)
        assert world.kaggle.counts == CODE_ONCE, world.kaggle.counts
        scores = [run.public_score for run in world.runs if run.public_score is not None]
        assert scores == [SCORE], scores
        return sentences
    commands = [SWEEP] if trial.by_sweep else TWO
    if trial.code:
        commands = [SWEEP[:-2]]  # without --submit
    sentences = world.until_done(commands, ATTEMPTS, **changes)
    if trial.code:
        for number in ("1", "2"):
            command = ("submit", "--code", "--version", number)
            sentences += world.until_done([command], ATTEMPTS, **changes)
    wanted = BOTH_ONCE | {"dataset_versions": versions}
    assert world.kaggle.counts == wanted, world.kaggle.counts
    scores = sorted(run.public_score or 0 for run in world.runs)
    assert scores == [0.11111, SCORE], scores
    return sentences


def show(results: list[dict]) -> None:
    """Print the table: a row a call or kind of kill, and what went wrong."""
    rows: dict[str, list[dict]] = {}
    for result in results:
        name = result["trial"]
        row = re.sub(r"kill \d+", "kills", name.split(":")[0])
        rows.setdefault(row, []).append(result)
    print(f"{'':30} trials  happened  at once  more ships  wrong")
    for name, found in rows.items():
        good = [result for result in found if not result["wrong"]]
        least = Counter(not result["sentences"] for result in good)
        happened = sum(result["happened"] for result in found)
        print(
            f"{name:30} {len(found):6}  {happened:8}  {least[True]:7}  {least[False]:10}  "
            f"{len(found) - len(good):5}"
        )
    for result in results:
        if result["wrong"]:
            print(f"WRONG {result['trial']}: {result['wrong'][:300]}")
    print(f"{len(results)} trials, {sum(bool(result['wrong']) for result in results)} wrong")


def main() -> None:
    """Make the trials that are missing in the results' file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=63, help="how many trials with kills")
    parser.add_argument("--rounds", type=int, default=1, help="at the first call, the second, ...")
    parser.add_argument("--only", default="", help="only trials whose name holds this text")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(tempfile.gettempdir(), "ship_faults.jsonl"),
        help="where the results are kept",
    )
    parser.add_argument("--again", action="store_true", help="repeat the trials that went wrong")
    parser.add_argument(
        "--part",
        default="1/1",
        metavar="K/N",
        help="the K-th of N parts, which may go side by side",
    )
    arguments = parser.parse_args()
    kept = arguments.results.read_text().splitlines() if arguments.results.exists() else []
    results = {result["trial"]: result for result in map(json.loads, kept)}
    trials = [*fault_trials(arguments.rounds), *kill_trials(arguments.kills)]
    trials += code_trials(arguments.kills // 3)
    part, parts = map(int, arguments.part.split("/"))
    trials = [trial for trial in trials if arguments.only in trial.name][part - 1 :: parts]
    for number, trial in enumerate(trials, start=1):
        known = results.get(trial.name)
        if known and not (arguments.again and known["wrong"]):
            continue
        result = perform(trial)
        results[trial.name] = result
        with arguments.results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        mark = "WRONG " if result["wrong"] else ""
        print(f"{number}/{len(trials)} {mark}{trial.name}  {result['seconds']} s", flush=True)
    show([results[trial.name] for trial in trials])
    sys.exit(any(results[trial.name]["wrong"] for trial in trials))


if __name__ == "__main__":
    main()
