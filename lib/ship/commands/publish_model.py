"""`ship publish --model`: a private Kaggle Model of a finished run's networks.

It has one variation, `keras/default`. A file of each version is named by a hash of its contents: by
that a version that holds the same is found, also where an answer was lost.
"""

import json
import shutil
from pathlib import Path

from kernelkit.core.contract import METRICS_FILE, MODEL_FILE, read_json
from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.commands.fetch import read_metrics
from ship.context import Context
from ship.kaggle.remote import unless_hidden
from ship.kaggle.send_once import Absent, DeliveryStatus, Found, Transmission
from ship.ledger import Run
from ship.output import emit_json, say
from ship.project.contents import CONTENTS_NAME, content_hash, copy_files, pack, refuse_secrets_in

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
