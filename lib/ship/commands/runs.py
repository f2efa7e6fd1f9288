"""`ship runs`: the runs of the ledger, or in folders of output, as a table with the best first.

Each run is compared with the first of the table on the photos that validated both. `ship compare`
shows what changed between two runs, and which photos only one of them gets right.
"""

import argparse
import contextlib
import csv
import difflib
import io
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kernelkit.core.contract import ValidationPredictions, read_validation
from kernelkit.core.problem import Problem
from ship.command_line import Usage, Version, switch, version_arguments, version_or
from ship.commands.fetch import REPORT, measure, read_metrics
from ship.commands.push import chosen_run
from ship.context import Context
from ship.ledger import Run, settings_text
from ship.output import emit_json, say

FORMS = {
    **{name: f"{{{name}}}" for name in ("setting", "run", "time", "commit", "recipe", "backbone")},
    "size": "{image_size}",
    "settings": "{settings}",
    "metric": "{metric}",
    "val": "{score:.4f}",
    "95 %": "{low:.4f}..{high:.4f}",
    "to first": "{difference:+.4f}",
    "p": "{p:.3f}",
    "on photos": "{photos}",
    "GPU min": "{gpu_minutes:.1f}",
    "score": "{public_score:.5f}",
    "status": "{status}",
}
"""The columns of a table, each with the form of its cells from a row of `rows_of`."""
RESULTS = ("metric", "val", "95 %", "to first", "p", "on photos", "GPU min", "score")
COMPARED = ("difference", "p", "photos")  # with the first run of a table
CSV_COLUMNS = (
    *("run", "time", "commit", "recipe", "backbone", "image_size", "settings", "status"),
    *("metric", "score", "low", "high", *COMPARED),
    *("gpu_minutes", "public_score", "competition"),
)
MADE_OF = ("recipe", "backbone", "image_size", "commit", "packages")
MOST = 20  # photos of a kind that are listed; --json has all
OPTIONS_OF_PLACE = ("data", "output", "fresh")  # of the kernel: they do not change its results


# --- which runs ---


@dataclass
class LocalRun(Run):
    """A run of the kernel on this machine, whose output lies in a folder of a person's choice."""

    folder: Path = Path()


RUNS = version_arguments(version_or(Path.is_dir), "RUN", ", or by the folder of its output")


def named_run(context: Context, wanted: Version | Path) -> Run:
    """Return the run of a version, or that whose output is in a folder; Problem without one."""
    if isinstance(wanted, Version):
        return chosen_run(context, wanted)
    for known in context.ledger.runs():
        if context.folder(known).resolve() == wanted.resolve():
            return known
    return _run_in(wanted)


def _run_in(folder: Path) -> LocalRun:
    if not folder.is_dir():
        raise Problem(f"{folder} is neither a folder that is there nor a version.")
    metrics = read_metrics(folder)
    if not metrics:
        raise Problem(
            f"{folder} holds no finished run: there is no metrics.json in it that can be read."
        )
    size, packages = metrics.get("image_size"), metrics.get("packages", "")
    ended = time.localtime((folder / "metrics.json").stat().st_mtime)
    run = LocalRun(
        str(folder),
        time=time.strftime("%Y-%m-%d %H:%M:%S", ended),
        recipe=metrics.get("recipe", ""),
        backbone=metrics.get("backbone", ""),
        image_size="x".join(map(str, size or ())),
        settings=_settings_in(metrics.get("command", "")),
        packages=packages,
        found=packages,
        status="complete",
        folder=folder,
    )
    measure(run, metrics)
    if "GPU" in str(metrics.get("devices")) and "seconds" in metrics:
        run.gpu_minutes = round(metrics["seconds"] / 60, 1)
    return run


def _settings_in(command: str) -> dict[str, str]:
    settings = {}
    for option in command.split(" --")[1:]:
        name, _, text = option.replace(" ", "=", 1).partition("=")
        with contextlib.suppress(ValueError):  # quotes that are not closed
            settings[name.replace("-", "_")] = " ".join(shlex.split(text))
    return {name: text for name, text in settings.items() if name not in OPTIONS_OF_PLACE}


# --- how good they are ---


@dataclass(frozen=True)
class Pair:
    """Two runs on the photos that validated both with the same label."""

    photos: int
    only_first: list[str]  # the Ids that only the first run gets right
    only_second: list[str]
    difference: float  # the second's value of the metric less the first's
    p: float  # how often chance alone gives so large a difference
    test: str


def predictions_in(folder: Path) -> ValidationPredictions | None:
    """Return a run's validation predictions, None where there are none that can be read."""
    with contextlib.suppress(Problem):
        return read_validation(folder)
    return None


def answers(predictions: ValidationPredictions) -> dict[str, tuple[str, str]]:
    """Return label and most probable class of each photo by its Id."""
    best = [predictions.classes[place] for place in predictions.probabilities.argmax(1)]
    return dict(zip(predictions.ids, zip(predictions.labels, best, strict=True), strict=True))


def compared(first: ValidationPredictions, second: ValidationPredictions, name: str) -> Pair | None:
    """Compare two runs by a row of METRICS, or by accuracy; None where no photo validated both."""
    import numpy as np

    from kernelkit.core.metrics import mcnemar, metric_named

    ours, theirs = answers(first), answers(second)
    shared = [one for one in ours if one in theirs and ours[one][0] == theirs[one][0]]
    if not shared:
        return None
    right, other = ({i for i in shared if run[i][0] == run[i][1]} for run in (ours, theirs))
    only_first, only_second = sorted(right - other), sorted(other - right)
    metric = metric_named(name)
    if metric.is_fraction or first.classes != second.classes:
        difference = (len(only_second) - len(only_first)) / len(shared)
        p, test = mcnemar(len(only_second), len(only_first)), "exact McNemar test"
    else:
        tables = [dict(zip(r.ids, r.probabilities, strict=True)) for r in (first, second)]
        before, after = (np.stack([rows[one] for one in shared]) for rows in tables)
        places = {label: place for place, label in enumerate(first.classes)}
        truth = np.asarray([places[ours[one][0]] for one in shared])
        difference = metric.sign * metric.gain(before, after, truth)[0]
        p, test = metric.gain_p(before, after, truth), "paired by photo"
    return Pair(len(shared), only_first, only_second, difference, p, test)


def rows_of(context: Context, runs: list[Run]) -> list[dict[str, Any]]:
    """Return what is known of each run under CSV_COLUMNS, None for what is not.

    `low` to `high` is the 95 % interval of the score; COMPARED is relative to the first run.
    """
    rows, first = [], None
    for run in runs:
        predictions = predictions_in(context.folder(run)) if first or not rows else None
        pair = compared(first, predictions, run.metric) if first and predictions else None
        first = first if rows else predictions
        row = {name: getattr(run, name, None) for name in CSV_COLUMNS}
        row |= {"run": run.name, "settings": settings_text(run.settings)}
        row |= {"status": run.shown_status, "metric": None if run.score is None else run.metric}
        row |= {"low": run.score_low, "high": run.score_high}
        rows.append(row | {name: getattr(pair, name, None) for name in COMPARED})
    return rows


# --- how they are shown ---


def sorted_runs(runs: list[Run]) -> list[Run]:
    """Return runs by public score, best first; those without one follow, newest first.

    What the newest with a score counts as better is: a metric may have been corrected since.
    """
    newest_first = list(reversed(runs))
    judge = next((run for run in newest_first if run.public_score is not None), Run(""))
    return sorted(newest_first, key=lambda run: -judge.merit(run.public_score))


def table(rows: list[dict[str, Any]], columns: tuple[str, ...] = tuple(FORMS)) -> str:
    """Return rows of `rows_of` as aligned columns; one that is empty everywhere is left out."""
    lines = [{name: name for name in columns}, *(_cells(row, columns) for row in rows)]
    shown = [name for name in columns if any(line[name] for line in lines[1:])]
    widths = {name: max(len(line[name]) for line in lines) for name in shown}
    texts = ("  ".join(line[name].ljust(widths[name]) for name in shown) for line in lines)
    return "\n".join(text.rstrip() for text in texts)


def _cells(row: dict[str, Any], columns: tuple[str, ...]) -> dict[str, str]:
    known = {name: value for name, value in row.items() if value is not None}
    if known.get("metric") == "accuracy":
        known["metric"] = ""
    cells = dict.fromkeys(columns, "")
    for name in columns:
        with contextlib.suppress(KeyError):  # what is not known
            cells[name] = FORMS[name].format(**known)
    return cells


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Return rows of `rows_of` as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _changed(run: Run, before: Run | None) -> str:
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


def _rows_of_page(context: Context, runs: list[Run]) -> list[dict[str, Any]]:
    before = dict(zip((run.name for run in runs), [None, *runs], strict=False))
    shown = sorted_runs(runs)
    rows = rows_of(context, shown)
    for run, row in zip(shown, rows, strict=True):
        report = context.folder(run) / REPORT
        path = os.path.relpath(report.resolve(), context.project.runs.resolve())
        row["changed"] = _changed(run, before[run.name])
        row["page"] = run.page if run.version else ""
        row["report"] = quote(Path(path).as_posix()) if report.is_file() else ""
    return rows


ARGUMENTS = (
    *RUNS,
    switch("--csv", "print CSV instead of a table"),
    switch("--html", "write runs/runs.html to look at"),
)


def run_runs(context: Context, arguments: argparse.Namespace) -> None:
    """Show the ledger of all runs."""
    named = [named_run(context, wanted) for wanted in dict.fromkeys(arguments.versions)]
    present = context.project.competition
    groups: dict[str, list[Run]] = {present: []}  # the present competition's runs come first
    for one in named or context.ledger.runs():
        groups.setdefault(one.competition or present, []).append(one)
    groups = {competition: runs for competition, runs in groups.items() if runs}
    if arguments.html:
        from kernelkit.report.writing import write_overview  # which imports pandas

        page = context.project.runs / "runs.html"
        rows = [row for runs in groups.values() for row in _rows_of_page(context, runs)]
        write_overview(rows, page)
        emit_json(page=str(page))
        return say(str(page), result=True)
    tables = {
        competition: rows_of(context, runs if named else sorted_runs(runs))
        for competition, runs in groups.items()
    }
    rows = [row for rows in tables.values() for row in rows]
    emit_json(runs=rows)
    if arguments.csv:
        return say(csv_text(rows).rstrip("\n"), result=True)
    for competition, rows in tables.items():
        if len(tables) > 1:
            say(f"{competition}:", result=True)
        say(table(rows), result=True)
    return None if rows else say("no runs yet", result=True)


# --- two runs ---


def _changes(first: Run, second: Run) -> dict[str, tuple[str, str]]:
    ours, theirs = (
        {name: str(getattr(run, name)) for name in MADE_OF} | run.settings
        for run in (first, second)
    )
    both = {name: (ours.get(name, "-"), theirs.get(name, "-")) for name in ours | theirs}
    return {name: (a, b) for name, (a, b) in both.items() if a != b}


def _kernel_diff(context: Context, first: Run, second: Run) -> list[str]:
    """Return how the scripts that were pushed differ, as lines of a unified diff."""
    try:
        scripts = [_script_of(context, run) for run in (first, second)]
    except Problem as problem:
        return [f"(the scripts can't be compared: {problem})"]
    lines = [[line for line in text.splitlines() if "# ship:" not in line] for text in scripts]
    return list(difflib.unified_diff(*lines, first.name, second.name, n=2, lineterm=""))


def _script_of(context: Context, run: Run) -> str:
    if not run.version:
        raise Problem(f"{run.name} was run on this machine, which keeps no script")
    kept = context.project.runs / "kernels" / f"{run.name}.py"
    if kept.is_file():
        return kept.read_text(encoding="utf-8", errors="replace")
    return context.remote.source(run.kernel, run.version)


def _say_photos(names: list[str], run: Run, other: ValidationPredictions) -> None:
    if not names:
        return
    say(f"only {run.name} gets {len(names)} right:", result=True)
    taken = answers(other)
    for name in names[:MOST]:
        say("  {}: {}, taken for {}".format(name, *taken[name]), result=True)
    if len(names) > MOST:
        say(f"  and {len(names) - MOST} more", result=True)


def run_compare(context: Context, arguments: argparse.Namespace) -> None:
    """Show how two runs differ: settings, kernel, photos."""
    if len(arguments.versions) != 2:
        raise Usage(
            "`ship compare` takes two runs, such as `ship compare 1 2` or two folders of output, "
            f"not {len(arguments.versions)}."
        )
    both = first, second = [named_run(context, wanted) for wanted in arguments.versions]
    if len({first.competition, second.competition} - {""}) > 1:
        raise Problem(
            f"{first.name} is a run for {first.competition}, {second.name} for "
            f"{second.competition}: only runs for one competition are compared."
        )
    changed, diff = _changes(first, second), _kernel_diff(context, first, second)
    for name, (a, b) in changed.items():
        say(f"{name}: {a} -> {b}", result=True)
    say("\n".join(diff) if diff else "the scripts are the same", result=True)
    rows = rows_of(context, both)
    say(table(rows, ("run", *RESULTS)), result=True)
    predictions = [predictions_in(context.folder(run)) for run in both]
    pair = compared(*predictions, second.metric) if all(predictions) else None
    emit_json(changed=changed, diff=diff, results=rows, photos=vars(pair) if pair else None)
    if pair:
        side = "below" if pair.difference < 0 else "above"
        say(
            f"{pair.photos} photos validated both: the {second.metric} of {second.name} is "
            f"{abs(pair.difference):.4f} {side} {first.name}'s, p = {pair.p:.3f} ({pair.test})",
            result=True,
        )
        _say_photos(pair.only_first, first, predictions[1])
        return _say_photos(pair.only_second, second, predictions[0])
    why = "none validated both"
    if lacking := [one for one, found in zip(both, predictions, strict=True) if not found]:
        name, fetched = lacking[0].name, lacking[0].version
        why = f"there are no probabilities of {name} here"
        why += f": `ship fetch {name}` brings the output" if fetched else ""
    return say(f"their photos can't be compared, because {why}", result=True)
