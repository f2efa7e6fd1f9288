"""`ship rehearse`: the whole pipeline without an account, against a Kaggle on this machine.

It draws the small sample competition (or takes a real folder), copies the project into a temporary
folder, starts the loopback Kaggle, and runs the unchanged `ship` and the real client against it.
The results of the run stay in runs/rehearsal.
"""

import argparse
import contextlib
import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kernelkit.core.files import numbered
from kernelkit.core.problem import Problem
from kernelkit.data.layout import Layout
from kernelkit.report.writing import note_score
from sample.layouts import LAYOUTS, Drawn
from ship.command_line import one_of, parse_settings
from ship.commands.fetch import REPORT, SUBMISSION
from ship.ledger import REHEARSAL, Ledger, settings_text
from ship.output import emit_json, say
from ship.project.contents import all_files, copy_files
from ship.project.project import DATASET_METADATA, KERNEL_METADATA, Project
from ship.project.script import has_block, read_block, with_block

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = "sample_submission.csv"
USER = "you"
"""The name of the user in a rehearsal."""
PACE = {"SHIP_POLL": "0.5", "SHIP_POLL_MAX": "2", "SHIP_PROVE": "20"}
SAMPLE_SETTINGS = {"recipe": "dry"}
LAYOUT_SETTINGS = {"epochs": "4"}  # enough to show that a layout is understood
OWN_DATA_SETTINGS = {"recipe": "dry", "limit": "60"}


def copy_project(project: Project, target: Path) -> Project:
    """Copy the kernel, its metadata and what may be uploaded of lib/ into a new folder."""
    target.mkdir(parents=True)
    for file in (project.code, project.root / KERNEL_METADATA, project.root / DATASET_METADATA):
        shutil.copy2(file, target / file.name)
    copy_files(all_files(project.lib), target / "lib")
    return Project(target)


@contextlib.contextmanager
def workplace(keep: Path | None) -> Iterator[Path]:
    """Give a temporary folder, or the new one that is to be kept.

    Raises:
        Problem: the folder to be kept is not empty.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="rehearsal-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    elif keep.exists() and any(keep.iterdir()):
        raise Problem(f"{keep} is not empty: name a new folder with --keep.")
    else:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()


def competition_data(arguments: argparse.Namespace, work: Path) -> tuple[Path, Path]:
    """Return the competition's folder and the CSV of its test labels; draw them unless named.

    Raises:
        Problem: a layout is named beside --data, only one of --data and --solution is given, or one
            does not exist.
    """
    if arguments.layout and arguments.data:
        raise Problem("--layout draws a competition, --data has one: give one of them.")
    if bool(arguments.data) != bool(arguments.solution):
        raise Problem("--data and --solution go together: the photos, and the test set's labels.")
    if arguments.data:
        if not (arguments.data.is_dir() or zipfile.is_zipfile(arguments.data)):
            raise Problem(
                f"--data takes a competition's folder or zip, and {arguments.data} is none."
            )
        if not arguments.solution.is_file():
            raise Problem(f"--solution takes a CSV file, and {arguments.solution} is none.")
        return arguments.data, arguments.solution
    from sample.competition import draw_competition

    name = arguments.layout or "home"
    say("drawing a small competition")
    solution = work / "solution.csv"
    draw_competition(work / "competition", *LAYOUTS[name].photos, solution=solution, layout=name)
    return work / "competition", solution


def own_competition(
    project: Project, data: Path, solution: Path, given: dict[str, str], work: Path
) -> tuple[Path, Layout]:
    """Return a folder that is mounted as a competition of one's own, and the block that reads it.

    The block is written into the project's kernel. Where links lead out of the folder, or it has no
    sample submission, a copy with hard links to its files is mounted.

    Args:
        project: a copy, whose kernel may be changed.
        data: the folder, or the zip of it; it is not changed.
        solution: the CSV of the test photos' labels, which may lie in the folder.
        given: fields of the block that a person has decided.
        work: gets what is unpacked or copied.

    Raises:
        Problem: the folder's layout can't be told without doubt.
    """
    from kernelkit.data.find import (
        list_files,  # these import pandas
        open_competition,
    )
    from kernelkit.data.infer_layout import layout_of

    scratch, block = work / "scratch", read_block(project.code)

    def block_of(folder: Path) -> Layout:
        layout = layout_of(folder, block, scratch, given)
        return dataclasses.replace(layout, slug=block.slug)

    with contextlib.redirect_stdout(sys.stderr):  # the kernel says the same in its log
        data = open_competition(data, scratch)
        layout = block_of(data)
        links = any(path.is_symlink() for path in data.rglob("*"))
        if links or not layout.sample_csv:
            mounted = work / "competition"
            for name, path in list_files(data).itertuples(index=False):
                if Path(path).resolve() != solution.resolve():
                    link_or_copy(Path(path), mounted / name)
            data = mounted
        if not layout.sample_csv:
            sample_of(solution).to_csv(data / SAMPLE, index=False)
            layout = block_of(data)
    if layout != block:
        project.code.write_text(with_block(project.code, layout), encoding="utf-8")
    return data, layout


def link_or_copy(file: Path, target: Path) -> None:
    """Make a file appear at another path too, without a second copy where the disk allows that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, or one without such links
        shutil.copyfile(file, target)


def sample_of(solution: Path) -> "pd.DataFrame":
    """Return a sample submission for the Ids of a solution, without any label."""
    from kernelkit.core.tables import read_csv

    truth = read_csv(solution, "give a CSV of each test photo's Id and label")
    return truth.assign(**dict.fromkeys(truth.columns[1:], ""))


def judged_by(
    layout: Layout, data: Path, solution: Path, work: Path
) -> tuple[tuple[str, str], Path]:
    """Return the metric of the block that reads a folder, with a name for it, and the solution.

    The solution is written anew in the columns of the sample submission, as Kaggle would hold it.

    Raises:
        Problem: the metric is unknown, or the solution does not fit.
    """
    from kernelkit.core.metrics import metric_named
    from kernelkit.core.tables import read_csv  # these import pandas and scikit-learn
    from kernelkit.data.read import read_sample

    name = metric_named(layout.metric).name
    sample = read_sample(data, layout, work / "scratch")
    truth = read_csv(solution, "give a CSV of each test photo's Id and label")
    file = work / "solution.csv"
    solution_in_form(truth, sample, layout, solution).to_csv(file, index=False)
    return (layout.metric, name), file


def solution_in_form(
    truth: "pd.DataFrame", sample: "pd.DataFrame", layout: Layout, file: Path
) -> "pd.DataFrame":
    """Return a table of the test photos' labels, or of ones and zeros, in the sample's columns.

    Args:
        truth: Ids, and labels, or what the submission's columns should hold.
        sample: the sample submission; without rows where there is none.
        layout: the block, whose form of submission counts.
        file: where `truth` comes from, for sentences.

    Raises:
        Problem: rows or columns are missing, or a label has no column.
    """
    import numpy as np

    from kernelkit.data.submission import fill

    columns, ids = list(sample.columns), truth.iloc[:, 0].str.strip()
    if lost := sorted(set(sample.iloc[:, 0].str.strip()) - set(ids)):
        raise Problem(f"{file} has no row of {lost[0]}, of which {layout.sample_csv} has one.")
    numbers = layout.submission in ("probability", "probabilities")
    if numbers and len(columns) == truth.shape[1]:
        values = truth.iloc[:, 1:].apply(lambda column: column.str.strip())
        if values.isin(["0", "1", "0.0", "1.0"]).all(axis=None):
            return truth.set_axis(columns, axis=1)
    if truth.shape[1] != 2:
        raise Problem(
            f"{file} has the columns {', '.join(truth.columns[:9])}: give a row for each test "
            f"photo with its Id and its label, or ones and zeros in the columns "
            f"{', '.join(columns[:9])}."
        )
    labels = truth.iloc[:, 1].str.strip()
    if not numbers:
        return truth.assign(**{truth.columns[1]: labels}).set_axis(columns, axis=1)
    classes = sorted(set(labels))
    one_hot = np.eye(len(classes))[[classes.index(label) for label in labels]]
    rows = sample.iloc[:0].reindex(range(len(ids))).assign(**{columns[0]: ids})
    return fill(rows, layout, classes, one_hot)


def environment_of(kaggle) -> dict[str, str]:
    """Return this process's environment, without credentials and pointed at the loopback Kaggle."""
    inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith("KAGGLE_")}
    library = str(Path(__file__).resolve().parents[2])
    paths = [library, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **PACE,
        **inherited,
        **kaggle.environment,
        "PYTHONPATH": os.pathsep.join(paths),
        REHEARSAL: "yes",
    }


def ship_command(arguments: argparse.Namespace, copy: Project, settings: dict) -> list[str]:
    """Return the command that ships the copied project with some settings."""
    command = [sys.executable, "-P", "-m", "ship", "--project", str(copy.root)]
    if arguments.sweep:
        command += ["sweep", *arguments.sweep, "--submit", "best"]
    command += [f"--set={name}={value}" for name, value in settings.items()]
    return command + (["--quiet"] if arguments.quiet else [])


def init_command(arguments: argparse.Namespace, copy: Project, drawn: Drawn) -> list[str]:
    """Return the command that makes the copied project one for a drawn competition."""
    command = [sys.executable, "-P", "-m", "ship", "--project", str(copy.root)]
    command += ["init", drawn.slug, "--write"]
    command += [f"--set={name}={value}" for name, value in drawn.untold.items()]
    return command + (["--quiet"] if arguments.quiet else [])


def keep(results: Path, folder: Path) -> Path:
    """Copy the results of a run to a folder, or beside those of earlier rehearsals; return it."""
    free = next(each for each in numbered(folder) if not each.exists())
    shutil.copytree(results, free)
    return free


def introduce(arguments: argparse.Namespace, project: Project, settings: dict[str, str]) -> None:
    """Say what is rehearsed, and what is real of it."""
    photos = f"the photos of {arguments.data}" if arguments.data else "a few drawn cars"
    say(
        f"rehearsal: {project.code.name} learns from {photos} on this machine, with "
        f"{settings_text(settings)}. Another program plays Kaggle and calls you {USER!r}: nothing "
        "is sent anywhere."
    )


def ship_here(
    arguments: argparse.Namespace, project: Project, copy: Project, settings: dict
) -> dict[str, int]:
    """Ship a copy of the project to a loopback Kaggle, and return what that has counted.

    Raises:
        Problem: a step failed, or something tried to reach the network.
    """
    from loopback.sandbox import guarantees
    from loopback.server import Loopback

    work = copy.root.parent
    introduce(arguments, project, settings)
    data, solution = competition_data(arguments, work)
    for missing in guarantees():
        say(f"not guaranteed on this machine: {missing}")
    drawn = LAYOUTS[arguments.layout] if arguments.layout else None
    slug = drawn.slug if drawn else project.competition
    judged = (drawn.metric, drawn.evaluation) if drawn else None
    if arguments.data:
        known = {field.name for field in dataclasses.fields(Layout)} if has_block(copy.code) else {}
        given = {name: value for name, value in settings.items() if name in known}
        settings = {name: value for name, value in settings.items() if name not in known}
        data, layout = own_competition(copy, data, solution, given, work)
        judged, solution = judged_by(layout, data, solution, work)
        say(f"its submission will be scored by {judged[1]} against {arguments.solution}")
    scoring = {"metrics": {slug: judged}} if judged else {}
    competitions, mount = {slug: (data, solution)}, arguments.mount
    with Loopback(work / "kaggle", competitions, mount=mount, user=USER, **scoring) as kaggle:
        commands = [init_command(arguments, copy, drawn)] if drawn else []
        for command in [*commands, ship_command(arguments, copy, settings)]:
            spoken = sys.stderr if arguments.json else None
            done = subprocess.run(command, env=environment_of(kaggle), cwd=work, stdout=spoken)
            if done.returncode:
                break
        connects, counts = list(kaggle.connects), dict(kaggle.counts)
    if connects:
        raise Problem(f"something reached for the network: {', '.join(map(str, connects))}.")
    if done.returncode:
        raise Problem("the rehearsal failed as said above; --keep DIR keeps its files.")
    return counts


def rehearse(arguments: argparse.Namespace, project: Project) -> None:
    """Run the whole pipeline on this machine, without an account.

    Raises:
        Problem: a step failed, or something tried to reach the network.
    """
    from loopback.sandbox import LAYOUTS as MOUNTS

    if arguments.mount not in MOUNTS:
        raise Problem(f"--mount must be one of {', '.join(MOUNTS)}, not {arguments.mount!r}.")
    began = time.monotonic()
    settings = OWN_DATA_SETTINGS if arguments.data else SAMPLE_SETTINGS
    settings = settings | (LAYOUT_SETTINGS if arguments.layout else {})
    settings = settings | parse_settings(arguments.set or [])
    with workplace(arguments.keep) as work:
        copy = copy_project(project, work / "project")
        if arguments.dry_run:
            return say(
                f"would ship {project.root} to a loopback Kaggle with {settings_text(settings)}"
            )
        counts = ship_here(arguments, project, copy, settings)
        runs = Ledger(copy.runs / "ledger.jsonl").runs()
        best = max(runs, key=lambda run: run.merit(run.public_score))
        results = copy.runs / best.name
        if arguments.keep is None:
            results = keep(results, project.runs / "rehearsal")
        given = [arguments.data and f"--data {shlex.quote(str(arguments.data))}"]
        given += [arguments.solution and f"--solution {shlex.quote(str(arguments.solution))}"]
        given += [arguments.layout and f"--layout {arguments.layout}"]
        again = " ".join(["ship rehearse", *filter(None, given)])
        by = "By this machine's Kaggle, on the test photos"
        note_score(results, best.public_score, by, again)
    sent = ", ".join(
        f"{count} {name.replace('_', ' ').removesuffix('s' if count == 1 else '')}"
        for name, count in counts.items()
    )
    say(f"what the program that played Kaggle got: {sent}")
    say(f"its submission: {results / SUBMISSION}")
    if (results / REPORT).is_file():
        say(f"its report, for a browser: {results / REPORT}")
    seconds = round(time.monotonic() - began)
    cars = "" if arguments.data else " (drawn cars: it shows that everything works, not how well)"
    took = f"{seconds // 60} min {seconds % 60:02} s"
    score = f"{'' if best.metric == 'accuracy' else f'{best.metric} '}{best.public_score:.5f}"
    say(f"rehearsal: public score {score} after {took}{cars}", result=True)
    return emit_json(public_score=best.public_score, seconds=seconds, counts=counts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship rehearse`."""
    parser.add_argument("--data", type=Path, help="a competition's folder or zip (drawn cars)")
    parser.add_argument(
        "--layout",
        metavar="NAME",
        type=one_of(LAYOUTS),
        help=f"begin with `ship init` of a competition drawn in this layout: {', '.join(LAYOUTS)}",
    )
    parser.add_argument("--solution", type=Path, help="CSV of the test labels of --data")
    parser.add_argument(
        "--set",
        action="append",
        metavar="FIELD=VALUE",
        default=argparse.SUPPRESS,
        help="a setting of the kernel, or with --data a field of its block (repeat it)",
    )
    parser.add_argument(
        "--sweep",
        nargs="+",
        metavar="FIELD=VALUE,VALUE",
        help="rehearse `ship sweep` of these values instead of `ship`",
    )
    parser.add_argument("--mount", default="official", help="how inputs are mounted: official, ...")
    parser.add_argument("--keep", type=Path, help="work in this new folder, and keep it")
