"""`ship fetch`: download the complete output of one version; `ship open`: show its report.

A folder counts as fetched when the run's record says which files were verified and they are still
there: each by its size, and submission.csv by being a table. Everything else is fetched anew.
"""

import argparse
import contextlib
import fnmatch
import itertools
import re
import shutil
import unicodedata
import webbrowser
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from kernelkit.core import contract
from kernelkit.core.problem import Problem
from ship.command_line import Parser
from ship.commands.live_runs import refresh, text_of
from ship.context import Context
from ship.kaggle.client_process import CredentialsRefused, Refused, Unavailable
from ship.kaggle.credentials import whole, without_secrets
from ship.kaggle.response_schemas import LARGEST
from ship.ledger import Run
from ship.output import emit_json, progress_bar, say
from ship.project.contents import sha256

SUBMISSION = "submission.csv"
REPORT = "report.html"
RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}
"""File names, without an ending, that Windows keeps for devices."""
LONGEST_NAME = 255  # bytes of the longest file name that systems keep
MEASURED = ("score", "score_low", "score_high")
MEASURED += ("val_accuracy", "val_accuracy_tta", "val_accuracy_submitted")
CHANGED_HERE = re.compile(r"report\.html|report/|score\.json|(suspects|unlike)\.csv")
"""Names of files that people mark and that the report is made anew in: their sizes may change."""


def fetch(context: Context, run: Run, again: bool = False) -> Path:
    """Fetch the output of a run that is over into runs/<slug>-v<N>/ and return that folder.

    The folder appears when everything is there. The files of a fetch that was cut short stay in
    `<folder>.part` and are not fetched again. With `again`, verified files are fetched too.

    Raises:
        Problem: the run is not known to be over, a file can't be fetched, or submission.csv is no
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
    (part / _log_name(run)).write_text(without_secrets(whole(text_of(log))), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    say(f"fetched {run.name} into {folder}")
    if wrong := _no_table(folder / SUBMISSION):
        run.files = {}
        context.ledger.keep(run)
        raise Problem(f"{folder / SUBMISSION} {wrong}: the next `ship` fetches the output anew.")
    _note_fetched(context, run, folder)
    return folder


def _log_name(run: Run) -> str:
    return f"{run.kernel.split('/')[1]}.log"


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


def _note_fetched(context: Context, run: Run, folder: Path) -> None:
    """Write into the run's record which files are here, and what the run has measured."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}
    run.files = {name: size for name, size in sizes.items() if not CHANGED_HERE.match(name)}
    run.verified["fetched"] = f"the sizes of {len(found)} files"
    metrics = read_metrics(folder)
    measure(run, metrics)
    _note_mounted(context, run, metrics.get("packages"))
    context.ledger.keep(run)
    emit_json(folder=str(folder), val_accuracy=run.val_accuracy, metric=run.metric, score=run.value)


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
    for name in MEASURED:
        setattr(run, name, number(metrics.get(name)))
    images = metrics.get("val_images")
    run.val_images = images if isinstance(images, int) else None


def number(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < LARGEST else None


def _note_mounted(context: Context, run: Run, found: Any) -> None:
    """Write into the run's record which packages it has found, as far as that is known.

    Kaggle mounts the newest version of the dataset that is READY when a run starts, and does not
    give its number.
    """
    if isinstance(found, str) and found:
        run.found = found
        run.verified["mounted"] = "the hash of the packages in metrics.json"
    elif run.packages and run.dataset:
        ref, _, version = run.dataset.rpartition("/")
        newest = None
        with contextlib.suppress(Refused, Unavailable):
            newest = context.remote.dataset(ref)
        if newest and str(newest[0]) == version:
            run.verified["mounted"] = f"version {version} was the newest before and after the run"
            return
        say(
            f"whether {run.name} was of its own code is not known: its metrics.json does not name "
            f"the packages that it found, and {ref} has a newer version than {version}"
        )


def _require_end(context: Context, run: Run) -> None:
    """Raise Problem unless a run is known to be over; otherwise its output is not complete."""
    status = refresh(context, run)
    if not run.ended:
        known = status if status != "UNKNOWN" else "in a state that Kaggle does not tell"
        raise Problem(f"{run.name} is {known}: wait for its end with `ship follow`.")


def _complete_list(context: Context, run: Run) -> tuple[dict[str, str], list[dict]]:
    """Return a run's output files as name to address, and the entries of its log.

    A run that is complete has a submission: until that is listed, Kaggle is asked again.
    """
    for waited in context.asking():
        listed, log = context.remote.run_output(run.kernel, run.version)
        files: dict[str, str] = {}
        for name, url in listed:
            if name in files:
                say(f"Kaggle lists {name} of {run.name} twice: the first is taken")
            files.setdefault(name, url)
        if SUBMISSION in files or run.failed:
            return files, log
        if not waited:
            say(f"Kaggle does not list {SUBMISSION} of {run.name} yet; asking again")
        if waited >= context.timeouts.prove:
            raise Problem(
                f"Kaggle lists {len(files)} output files of {run.name} and no {SUBMISSION}: see "
                f"{run.page}; the same command asks again, `ship fetch --pattern '*'` takes them."
            )
    raise AssertionError("asking never ends by itself")


def _download(context: Context, run: Run, files: dict[str, str], folder: Path) -> None:
    """Fetch output files into a folder; those that are there already are not fetched again."""
    targets = places(folder, files, _log_name(run))
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

    def attempt(url: str) -> None:
        what = f"output file {name} of {run.name}"
        context.remote.call("download", what, url=url, path=str(target), part=str(part_of(target)))

    try:
        attempt(urls[name])
        return urls
    except (CredentialsRefused, Refused):
        urls = dict(context.remote.run_output(run.kernel, run.version)[0])
    try:
        attempt(urls.get(name, ""))
    except Refused as refusal:
        raise Problem(
            f"{refusal}; nothing of it was saved. Run the same command again: the files that were "
            "fetched stay."
        ) from None
    return urls


def part_of(target: Path) -> Path:
    """Return where the beginning of a file is kept; its name is short, whatever the file's is."""
    return target.with_name(f".{sha256(target.name.encode())[:16]}.part")


def places(folder: Path, names: Iterable[str], *reserved: str) -> dict[str, Path]:
    """Return where in a folder each output file goes, whatever the order of the names.

    Not every system distinguishes upper case from lower case: of names that differ in nothing else,
    the one in lower case stays as it is and the others get a number. So do names in `reserved`.
    """
    found: dict[str, Path] = {}
    files, folders = {_alike(Path(name)) for name in reserved}, set()
    for name in sorted(names, key=lambda name: (name != name.lower(), name)):
        if (target := inside(folder, name)) is None:
            why = "its name would lead out of the folder, or not every system can keep it"
            say(f"the output file {name!r} is left out: {why}")
            continue
        place = target.relative_to(folder)
        if any(_alike(parent) in files for parent in place.parents):  # a file where a folder is
            place = Path("-".join(place.parts))
        stem, ending = place.stem.encode()[:200].decode(errors="ignore"), place.suffix[:20]
        for number in itertools.count(2):
            if _alike(place) not in files | folders:
                break
            place = place.with_name(f"{stem} ({number}){ending}")
        if place != target.relative_to(folder):
            say(f"the output file {name!r} is kept as {place}: another has nearly the same name")
        files.add(_alike(place))
        folders.update(map(_alike, place.parents))
        found[name] = folder / place
    return found


def _alike(path: Path) -> str:
    """Return what two paths have in common that some system takes for the same."""
    return unicodedata.normalize("NFC", path.as_posix()).casefold()


def inside(folder: Path, name: str) -> Path | None:
    """Return where an output file goes, None when its name could lead out of the folder.

    Letters that Windows does not allow become dashes; a name is left out everywhere if any system
    can't keep it inside.
    """
    if name[1:2] == ":":  # a drive
        return None
    name = "".join("-" if letter in ':*?"<>|' else letter for letter in name)
    parts = PurePosixPath(name.replace("\\", "/")).parts
    bad = (
        not parts
        or any(ord(letter) < 32 for letter in name)
        or any(part in ("..", "/") or part != part.rstrip(" .") for part in parts)
        or any(part.split(".")[0].lower() in RESERVED for part in parts)
        or any(len(part.encode()) > LONGEST_NAME for part in parts)
    )
    return None if bad else folder.joinpath(*parts)


def fetch_some(context: Context, run: Run, pattern: str, again: bool = False) -> None:
    """Fetch the output files whose names are of a pattern into the run's folder."""
    _require_end(context, run)
    listed = dict(context.remote.run_output(run.kernel, run.version)[0])
    files = {name: url for name, url in listed.items() if fnmatch.fnmatch(name, pattern)}
    if not files:
        raise Problem(f"none of the {len(listed)} files of {run.name} is of that pattern.")
    folder = context.folder(run)
    for target in places(folder, files if again else (), _log_name(run)).values():
        target.unlink(missing_ok=True)
    _download(context, run, files, folder)
    say(f"fetched {len(files)} of {len(listed)} files into {folder}")


def add_arguments(parser: Parser) -> None:
    """Add the arguments of `ship fetch`."""
    parser.switch("--again", "fetch what is here already, too")
    help = "only the files of this pattern, such as '*.csv' or 'members/*', into the same folder"
    parser.add_argument("--pattern", metavar="GLOB", help=help)


def run_fetch(context: Context, arguments: argparse.Namespace) -> None:
    """Fetch a run's output."""
    [run] = arguments.runs
    if context.dry_run:
        return say(f"would fetch the output of {run.name} into {context.project.runs}")
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
