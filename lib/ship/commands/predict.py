"""`ship publish` and `ship predict`: use the networks of a finished run in a second kernel.

That kernel only predicts, with internet off; a code competition takes its versions.
"""

import argparse
import json
import shutil
from pathlib import Path

from kernelkit.core.contract import MODEL_FILE, PREDICTED_FILE, read_json
from kernelkit.core.files import file_hash, write_atomically
from kernelkit.core.problem import Problem
from ship.command_line import number_of, option, switch
from ship.commands.fetch import SUBMISSION, fetch
from ship.commands.live_runs import follow
from ship.commands.publish_model import publish_model
from ship.commands.push import GPU, push
from ship.commands.submit import submit
from ship.context import Context
from ship.kaggle.client_process import Refused
from ship.ledger import Run
from ship.output import emit_json, say
from ship.project.bundle import Bundle
from ship.project.contents import content_hash
from ship.project.project import KERNEL_METADATA, PLACEHOLDER, Project, copy_project

FOLDER = "model"  # of the dataset, in which the manifest and the networks lie


def network_files(folder: Path) -> dict[str, Path]:
    """Return a run's manifest and the networks that it names, by their paths in the dataset."""
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


def publish_run(context: Context, run: Run, folder: Path, again: bool) -> str:
    """Publish the networks of a fetched run as a dataset; return its "owner/slug/version"."""
    slug = f"{context.project.slug}-models"
    metadata = {
        "id": f"{PLACEHOLDER}/{slug}",
        "title": slug.replace("-", " ").capitalize(),
        "subtitle": f"The networks of {run.name}",
        "licenses": [{"name": "other"}],
        "keywords": [],
    }
    ref = f"{context.kernel_ref}-models"
    published = Bundle(context, network_files(folder), metadata, ref, field="models")
    published.bring_up_to_date(again=again)
    return f"{ref}/{published.known.version}"


def predicting_project(project: Project, run: Run, models: str, digest: str) -> Project:
    """Return a copy of the project whose kernel predicts with a run's published networks.

    `models` is "owner/slug" of their dataset, `digest` a hash of their content, by which a push of
    other networks is another one.
    """
    folder = project.runs / "predict" / run.name
    shutil.rmtree(folder, ignore_errors=True)
    copy = copy_project(project, folder)
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


def takes_kernels_only(context: Context) -> bool:
    """Tell whether the competition runs kernels on a hidden test set, as far as Kaggle tells."""
    try:
        about = context.remote.competition(context.project.competition)
    except Refused:  # what is submitted is refused with a reason
        return False
    return about.get("isKernelsSubmissionsOnly") is True


def predict(
    context: Context,
    trained: Run,
    folder: Path,
    again: bool = False,
    as_many: int | None = None,
    code: bool = True,
    hours: float | None = None,
) -> None:
    """Predict on Kaggle with the networks of a fetched run, and submit that kernel's version.

    Each step finds out by itself what is done already and skips it.

    Args:
        context: of the project that trained.
        trained: the run, which no other `ship` works on meanwhile.
        folder: of its output.
        again: upload and push although nothing has changed.
        as_many: predict so many training photos to measure time and memory, and submit nothing.
        code: submit the kernel's version; else the file that it wrote.
        hours: that the competition lets a kernel run; None for the usual 9.
    """
    models = publish_run(context, trained, folder, again)
    owner, slug, _ = models.split("/")
    digest = content_hash(network_files(folder))[:16]
    copy = predicting_project(context.project, trained, f"{owner}/{slug}", digest)
    inner = Context.of(copy, context.boundary, forced=context.forced, gpu=context.gpu)
    settings = {"predict_from": slug, "weights": "none", "recipe": trained.recipe or "default"}
    settings |= {"as_many": str(as_many)} if as_many else {}
    settings |= {"time_limit": f"{60 * hours:g}"} if hours else {}
    config = inner.shown_config(settings)
    with inner.remote, inner.remote.patient(inner.timeouts.outage):
        pushed = push(inner, settings, config, again, False, config.weights_files)
        with inner.holding(pushed, inner.timeouts.score):
            follow(inner, [pushed])
            found = fetch(inner, pushed)
            took = read_json(found / PREDICTED_FILE)
            _note_measured(inner, trained, folder, pushed, took)
            if not as_many:
                submit(inner, pushed, found / SUBMISSION, code=code)


def _note_measured(context: Context, trained: Run, folder: Path, pushed: Run, took: dict) -> None:
    """Note and print what a predicting kernel took; Problem if it found other networks."""
    if took.get("model") != file_hash(folder / MODEL_FILE):
        raise Problem(
            f"{pushed.name} was to predict with the networks of {trained.name} and found others: "
            "Kaggle mounts the newest version of a dataset that is ready when a run starts. `ship "
            f"predict {trained.name} --again` runs it once more."
        )
    pushed.predicted = {name: took[name] for name in ("photos", "seconds", "peak_memory_mb")}
    context.ledger.keep(pushed)
    seconds = f"{took['seconds']:.0f} s of {took['limit']:.0f}"
    memory = f"{took['peak_memory_mb']:.0f} MiB of memory"
    say(f"{pushed.name} predicted {took['photos']} photos in {seconds}, with {memory}", result=True)
    emit_json(run=pushed.name, predicted=took)


def _fetched(context: Context, run: Run) -> Path:
    """Wait for a run's end, and return the folder of its output."""
    follow(context, [run])
    return fetch(context, run)


def run_publish(context: Context, arguments: argparse.Namespace) -> None:
    """Publish the networks of a finished run, as a private dataset or a private Kaggle Model."""
    (run,) = arguments.runs
    with context.holding(run, context.timeouts.score):
        folder = _fetched(context, run)
        if arguments.model:
            files = network_files(folder)
            files = {name.partition("/")[2]: file for name, file in files.items()}
            ref = publish_model(context, run, folder, files, arguments.again)
        else:
            ref = publish_run(context, run, folder, arguments.again)
    return say(f"the networks of {run.name} are {ref}", result=True)


def run_predict(context: Context, arguments: argparse.Namespace) -> None:
    """Predict on Kaggle with the networks of a finished run, and submit that kernel's version."""
    (trained,) = arguments.runs
    with context.holding(trained, context.timeouts.score):
        folder, code = _fetched(context, trained), not arguments.file
        many, hours = arguments.as_many, arguments.hours
        return predict(context, trained, folder, arguments.again, many, code, hours)


HOURS = option("--hours", "how long the code competition lets a kernel run (9)",
    type=number_of(float, least=0.1, most=12), metavar="H")  # fmt: skip
PUBLISH_ARGUMENTS = (
    switch("--again", "upload them although they are, or may be, up to date"),
    switch("--model", "as a Kaggle Model, with a card, instead of a dataset"),
)
PREDICT_ARGUMENTS = (
    switch("--again", "upload and push although nothing has changed"),
    GPU,
    HOURS,
    switch("--file", "submit the file that it wrote: no code competition"),
    option("--as-many", "predict N training photos to measure time and memory, and submit nothing",
        type=number_of(int, least=1, most=10**7), metavar="N"),
)  # fmt: skip
