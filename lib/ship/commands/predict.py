"""`ship publish` and `ship predict`: use the networks of a finished run in a second kernel.

That kernel only predicts, with internet off; a code competition takes its versions.
"""

import argparse
import json
import shutil
from pathlib import Path

from kernelkit.core.contract import MODEL_FILE, PREDICTED_FILE, read_json
from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.command_line import Parser, number_of
from ship.commands.fetch import SUBMISSION, fetch
from ship.commands.live_runs import follow
from ship.commands.push import push
from ship.commands.submit import submit
from ship.context import Context
from ship.ledger import Run
from ship.output import emit_json, say
from ship.project.bundle import bundle, publish
from ship.project.contents import content_hash
from ship.project.frozen import copy_project
from ship.project.project import KERNEL_METADATA, PLACEHOLDER, Project

FOLDER = "model"  # of the dataset, in which the manifest and the networks lie


def network_files(folder: Path) -> dict[str, Path]:
    """Return the manifest of a run and the networks that it names, by their paths in the dataset.

    Raises:
        Problem: the run has no manifest, or lacks a network.
    """
    members = read_json(folder / MODEL_FILE).get("members")
    if not isinstance(members, list):
        raise Problem(
            f"{folder} holds no {MODEL_FILE}: only a finished run of this version has its "
            "networks; push one, or fetch its output again with `ship fetch --again`."
        )
    names = [MODEL_FILE, *(one["file"] for member in members for one in member["networks"])]
    files = {f"{FOLDER}/{name}": folder / name for name in names}
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        raise Problem(f"{missing[0]} is missing: `ship fetch --again` fetches the output anew.")
    return files


def publish_run(context: Context, run: Run, again: bool) -> tuple[str, str]:
    """Publish the networks of a run; return "owner/slug/version" and a hash of their content.

    Raises:
        Problem: the run has no networks, or Kaggle does not take the dataset.
    """
    with context.holding(run, context.timeouts.score):
        follow(context, [run])
        files = network_files(fetch(context, run))
    slug = f"{context.project.slug}-models"
    metadata = {
        "id": f"{PLACEHOLDER}/{slug}",
        "title": slug.replace("-", " ").capitalize(),
        "subtitle": f"The networks of {run.name}",
        "licenses": [{"name": "other"}],
        "keywords": [],
    }
    return publish(context, files, metadata, again), content_hash(files)[:16]


def predicting_project(project: Project, models: str, digest: str) -> Project:
    """Return a copy of the project whose kernel predicts with published networks.

    Args:
        project: whose kernel trained them.
        models: "owner/slug" of their dataset.
        digest: a hash of their content, by which a push of other networks is another one.
    """
    shutil.rmtree(project.runs / "predict", ignore_errors=True)
    copy = copy_project(project, project.runs / "predict")
    metadata = json.loads((copy.root / KERNEL_METADATA).read_text(encoding="utf-8"))
    metadata["id"] += "-predict"
    metadata["title"] = f"{metadata['title']} predict"
    metadata["dataset_sources"] = [*metadata.get("dataset_sources", []), models]
    metadata["enable_internet"] = False
    write_atomically(copy.root / KERNEL_METADATA, json.dumps(metadata, indent=2) + "\n")
    code = copy.root / project.code.relative_to(project.root)
    text = code.read_text(encoding="utf-8")
    write_atomically(code, f"{text}# predicts with the networks {digest}\n")
    return copy


def run_publish(context: Context, arguments: argparse.Namespace) -> None:
    """Publish the networks of a finished run as a private dataset."""
    (run,) = arguments.runs
    if context.dry_run:
        return say(f"would publish the networks of {run.name} as {context.kernel_ref}-models")
    ref, _ = publish_run(context, run, arguments.again)
    return say(f"the networks of {run.name} are {ref}", result=True)


def run_predict(context: Context, arguments: argparse.Namespace) -> None:
    """Predict on Kaggle with the networks of a finished run, and submit that kernel's version."""
    (trained,) = arguments.runs
    if context.dry_run:
        return say(
            f"would publish the networks of {trained.name}, push {context.kernel_ref}-predict, "
            "follow it, fetch its output and submit its version"
        )
    models, digest = publish_run(context, trained, arguments.again)
    owner, slug, _ = models.split("/")
    copy = predicting_project(context.project, f"{owner}/{slug}", digest)
    inner = Context.of(copy, context.boundary, forced=context.forced, gpu=context.gpu)
    settings = {"predict_from": slug, "weights": "none", "recipe": trained.recipe or "default"}
    if arguments.as_many:
        settings["as_many"] = str(arguments.as_many)
    config = inner.shown_config(settings)
    with inner.remote, inner.remote.patient(inner.timeouts.outage):
        pushed = push(
            inner,
            settings,
            config,
            arguments.again,
            remembered=False,
            prepare=lambda: bundle(inner, config),
        )
        with inner.holding(pushed, inner.timeouts.score):
            follow(inner, [pushed])
            folder = fetch(inner, pushed)
            took = read_json(folder / PREDICTED_FILE)
            if "photos" in took:
                seconds = f"{took['seconds']:.0f} s of {took['limit']:.0f}"
                memory = f"{took['peak_memory_mb']:.0f} MiB of memory"
                say(
                    f"{pushed.name} predicted {took['photos']} photos in {seconds}, with {memory}",
                    result=True,
                )
                emit_json(run=pushed.name, predicted=took)
            if not arguments.as_many:
                submit(inner, pushed, folder / SUBMISSION, code=not arguments.file)


def publish_arguments(parser: Parser) -> None:
    """Add the arguments of `ship publish`."""
    parser.switch("--again", "upload them although they are, or may be, up to date")


def predict_arguments(parser: Parser) -> None:
    """Add the arguments of `ship predict`."""
    parser.switch("--again", "upload and push although nothing has changed")
    parser.switch("--file", "submit the file that it wrote: no code competition")
    parser.add_argument(
        "--as-many",
        type=number_of(int, least=1, most=10**7),
        metavar="N",
        help="predict N training photos to measure time and memory, and submit nothing",
    )
