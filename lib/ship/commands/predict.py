"""`ship publish` and `ship predict`: use the networks of a finished run in a second kernel.

That kernel only predicts, with internet off; a code competition takes its versions. `ship publish
--model` makes a private Kaggle Model instead, with one variation: a file of each version is named
by a hash of its contents, by which a version is found, also where an answer was lost.
"""

import argparse
import json
import shutil
from pathlib import Path

from kernelkit.core.contract import METRICS_FILE, MODEL_FILE, PREDICTED_FILE, read_json
from kernelkit.core.files import file_hash, write_atomically
from kernelkit.core.problem import Problem
from ship.command_line import number_of, option, switch
from ship.commands.fetch import SUBMISSION, fetch, read_metrics
from ship.commands.live_runs import follow
from ship.commands.push import GPU, push
from ship.commands.submit import refuse_foreign, submit
from ship.context import Context
from ship.kaggle.remote import unless_hidden
from ship.kaggle.send_once import Absent, DeliveryStatus, Found, Transmission
from ship.ledger import Run
from ship.output import emit_json, say
from ship.project.bundle import Bundle
from ship.project.contents import CONTENTS_NAME, content_hash, copy_files, pack, refuse_secrets_in
from ship.project.project import KERNEL_METADATA, PLACEHOLDER, Project, copy_project

VARIATION = "keras/default"  # framework and name
LICENSE = "Apache 2.0"  # which the client proposes too
CARD = """\
# {title}

Tells {classes} classes of photos apart: {names}.

| | |
|---|---|
| competition | https://www.kaggle.com/c/{competition} |
| trained on | {train_images} labelled photos |
| {metric} | {score:.4f}, with a 95 % interval from {score_low:.4f} to {score_high:.4f} |
| measured on | {val_images} photos that the network did not train on |
| networks | {networks} |
| run | {run}, {recipe} recipe |

## How to load it

Each `.keras` file takes uint8 photos [n, height, width, 3], scales them, and returns probabilities
[n, {classes}]. `{model_file}` has the labels in their order, and how the networks are combined.

```python
import json, cv2, keras

model = json.load(open("{model_file}"))
network = keras.models.load_model(model["members"][0]["networks"][0]["file"])
photo = cv2.cvtColor(cv2.imread("photo.jpg"), cv2.COLOR_BGR2RGB)
photo = cv2.resize(photo, network.input_shape[2:0:-1], interpolation=cv2.INTER_AREA)
print(model["classes"][network.predict(photo[None])[0].argmax()])
```

All networks, views and the calibration: `python kernel.py --predict PHOTOS --run FOLDER`.
"""
FOLDER = "model"  # of the dataset, in which the manifest and the networks lie


def network_files(folder: Path) -> dict[str, Path]:
    """Return a run's manifest and the networks that it names, by their paths in the dataset."""
    members = read_json(folder / MODEL_FILE).get("members")
    if not isinstance(members, list):
        raise Problem(
            f"{folder} holds no {MODEL_FILE}: only a finished run of this version has networks; "
            f"push one, or fetch its output again with `ship fetch {folder.name} --again`."
        )
    names = [MODEL_FILE, *(one["file"] for member in members for one in member["networks"])]
    files = {f"{FOLDER}/{name}": folder / name for name in names}
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        again = f"`ship fetch {folder.name} --again` fetches the output anew"
        raise Problem(f"{missing[0]} is missing: {again}.")
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
    published = Bundle(context, network_files(folder), metadata, ref)
    published.bring_up_to_date(again=again)
    return f"{ref}/{published.known.version}"


# --- a second kernel ---


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
    refuse_foreign(context, trained, folder / SUBMISSION)
    models = publish_run(context, trained, folder, again)
    owner, slug, _ = models.split("/")
    digest = content_hash(network_files(folder))[:16]
    copy = predicting_project(context.project, trained, f"{owner}/{slug}", digest)
    more = {"again": f"ship predict {trained.name} --again"}
    inner = Context.of(copy, context.boundary, forced=context.forced, gpu=context.gpu, **more)
    settings = {"predict_from": slug, "weights": "none", "recipe": trained.recipe or "default"}
    settings |= {"as_many": str(as_many)} if as_many else {}
    settings |= {"time_limit": f"{60 * hours:g}"} if hours else {}
    config = inner.shown_config(settings)
    with inner.remote, inner.remote.patient(inner.timeouts.outage):
        pushed = push(
            inner, settings, config, again, remembered=False, weights=config.weights_files
        )
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
    pushed.found = str(took.get("packages") or "")
    pushed.predicted = {name: took[name] for name in ("photos", "seconds", "peak_memory_mb")}
    context.ledger.keep(pushed)
    seconds = f"{took['seconds']:.0f} s of {took['limit']:.0f}"
    memory = f"{took['peak_memory_mb']:.0f} MiB of memory"
    say(f"{pushed.name} predicted {took['photos']} photos in {seconds}, with {memory}", result=True)
    emit_json(run=pushed.name, predicted=took)


# --- a Kaggle Model ---


def card(run: Run, folder: Path, title: str) -> str:
    """Return what a run's networks are, how good, and how to load them, as Markdown."""
    metrics, model = read_metrics(folder), read_json(folder / MODEL_FILE)
    networks = [
        f"{member['name']} ({len(member['networks'])}, weight {member['weight']:.2f})"
        for member in model["members"]
    ]
    names = [str(label) for label in metrics.get("classes", [])]
    shown = names if len(names) <= 20 else [*names[:20], "..."]
    made = {"classes": len(names), "names": ", ".join(shown), "networks": ", ".join(networks)}
    made |= {"run": run.name, "title": title, "model_file": MODEL_FILE}
    try:
        return CARD.format(**metrics | made)
    except KeyError as error:
        raise Problem(f"{folder / METRICS_FILE} has no {error}: fetch the run again.") from error


def publish_model(
    context: Context, run: Run, folder: Path, files: dict[str, Path], again: bool
) -> str:
    """Bring the Kaggle Model up to date with a run's networks; return its version's handle.

    `folder` is that of the run's output, `files` are the manifest and the networks by their paths
    in the model. With `again` they are uploaded although they are, or may be, up to date. Raises
    Problem where Kaggle refuses them, or nobody knows whether they arrived.
    """
    slug = context.project.slug
    title, ref = slug.replace("-", " ").capitalize(), f"{context.owner}/{slug}"
    handle, marker = f"{ref}/{VARIATION}", CONTENTS_NAME.format(content_hash(files)[:12])
    context.doing("publishing the model")
    with context.sending():
        transmission = _transmission(context, handle, marker)
        if context.state.model:
            transmission.settle_earlier(again)
            transmission.forget()
        number = _version_with(context, handle, marker)
        if again or not number:
            staged = _stage(context, files, card(run, folder, title), title, marker)
            _send(context, ref, handle, staged, marker, run.name)
            number = _wait(context, handle, marker)
        else:
            say(f"model {handle}/{number} is up to date")
    emit_json(model=f"{handle}/{number}")
    return f"{handle}/{number}"


def _transmission(context: Context, handle: str, marker: str) -> Transmission:
    def probe() -> DeliveryStatus:
        number = _version_with(context, handle, marker)
        return Found(number) if number else Absent()

    return Transmission(
        context,
        what=f"the upload of model {handle}",
        probe=probe,
        forget=lambda: _note(context, ""),
        decide=(
            f"see https://www.kaggle.com/models/{handle}; `ship publish --model --again` uploads "
            "it anew."
        ),
    )


def _note(context: Context, marker: str) -> None:
    """Save which version is being sent, "" for none."""
    context.state.model = marker
    context.state.save()


def _newest(context: Context, handle: str) -> int | None:
    """Return the newest version of the variation, 0 where none is ready, None without it."""
    found = unless_hidden(lambda: context.remote.model_variation(handle), None)
    return None if found is None else found.get("versionNumber") or 0


def _version_with(context: Context, handle: str, marker: str) -> int:
    """Return the newest version of the variation if it holds the file of this name, else 0."""
    if not (number := _newest(context, handle)):
        return 0
    listed = unless_hidden(lambda: context.remote.model_files(f"{handle}/{number}"), [])
    return number if marker in [name for name, _ in listed] else 0


def _stage(context: Context, files: dict[str, Path], text: str, title: str, marker: str) -> Path:
    """Return a folder with the files, folders packed, the card and the client's metadata."""
    refuse_secrets_in(files, context.remote.secrets)
    staged = context.project.runs / "staged" / "model"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    copy_files({name: file for name, file in files.items() if "/" not in name}, staged)
    for top in sorted({name.split("/")[0] for name in files if "/" in name}):
        inside = {name: file for name, file in files.items() if name.startswith(f"{top}/")}
        pack(inside, staged / f"{top}.zip")
    owner, slug = context.owner, context.project.slug
    framework, variation = VARIATION.split("/")
    own = {"ownerSlug": owner, "framework": framework, "licenseName": LICENSE}
    own |= {"modelSlug": slug, "instanceSlug": variation, "overview": title, "usage": text}
    model = {"ownerSlug": owner, "slug": slug, "title": title, "isPrivate": True}
    for name, content in {
        "README.md": text,
        marker: "Its name tells ship what this version holds.\n",
        "model-metadata.json": json.dumps(model | {"subtitle": "", "description": text}),
        "model-instance-metadata.json": json.dumps(own),
    }.items():
        write_atomically(staged / name, content)
    return staged


def _send(context: Context, ref: str, handle: str, staged: Path, marker: str, notes: str) -> None:
    """Make the model where there is none, and upload the folder as its next version."""
    what = f"model {handle}"
    if unless_hidden(lambda: context.remote.model(ref), None) is None:
        answer = context.remote.call("create_model", f"model {ref}", folder=str(staged))
        if answer["error"] and unless_hidden(lambda: context.remote.model(ref), None) is None:
            raise Problem(f"Kaggle refused model {ref}: {answer['error']}")
    notes = "" if _newest(context, handle) is None else notes  # the first version has none
    say(f"uploading {what}")
    fields = {"folder": str(staged), "handle": handle, "notes": notes}

    def upload() -> None:
        answer = context.remote.call("create_model_version", what, once=True, **fields)
        if answer["error"]:
            raise Problem(f"Kaggle refused {what}: {answer['error']}")

    _transmission(context, handle, marker).send(lambda: _note(context, marker), upload)


def _wait(context: Context, handle: str, marker: str) -> int:
    """Wait until Kaggle shows the version that was sent, and return its number."""
    say(f"waiting until model {handle} has its new version")
    longest = context.timeouts.ready
    with context.remote.patient(context.timeouts.outage):
        number = context.ask_until(lambda: _version_with(context, handle, marker), longest)
    if not number:
        raise Problem(
            f"Kaggle does not show the new version of model {handle} after {longest / 60:.0f} "
            "minutes: see its page, and run the same command again."
        )
    _note(context, "")
    return number


# --- the commands ---


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
