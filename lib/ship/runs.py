"""`ship runs`: the ledger as a table, best score first."""

import argparse
import csv
import io
from collections.abc import Iterable
from pathlib import Path

from ship.context import Context
from ship.opening import REPORT
from ship.output import say, tell
from ship.paired import aligned, columns, texts
from ship.record import Run, settings_text

CSV_COLUMNS = (
    "run",
    "time",
    "commit",
    "recipe",
    "backbone",
    "image_size",
    "settings",
    "status",
    "metric",
    "score",
    "low",
    "high",
    "difference",
    "p",
    "photos",
    "gpu_minutes",
    "public_score",
    "competition",
)


def sorted_runs(runs: list[Run]) -> list[Run]:
    """Return runs by public score, best first; those without one follow, newest first."""
    newest_first = list(reversed(runs))
    return sorted(newest_first, key=lambda run: -run.merit(run.public_score))


def by_competition(runs: list[Run], present: str) -> dict[str, list[Run]]:
    """Return runs by competition, the present one first; old records that name none are of that."""
    groups: dict[str, list[Run]] = {present: []}
    for run in runs:
        groups.setdefault(run.competition or present, []).append(run)
    return {competition: group for competition, group in groups.items() if group}


def table(runs: list[Run], output: Path) -> str:
    """Return runs as a table; each is compared with the first one on the same photos."""
    rows = [
        {
            "run": run.name,
            "time": run.time,
            "commit": run.commit,
            "recipe": run.recipe,
            "backbone": run.backbone,
            "size": run.image_size,
            "settings": settings_text(run.settings),
            **texts(results),
            "status": run.shown_status,
        }
        for run, results in zip(runs, columns(runs, output), strict=True)
    ]
    return aligned(rows)


def csv_rows(runs: list[Run], output: Path) -> list[dict]:
    """Return all that `ship runs` shows of each run, for programs."""
    rows = []
    for run, results in zip(runs, columns(runs, output), strict=True):
        of_run = {name: getattr(run, name, None) for name in CSV_COLUMNS}
        named = {"run": run.name, "settings": settings_text(run.settings)}
        rows.append(of_run | named | results)
    return rows


def csv_text(groups: Iterable[list[Run]], output: Path) -> str:
    """Return the runs of each competition as CSV with one header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for runs in groups:
        writer.writerows(csv_rows(runs, output))
    return text.getvalue()


def changed(run: Run, before: Run | None) -> str:
    """Return what makes a run differ from the one before it, as a text."""
    if before is None:
        return "the first run"
    news = [f"{name}={text}" for name, text in run.settings.items() if name not in before.settings]
    for name, text in before.settings.items():
        if run.settings.get(name) != text:
            news.append(f"{name}: {text} to {run.settings.get(name, 'its default')}")
    if run.code != before.code:
        news.append("the kernel")
    if run.data != before.data:
        news.append("lib/, weights or wheels")
    return ", ".join(news) or "nothing"


def overview_rows(groups: dict[str, list[Run]], output: Path) -> list[dict]:
    """Return the rows of the page of all runs; see `report.overview.write_overview`.

    Args:
        groups: runs by competition, in the order in which they began.
        output: the folder that holds each run's folder.
    """
    rows = []
    for runs in groups.values():
        before = dict(zip((run.name for run in runs), [None, *runs], strict=False))
        shown = sorted_runs(runs)
        rows += [
            row
            | {
                "changed": changed(run, before[run.name]),
                "page": run.page if run.version else "",
                "report": f"{run.name}/{REPORT}" if (output / run.name / REPORT).is_file() else "",
            }
            for run, row in zip(shown, csv_rows(shown, output), strict=True)
        ]
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship runs`."""
    parser.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    parser.add_argument("--html", action="store_true", help="write runs/runs.html to look at")


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship runs`."""
    output = context.project.runs
    groups = by_competition(context.ledger.runs(), context.project.competition)
    if arguments.html:
        from report.overview import write_overview  # which imports pandas

        write_overview(overview_rows(groups, output), output / "runs.html")
        return say(str(output / "runs.html"), result=True)
    groups = {competition: sorted_runs(runs) for competition, runs in groups.items()}
    if arguments.json:
        return tell(runs=[row for runs in groups.values() for row in csv_rows(runs, output)])
    if arguments.csv:
        return say(csv_text(groups.values(), output).rstrip("\n"), result=True)
    if not groups:
        return say("no runs yet", result=True)
    for competition, runs in groups.items():
        if len(groups) > 1:
            say(f"{competition}:", result=True)
        say(table(runs, output), result=True)
    return None
