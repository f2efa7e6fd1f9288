"""`ship fetch`: download the complete output of one version; `ship open`: show its report.

A folder counts as fetched when the run's record says which files were verified and they are still
there: each by its size, and submission.csv by being a table. Everything else is fetched anew.
"""

import argparse
import fnmatch
import re
import shutil
import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kernelkit.core import contract
from kernelkit.core.files import temporary_name
from kernelkit.core.problem import Problem
from ship.command_line import option, switch
from ship.commands.live_runs import refresh, text_of
from ship.context import Context
from ship.kaggle.client_process import CredentialsRefused, Refused
from ship.kaggle.credentials import whole, without_secrets
from ship.kaggle.response_schemas import stays_inside
from ship.ledger import Run
from ship.output import emit_json, progress_bar, say

SUBMISSION = "submission.csv"
REPORT = "report.html"
CHANGED_HERE = re.compile(r"report\.html|report/|score\.json|(suspects|unlike)\.csv")
"""Names of files that people mark and that the report is made anew in: their sizes may change."""


def fetch(context: Context, run: Run, again: bool = False) -> Path:
    """Fetch the output of a run that is over into runs/<slug>-v<N>/ and return that folder.

    The folder appears when everything is there. The files of a fetch that was cut short stay in
    `<folder>.part` and are not fetched again. With `again`, verified files are fetched too. Raises
    Problem where the run is not known to be over, a file can't be fetched, or submission.csv is no
    table.
    """
    context.doing(f"fetching the output of {run.name}")
    folder = context.folder(run)
    if not again and is_verified(folder, run):
        say(f"the output of {run.name} is in {folder}")
        return folder
    _require_end(context, run)
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    files, log = _complete_list(context, run)
    _download(context, run, files, part)
    log_file = part / f"{run.kernel.split('/')[1]}.log"
    log_file.write_text(without_secrets(whole(text_of(log))), encoding="utf-8")
    if "fetched" in run.verified:
        _carry_over(folder, part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    say(f"fetched {run.name} into {folder}")
    if wrong := _no_table(folder / SUBMISSION):
        run.files = {}
        context.ledger.keep(run)
        raise Problem(
            f"{folder / SUBMISSION} {wrong}: the next `ship` fetches the output anew. If the run "
            f"wrote it so, correct the kernel, or `{context.again}` runs the same once more."
        )
    _note_fetched(context, run, folder, {log_file.name, *files})
    return folder


def _carry_over(folder: Path, part: Path) -> None:
    """Move what only this machine has into the new folder: lists that people mark, own files."""
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        name = file.relative_to(folder).as_posix()
        if not (part / name).exists() or (CHANGED_HERE.match(name) and file.suffix == ".csv"):
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            file.replace(part / name)


def is_verified(folder: Path, run: Run) -> bool:
    """Tell whether all files that were fetched are still there as they were verified."""
    sizes = {folder / name: size for name, size in run.files.items()}
    there = all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())
    return bool(sizes) and there and not _no_table(folder / SUBMISSION)


def _no_table(path: Path) -> str:
    """Return why an existing file is no table that could be submitted, "" when it is one."""
    text = path.read_bytes()[:4096].lstrip() if path.exists() else b"1\n2\n"
    if text.startswith(b"<"):
        return "is a web page"
    lines = text.splitlines()
    return "" if len(lines) > 1 else f"has {len(lines)} lines"


def _note_fetched(context: Context, run: Run, folder: Path, names: Iterable[str]) -> None:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    sizes = {n: path.stat().st_size for n, path in found.items() if n in names and path.is_file()}
    run.files = {name: size for name, size in sizes.items() if not CHANGED_HERE.match(name)}
    run.verified["fetched"] = f"the sizes of {len(sizes)} files"
    metrics = read_metrics(folder)
    measure(run, metrics)
    if found := metrics.get("packages"):
        run.found = str(found)
        run.verified["mounted"] = "the hash of the packages in metrics.json"
    context.ledger.keep(run)
    emit_json(folder=str(folder), metric=run.metric, score=run.score)


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return the values in a run's metrics.json, {} when there is none that can be read."""
    try:
        return contract.read_metrics(folder)
    except Problem:
        return {}


def measure(run: Run, metrics: dict[str, Any]) -> None:
    """Put into a run's record what it has measured, as its metrics.json has it."""
    run.metric = str(metrics.get("metric") or run.metric)
    run.greater_is_better = metrics.get("greater_is_better") is not False
    for name in ("score", "score_low", "score_high"):
        setattr(run, name, metrics.get(name))


def _require_end(context: Context, run: Run) -> None:
    status = refresh(context, run)
    if not run.ended:
        known = status if status != "UNKNOWN" else "in a state that Kaggle does not tell"
        raise Problem(f"{run.name} is {known}: wait for its end with `ship follow`.")


def _complete_list(context: Context, run: Run) -> tuple[dict[str, str], list[dict]]:
    """Return a run's output files as name to address, and the entries of its log.

    A run that is complete has a submission: until that is listed, Kaggle is asked again.
    """
    files: dict[str, str] = {}
    log: list[dict] = []

    def is_complete() -> bool:
        listed, log[:] = context.remote.run_output(run.kernel, run.version)
        files.update(listed)
        return SUBMISSION in files or run.failed

    lagging = f"Kaggle does not list {SUBMISSION} of {run.name} yet; asking again"
    if not context.ask_until(is_complete, context.timeouts.prove, lagging):
        raise Problem(
            f"Kaggle lists {len(files)} output files of {run.name} and no {SUBMISSION}: see "
            f"{run.page}; the same command asks again, `ship fetch --pattern '*'` takes them. If "
            f"the run wrote none, correct the kernel, or `{context.again}` runs it once more."
        )
    return files, log


def _download(context: Context, run: Run, files: dict[str, str], folder: Path) -> None:
    targets = _targets(folder, files)
    urls, done, known, shown = dict(files), 0, 0, "fetch"
    with progress_bar("fetch") as show:

        def advance(received: int, total: int) -> None:
            nonlocal known
            known = max(done + max(received, total), known)
            show(done + received, known, shown)

        with context.remote.reporting(advance):
            for number, (name, target) in enumerate(targets.items(), start=1):
                shown = f"fetch {number}/{len(targets)}"
                if not target.exists():
                    urls = _fetch_file(context, run, name, target, urls)
                done += target.stat().st_size
                advance(0, 0)  # what was here already is not reported


def _fetch_file(
    context: Context, run: Run, name: str, target: Path, urls: dict[str, str]
) -> dict[str, str]:
    """Fetch an output file and return the addresses for the next ones: expired ones are renewed."""
    what, fields = f"output file {name} of {run.name}", {"path": str(target)}
    fields["part"] = str(temporary_name(target))
    try:
        context.remote.call("download", what, url=urls[name], **fields)
        return urls
    except (CredentialsRefused, Refused):
        urls = dict(context.remote.run_output(run.kernel, run.version)[0])
    try:
        context.remote.call("download", what, url=urls.get(name, ""), **fields)
    except Refused as refusal:
        raise Problem(
            f"{refusal}; nothing of it was saved. Run the same command again: the files that were "
            "fetched stay."
        ) from None
    return urls


def _targets(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    found = {}
    for name in names:
        if name and name != "." and stays_inside(name):
            found[name] = folder / name
        else:
            say(f"the output file {name!r} is left out: its name would lead out of the folder")
    return found


def fetch_some(context: Context, run: Run, pattern: str, again: bool = False) -> None:
    """Fetch the output files whose names are of a pattern into the run's folder."""
    _require_end(context, run)
    listed = dict(context.remote.run_output(run.kernel, run.version)[0])
    files = {name: url for name, url in listed.items() if fnmatch.fnmatch(name, pattern)}
    if not files:
        raise Problem(f"none of the {len(listed)} files of {run.name} is of that pattern.")
    folder = context.folder(run)
    for target in _targets(folder, files if again else ()).values():
        target.unlink(missing_ok=True)
    _download(context, run, files, folder)
    run.verified.setdefault("fetched", f"{len(files)} files of a pattern")
    context.ledger.keep(run)
    say(f"fetched {len(files)} of {len(listed)} files into {folder}")


ARGUMENTS = (
    switch("--again", "fetch what is here already, too"),
    option("--pattern",
        "only the files of this pattern, such as '*.csv' or 'members/*', into the same folder",
        metavar="GLOB"),
)  # fmt: skip


def run_fetch(context: Context, arguments: argparse.Namespace) -> None:
    """Fetch a run's output."""
    [run] = arguments.runs
    with context.holding(run):
        if arguments.pattern:
            return fetch_some(context, run, arguments.pattern, arguments.again)
        fetch(context, run, arguments.again)


def run_open(context: Context, arguments: argparse.Namespace) -> None:
    """Show a run's report in a browser."""
    [run] = arguments.runs
    report = context.folder(run) / REPORT
    if not report.is_file():
        raise Problem(
            f"there is no {report}: `ship fetch {run.name}` fetches the run's "
            f"output; `python kernel.py --report {report.parent}` makes the report anew."
        )
    emit_json(report=str(report))
    if context.dry_run:
        return say(f"would open {report}")
    webbrowser.open(report.resolve().as_uri())  # False where there is no browser
    return say(str(report), result=True)
