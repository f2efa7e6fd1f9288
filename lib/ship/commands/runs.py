"""`ship runs`: the ledger as a table, best score first."""

import argparse
import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from ship.commands.local import named_run, run_arguments
from ship.commands.opening import REPORT
from ship.commands.paired import aligned, columns, texts
from ship.context import Context
from ship.ledger import Run, settings_text
from ship.output import say, tell

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


def table(context: Context, runs: list[Run]) -> str:
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
        for run, results in results_of(context, runs)
    ]
    return aligned(rows)


def results_of(context: Context, runs: list[Run]) -> Iterable[tuple[Run, dict]]:
    """Return runs with their results, each compared with the first one's."""
    folders = [context.folder(run) for run in runs]
    return zip(runs, columns(runs, folders), strict=True)


def csv_rows(context: Context, runs: list[Run]) -> list[dict]:
    """Return all that `ship runs` shows of each run, for programs."""
    rows = []
    for run, results in results_of(context, runs):
        of_run = {name: getattr(run, name, None) for name in CSV_COLUMNS}
        named = {"run": run.name, "settings": settings_text(run.settings)}
        rows.append(of_run | named | results)
    return rows


def csv_text(rows: list[dict]) -> str:
    """Return runs as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
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


def overview_rows(context: Context, groups: dict[str, list[Run]]) -> list[dict]:
    """Return the rows of the page of all runs; see `kernelkit.report.overview.write_overview`.

    Args:
        context: the project, Kaggle and the state.
        groups: runs by competition, in the order in which they began.
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
                "report": address(context.folder(run) / REPORT, context.project.runs),
            }
            for run, row in zip(shown, csv_rows(context, shown), strict=True)
        ]
    return rows


def address(file: Path, base: Path) -> str:
    """Return the address of a file for a page that lies in a folder, "" without such a file."""
    if not file.is_file():
        return ""
    return quote(Path(os.path.relpath(file.resolve(), base.resolve())).as_posix())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship runs`."""
    run_arguments(parser)
    parser.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    parser.add_argument("--html", action="store_true", help="write runs/runs.html to look at")


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship runs`."""
    named = [named_run(context, wanted) for wanted in dict.fromkeys(arguments.versions)]
    groups = by_competition(named or context.ledger.runs(), context.project.competition)
    if arguments.html:
        from kernelkit.report.overview import write_overview  # which imports pandas

        page = context.project.runs / "runs.html"
        write_overview(overview_rows(context, groups), page)
        return say(str(page), result=True)
    if not named:
        groups = {competition: sorted_runs(runs) for competition, runs in groups.items()}
    if arguments.json or arguments.csv:
        rows = [row for runs in groups.values() for row in csv_rows(context, runs)]
        return tell(runs=rows) if arguments.json else say(csv_text(rows).rstrip("\n"), result=True)
    if not groups:
        return say("no runs yet", result=True)
    for competition, runs in groups.items():
        if len(groups) > 1:
            say(f"{competition}:", result=True)
        say(table(context, runs), result=True)
    return None
