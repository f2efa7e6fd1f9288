"""Rehearse runs that their session's limit cuts short, and that go on in the next session.

    python tests/benchmarks/continuation.py [--minutes 0.7] [field=value ...]

The real kernel is shipped to a Kaggle on 127.0.0.1 with a limit of less than a minute; then
`ship --continue` goes on, with the output of the run before attached as a source, until a run
has done all. Printed are the epochs that each session found and added, and its public score. No
epoch may be trained twice, and every session must end in a submission.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "lib"))

from loopback.server import Loopback  # noqa: E402
from sample.competition import draw_competition  # noqa: E402 - found in lib/
from ship.commands.rehearse import SAMPLE_SETTINGS, environment_of  # noqa: E402
from ship.ledger import Ledger  # noqa: E402
from ship.project.project import Project, copy_project  # noqa: E402

SESSIONS = 12  # at most
STAGES = "head:0:1e-2:2,half:0.5:2e-3:2,all:1:3e-4:2"


def ship(project: Project, kaggle: Loopback, *arguments: str) -> None:
    """Run `ship`, and end with its words where it fails."""
    command = [sys.executable, "-P", "-m", "ship", "--project", str(project.root), *arguments]
    environment = environment_of(kaggle)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=project.root
    )
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr)


def main() -> None:
    """Ship, go on until all is done, and print a row a session."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", default="0.7", help="the limit of each session")
    parser.add_argument("settings", nargs="*", help="of the kernel, as field=value")
    options = parser.parse_args()
    settings = [f"{name}={value}" for name, value in SAMPLE_SETTINGS.items()]
    sets = [
        f"--set={s}"
        for s in [*settings, f"time_limit={options.minutes}", f"stages={STAGES}", *options.settings]
    ]
    with tempfile.TemporaryDirectory() as folder:
        work, before = Path(folder), []
        project = Project(copy_project(Project(REPOSITORY), work / "project").root)
        draw_competition(work / "competition", solution=work / "solution.csv")
        competitions = {project.competition: (work / "competition", work / "solution.csv")}
        allowed = {"daily_submissions": SESSIONS}
        with Loopback(work / "kaggle", competitions, **allowed) as kaggle:
            for session in range(SESSIONS):
                ship(project, kaggle, *(["--continue"] if session else sets))
                run = Ledger(project.runs / "ledger.jsonl").runs()[-1]
                output = project.runs / run.name
                metrics = json.loads((output / "metrics.json").read_text())
                history = output / "history.csv"
                rows = pd.read_csv(history) if history.stat().st_size > 1 else pd.DataFrame()
                epochs = rows.to_dict("records")
                assert epochs[: len(before)] == before, "an epoch was trained again"
                stopped = metrics["stopped_by_time_limit"]
                print(
                    f"{run.name}: {len(before)} epochs found, {len(epochs) - len(before)} added, "
                    f"public score {run.public_score}, {'cut short' if stopped else 'done'}",
                    flush=True,
                )
                before = epochs
                if not stopped:
                    return
    sys.exit(f"not done after {SESSIONS} sessions")


if __name__ == "__main__":
    main()
