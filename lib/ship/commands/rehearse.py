"""`ship rehearse`: the whole pipeline without an account, against a Kaggle on this machine.

It draws the small sample competition (or takes a real folder), copies the project into a temporary
folder, starts the loopback Kaggle, and runs the unchanged `ship` and the real client against it.
The results of the run stay in runs/rehearsal.
"""

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelkit.core.files import numbered
from kernelkit.core.problem import Problem
from kernelkit.data.layout import Layout
from kernelkit.offline import PRESET_FILES
from kernelkit.report.writing import note_score
from loopback.sandbox import LAYOUTS as MOUNTS
from sample.layouts import LAYOUTS
from ship.command_line import one_of, option, parse_settings, switch
from ship.commands.fetch import REPORT, SUBMISSION
from ship.ledger import REHEARSAL, Ledger, Run, settings_text
from ship.output import emit_json, say
from ship.project.contents import copy_files
from ship.project.offline import preset_mismatch
from ship.project.project import Project, copy_project
from ship.project.script import read_block, with_block

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = "sample_submission.csv"
USER = "you"  # the name of the user in a rehearsal
TIMEOUTS = {"SHIP_POLL": "0.5", "SHIP_POLL_MAX": "2", "SHIP_PROVE": "20"}
SAMPLE_SETTINGS = {"recipe": "dry"}
LAYOUT_SETTINGS = {"recipe": "dry", "epochs": "4"}  # enough to show that a layout is understood
HIDDEN_PER_CLASS, DAMAGED = 20, 10  # photos of the hidden test set of `--code`
OWN_DATA_SETTINGS = {"recipe": "dry", "limit": "60"}


# --- a competition of a person's own ---


def own_competition(
    project: Project, data: Path, solution: Path, decided: dict[str, str], work: Path
) -> tuple[Path, Layout]:
    """Return a folder that is mounted as a competition of one's own, and the block that reads it.

    Where links lead out of the folder, the solution lies in it, or it has no sample submission, a
    copy with hard links to its files is mounted, without the solution. Raises Problem where the
    folder's layout is in doubt.

    Args:
        project: a copy, into whose kernel the block is written.
        data: the folder, or the zip of it; it is not changed.
        solution: the CSV of the test photos' labels, which may lie in the folder.
        decided: fields of the block that a person has decided.
        work: gets the files that are unpacked or copied.
    """
    from kernelkit.data.find import list_files, open_competition  # these import pandas
    from kernelkit.data.infer_layout import layout_of

    scratch, block = work / "scratch", read_block(project.code)
    with contextlib.redirect_stdout(sys.stderr):  # the kernel says the same in its log
        data = open_competition(data, scratch)
        listed = {name: Path(path) for name, path in list_files(data).itertuples(index=False)}
        kept = {name: p for name, p in listed.items() if p.resolve() != solution.resolve()}
        mounted = work / "competition"
        if kept != listed or any(path.is_symlink() for path in data.rglob("*")):
            copy_files(kept, mounted)
            data = mounted
        layout = layout_of(data, block, scratch, decided)
        if not layout.sample_csv:
            if data != mounted:
                copy_files(kept, mounted)
            data = mounted
            truth = _read_solution(solution)
            empty = truth.assign(**dict.fromkeys(truth.columns[1:], ""))
            empty.to_csv(data / SAMPLE, index=False)
            layout = layout_of(data, block, scratch, decided)
    layout = replace(layout, slug=block.slug)
    if layout != block:
        project.code.write_text(with_block(project.code, layout), encoding="utf-8")
    return data, layout


def _read_solution(file: Path) -> "pd.DataFrame":
    from kernelkit.core.tables import read_csv

    truth = read_csv(file, "give a CSV of each test photo's Id and label")
    return truth.apply(lambda column: column.str.strip())


def solution_like_sample(file: Path, sample: "pd.DataFrame", layout: Layout) -> "pd.DataFrame":
    """Return a table of the test photos' labels, or of ones and zeros, in the sample's columns.

    `file` is a CSV of Ids, and labels or the numbers of the submission's columns. Raises Problem
    where rows or columns are missing, or a label has no column.
    """
    import numpy as np

    from kernelkit.data.submission import fill

    truth = _read_solution(file)
    columns, ids = list(sample.columns), truth.iloc[:, 0]
    if lost := sorted(set(sample.iloc[:, 0].str.strip()) - set(ids)):
        raise Problem(f"{file} has no row of {lost[0]}, of which {layout.sample_csv} has one.")
    numbers = layout.submission in ("probability", "probabilities")
    binary = truth.iloc[:, 1:].isin(["0", "1", "0.0", "1.0"]).all(axis=None)
    if numbers and binary and len(columns) == truth.shape[1]:
        return truth.set_axis(columns, axis=1)
    if truth.shape[1] != 2:
        raise Problem(
            f"{file} has the columns {', '.join(truth.columns[:9])}: give a row for each test "
            f"photo with its Id and its label, or ones and zeros in the columns "
            f"{', '.join(columns[:9])}."
        )
    if not numbers:
        return truth.set_axis(columns, axis=1)
    classes, positions = np.unique(truth.iloc[:, 1], return_inverse=True)
    rows = sample.iloc[:0].reindex(range(len(ids))).assign(**{columns[0]: ids})
    return fill(rows, layout, classes.tolist(), np.eye(len(classes))[positions])


# --- the rehearsal ---


def _drawn(arguments: argparse.Namespace, slug: str, work: Path) -> dict[str, Any]:
    """Draw a competition; return what the loopback Kaggle offers, as arguments of `Loopback`."""
    from sample.competition import draw_competition, split_off_public

    say("drawing a small competition")
    data, solution, hidden = work / "competition", work / "answers.csv", work / "hidden"
    if arguments.code:
        draw_competition(hidden, 60, HIDDEN_PER_CLASS, solution=solution)
        answers = split_off_public(hidden, solution, data, DAMAGED)
        return {"competitions": {slug: (data, answers)}, "hidden": {slug: (hidden, solution)}}
    name = arguments.layout or "home"
    drawn = LAYOUTS[name]
    draw_competition(data, *drawn.photos, solution=solution, layout=name)
    slug = drawn.slug if arguments.layout else slug
    metric = (drawn.metric, drawn.evaluation)
    return {"competitions": {slug: (data, solution)}, "metrics": {slug: metric}}


def _own(
    arguments: argparse.Namespace, copy: Project, decided: dict[str, str], work: Path
) -> dict[str, Any]:
    """Return what the loopback Kaggle offers of a folder of one's own, as `_drawn` does."""
    from kernelkit.core.metrics import metric_named
    from kernelkit.data.read import read_sample

    data, layout = own_competition(copy, arguments.data, arguments.solution, decided, work)
    sample, solution = read_sample(data, layout, work / "scratch"), work / "answers.csv"
    solution_like_sample(arguments.solution, sample, layout).to_csv(solution, index=False)
    metric = (layout.metric, metric_named(layout.metric).name)
    say(f"its submission will be scored by {metric[1]} against {arguments.solution}")
    slug = copy.competition
    return {"competitions": {slug: (data, solution)}, "metrics": {slug: metric}}


def _commands(
    arguments: argparse.Namespace, copy: Project, settings: dict[str, str]
) -> Iterator[list[str]]:
    ship = [sys.executable, "-P", "-m", "ship", "--project", str(copy.root)]
    ship += ["--quiet"] if arguments.quiet else []
    if arguments.layout:
        drawn = LAYOUTS[arguments.layout]
        decided = [f"--set={name}={value}" for name, value in drawn.untold.items()]
        yield [*ship, "init", drawn.slug, "--write", *decided]
    sweep = ["sweep", *arguments.sweep, "--submit", "best"] if arguments.sweep else []
    given = [f"--set={name}={value}" for name, value in settings.items()]
    yield [*ship, *sweep, *given]


def environment_of(kaggle) -> dict[str, str]:
    """Return this process's environment, without credentials and pointed at the loopback Kaggle."""
    inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith("KAGGLE_")}
    library = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))
    return {**TIMEOUTS, **inherited, **kaggle.environment, "PYTHONPATH": paths, REHEARSAL: "yes"}


def _presets_here(project: Project) -> dict[str, Path]:
    """Return the folders of the kernel's presets that lie in lib/weights, by their handles."""
    if not any((project.lib / "weights").glob(f"*/{PRESET_FILES[0]}")):
        return {}
    handles = [preset["handle"] for preset in project.presets().values()]
    here = {handle: project.preset_folder(handle) for handle in handles}
    return {handle: folder for handle, folder in here.items() if not preset_mismatch(folder)}


def _ship_here(
    arguments: argparse.Namespace,
    copy: Project,
    settings: dict[str, str],
    work: Path,
    presets: dict[str, Path],
) -> dict[str, int]:
    """Ship a copy of the project to a loopback Kaggle; return what that has counted.

    It offers the `presets`, folders by their handles, as models. Raises Problem where a step
    failed, or something tried to reach the network.
    """
    from loopback.sandbox import guarantees
    from loopback.server import Loopback

    is_field = {field.name for field in fields(Layout)} if arguments.data else set()
    decided = {name: value for name, value in settings.items() if name in is_field}
    settings = {name: value for name, value in settings.items() if name not in is_field}
    if arguments.data:
        offered = _own(arguments, copy, decided, work)
    else:
        offered = _drawn(arguments, copy.competition, work)
    for missing in guarantees():
        say(f"not guaranteed on this machine: {missing}")
    offered |= {"models": presets, "mount": arguments.mount, "user": USER}
    with Loopback(work / "kaggle", **offered) as kaggle:
        environment, stdout = environment_of(kaggle), sys.stderr if arguments.json else None
        for command in _commands(arguments, copy, settings):
            done = subprocess.run(command, env=environment, cwd=work, stdout=stdout)
            if done.returncode:
                break
        connects, counts = list(kaggle.connects), dict(kaggle.counts)
    if connects:
        raise Problem(f"something reached for the network: {', '.join(map(str, connects))}.")
    if done.returncode:
        raise Problem("the rehearsal failed (see above); --keep DIR keeps its files.")
    return counts


@contextlib.contextmanager
def _workplace(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="rehearsal-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    elif keep.exists() and any(keep.iterdir()):
        raise Problem(f"{keep} is not empty: name a new folder with --keep.")
    else:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()


def _refuse_wrong_arguments(arguments: argparse.Namespace) -> None:
    data, solution = arguments.data, arguments.solution
    if arguments.code and (data or arguments.layout or arguments.sweep):
        raise Problem("--code draws its own competition: leave out --data, --layout and --sweep.")
    if arguments.layout and data:
        raise Problem("--layout draws a competition, --data has one: give one of them.")
    if bool(data) != bool(solution):
        raise Problem("--data and --solution go together: the photos, and the test set's labels.")
    if data and not (data.is_dir() or zipfile.is_zipfile(data)):
        raise Problem(f"--data takes a competition's folder or zip, and {data} is none.")
    if data and not solution.is_file():
        raise Problem(f"--solution takes a CSV file, and {solution} is none.")


def _report(arguments: argparse.Namespace, results: Path, best: Run, counts: dict) -> str:
    given = {name: getattr(arguments, name) for name in ("data", "solution", "layout")}
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value]
    again = " ".join(["ship rehearse", *words])
    note_score(results, best.public_score, "By this machine's Kaggle, on the test photos", again)
    sent = ", ".join(
        f"{count} {name.replace('_', ' ').removesuffix('s' if count == 1 else '')}"
        for name, count in counts.items()
    )
    say(f"received by the program that played Kaggle: {sent}")
    say(f"its submission: {results / SUBMISSION}")
    if (results / REPORT).is_file():
        say(f"its report, for a browser: {results / REPORT}")
    return f"{'' if best.metric == 'accuracy' else f'{best.metric} '}{best.public_score:.5f}"


def rehearse(arguments: argparse.Namespace, project: Project) -> None:
    """Run the whole pipeline on this machine, without an account."""
    _refuse_wrong_arguments(arguments)
    began = time.monotonic()
    settings = LAYOUT_SETTINGS if arguments.layout else SAMPLE_SETTINGS
    settings = OWN_DATA_SETTINGS if arguments.data else settings
    settings = settings | parse_settings(arguments.set or [])
    shown = settings_text(settings)
    if arguments.dry_run:
        return say(f"would ship {project.root} to a loopback Kaggle with {shown}")
    photos = f"the photos of {arguments.data}" if arguments.data else "a few drawn cars"
    say(
        f"rehearsal: {project.code.name} learns from {photos} on this machine, with {shown}. "
        f"Another program plays Kaggle and calls you {USER!r}: nothing is sent anywhere."
    )
    with _workplace(arguments.keep) as work:
        copy = Project(copy_project(project, work / "project").root)
        counts = _ship_here(arguments, copy, settings, work, _presets_here(project))
        ledger = Ledger(copy.runs / "ledger.jsonl").runs()
        runs = [run for run in ledger if run.public_score is not None]
        best = max(runs, key=lambda run: run.merit(run.public_score))
        results = copy.runs / best.name
        if arguments.keep is None:  # beside the results of earlier rehearsals
            places = numbered(project.runs / "rehearsal")
            results = shutil.copytree(results, next(each for each in places if not each.exists()))
        score = _report(arguments, results, best, counts)
    seconds = round(time.monotonic() - began)
    cars = "" if arguments.data else " (drawn cars: it shows that everything works, not how well)"
    took = f"{seconds // 60} min {seconds % 60:02} s"
    say(f"rehearsal: public score {score} after {took}{cars}", result=True)
    return emit_json(public_score=best.public_score, seconds=seconds, counts=counts)


ARGUMENTS = (
    option("--data", "a competition's folder or zip (drawn cars)", type=Path),
    option("--solution", "CSV of the test labels of --data", type=Path),
    option("--layout",
        f"begin with `ship init` of a competition drawn in this layout: {', '.join(LAYOUTS)}",
        metavar="NAME", type=one_of(LAYOUTS)),
    option("--set", "a setting of the kernel, or with --data a field of its block (repeat it)",
        action="append", metavar="FIELD=VALUE"),
    option("--sweep", "rehearse `ship sweep` of these values instead of `ship`",
        nargs="+", metavar="FIELD=VALUE,VALUE"),
    switch("--code",
        "rehearse a code competition: a second kernel predicts hidden photos, some damaged"),
    option("--mount", f"how inputs are mounted: {', '.join(MOUNTS)} (official)",
        type=one_of(MOUNTS), default="official"),
    option("--keep", "work in this new folder, and keep it", type=Path),
)  # fmt: skip
