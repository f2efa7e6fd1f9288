"""`ship bundle`: stage what the kernel needs offline, upload it as a dataset, and verify it there.

Each package of lib/, the weights and the wheels become one zip archive, which Kaggle unpacks into a
folder of the archive's name. The archives are made here and not by the client, because the client
packs folders into a new temporary file each time and so can't resume an upload in another process.
"""

import argparse
import contextlib
import json
import secrets
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from common import Problem, write_atomically
from ship.contents import content_hash, not_sent, upload_files
from ship.context import Context, say
from ship.credentials import refuse_secrets
from ship.project import DATASET_METADATA
from ship.remote import Refused

EPOCH = (1980, 1, 1, 0, 0, 0)
STORED = (".h5", ".whl", ".npz", ".png", ".jpg")

NOT_THERE = (403, 404)
"""HTTP statuses that Kaggle may answer about a dataset that is just being made."""


@dataclass(frozen=True)
class StagedDataset:
    """A dataset ready to be uploaded: the folder of its archives, and a hash of the contents.

    `files` maps each path in the dataset to its size in bytes.
    """

    folder: Path
    hash: str
    files: dict[str, int]


def checked_files(context: Context, weights_files: list[str]) -> dict[str, Path]:
    """Return the files of the dataset by their path in it.

    Raises:
        Problem: a file is missing or holds a secret.
    """
    files = upload_files(context.project.lib, weights_files)
    if others := not_sent(context.project.lib):
        say(f"not sent, because it is no package: {', '.join(others)} in {context.project.lib}")
    for name, file in files.items():
        refuse_secrets(name, file.read_bytes(), context.remote.secrets)
    return files


def stage_dataset(context: Context, weights_files: list[str]) -> StagedDataset:
    """Pack the dataset into a folder that is named by its content; one that is there is reused."""
    files = checked_files(context, weights_files)
    digest = content_hash(files)
    sizes = {name: file.stat().st_size for name, file in files.items()}
    staged = StagedDataset(
        context.project.runs / "staged" / f"dataset-{digest[:16]}", digest, sizes
    )
    if not staged.folder.exists():
        part = staged.folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for archive in sorted({name.split("/")[0] for name in files}):
            inside = {n: f for n, f in files.items() if n.split("/")[0] == archive}
            pack(inside, part / f"{archive}.zip")
        part.rename(staged.folder)
    metadata = context.project.owned(context.project.dataset_metadata, context.owner)
    write_atomically(staged.folder / DATASET_METADATA, json.dumps(metadata, indent=2) + "\n")
    return staged


def pack(files: dict[str, Path], archive: Path) -> None:
    """Write files into a zip archive, without the first folder of their paths.

    The same files always give the same bytes.
    """
    with zipfile.ZipFile(archive, "w") as out:
        for name, file in sorted(files.items()):
            info = zipfile.ZipInfo(name.split("/", 1)[1], EPOCH)
            info.external_attr = 0o644 << 16
            stored = file.suffix in STORED
            info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            info.file_size = file.stat().st_size
            with open(file, "rb") as source, out.open(info, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def bundle(context: Context, config: dict, new: bool = False) -> None:
    """Bring the dataset up to date at Kaggle, and wait until it is READY there.

    Args:
        context: the project, Kaggle and the state.
        config: the kernel's answer to --show-config, which names the weights.
        new: create the dataset without asking first whether it exists.

    Raises:
        Problem: Kaggle refuses the dataset, lacks a file of it, or does not make it READY.
    """
    if context.dry_run:
        return describe(context, config)
    context.doing("packing lib/ for the dataset")
    ref = context.dataset_ref
    staged = stage_dataset(context, config["weights_files"])
    known = context.state.dataset
    if known.get("ref") not in (None, ref):
        known.clear()
    known["ref"] = ref
    if known.get("sending") and new:
        forget_sending(context)
    elif known.get("sending"):
        if context.shows_up(lambda: arrived(context)):
            wait_ready(context)
        else:
            forget_sending(context)
    current = None if new and "version" not in known else remote_version(context, ref)
    if known.get("hash") == staged.hash and known.get("version") == current:
        if not known.get("ready"):
            wait_ready(context)
        say(f"dataset {ref} version {current} is up to date")
        return None
    send(context, staged, current or 0)
    wait_ready(context)
    return None


def describe(context: Context, config: dict) -> None:
    """Print what `bundle` would upload."""
    files = checked_files(context, config["weights_files"])
    total = sum(file.stat().st_size for file in files.values())
    say(
        f"would upload to dataset {context.dataset_ref} ({len(files)} files, {total / 1e6:.1f} MB):"
    )
    for name, file in files.items():
        say(f"  {name}  {file.stat().st_size:,}")


def remote_version(context: Context, ref: str) -> int | None:
    """Return the number of the dataset's version at Kaggle; None when there is no such dataset.

    Raises:
        Problem: Kaggle does not say whether it exists.
    """
    try:
        current = context.remote.dataset(ref)
    except Refused as refusal:
        if refusal.status == 403:
            raise Problem(
                f"Kaggle refuses to say whether dataset {ref} exists (403): nothing was uploaded. "
                "If you know that it does not, create it with `ship bundle --new`."
            ) from None
        raise
    return current[0] if current else None


def send(context: Context, staged: StagedDataset, base: int) -> None:
    """Upload the staged files and make them the version after `base` (0: the first version).

    Raises:
        Problem: Kaggle refused them, or has not got them.
    """
    known = context.state.dataset
    context.doing("uploading the dataset")
    what = f"dataset {known['ref']}"
    known["sending"] = {"hash": staged.hash, "base": base, "files": staged.files}
    answer = context.send_once(
        f"the upload of {what}",
        send=lambda: upload(context, staged, what),
        arrived=lambda: arrived(context),
        forget=lambda: forget_sending(context),
    )
    if answer and (answer["error"] or answer["status"].lower() == "error"):
        forget_sending(context)
        raise Problem(f"Kaggle refused {what}: {answer['error'] or 'it gave no reason'}")
    unclear = answer and answer["status"].lower() != "ok"
    if unclear and not context.shows_up(lambda: arrived(context)):
        forget_sending(context)
        raise Problem(
            f"Kaggle gave no clear answer about {what}, and does not have it: run the same command "
            "again."
        )


def upload(context: Context, staged: StagedDataset, what: str) -> dict:
    """Upload what Kaggle has not got yet, create the dataset or its version, return the answer."""
    sending = context.state.dataset["sending"]
    with upload_bar(context, staged):
        context.remote.call(
            "upload", f"the upload of {what}", folder=str(staged.folder), new=sending["base"] == 0
        )
    sending["note"] = f"ship {secrets.token_hex(4)}"
    context.state.save()
    return context.remote.call("create", what, once=True, notes=sending["note"])


def forget_sending(context: Context) -> None:
    """Note that Kaggle did not take what was sent."""
    context.state.dataset.pop("sending", None)
    context.state.save()


def arrived(context: Context) -> bool:
    """Tell whether Kaggle has the version that is being sent, or is at work on it."""
    return bool(sent_version(context)) or still_processing(context)


def sent_version(context: Context) -> int | None:
    """Return the number of the version that is being sent, None while Kaggle does not show it."""
    known = context.state.dataset
    sending = known["sending"]
    try:
        current = context.remote.dataset(known["ref"])
    except Refused as refusal:
        if refusal.status not in NOT_THERE:
            raise
        current = None
    if current is None:
        return None
    number, versions = current
    notes = {v.get("versionNumber"): v.get("versionNotes") or "" for v in versions}
    for found, note in notes.items():
        if sending["note"] in note:
            return found
    # Kaggle writes the first version's notes itself, and need not list the versions at all.
    told = sending["base"] > 0 and any(notes.get(n) for n in notes if n and n > sending["base"])
    return number if number > sending["base"] and not told else None


def still_processing(context: Context) -> bool:
    """Tell whether Kaggle is at work on a version of the dataset."""
    try:
        status = context.remote.dataset_status(context.state.dataset["ref"])
    except Refused as refusal:
        if refusal.status in NOT_THERE:
            return False
        raise
    return status not in ("READY", "FAILED", "DELETED")


def wait_ready(context: Context) -> None:
    """Wait until the dataset that was sent is READY, then verify the list of its files.

    Raises:
        Problem: it does not become READY in time, or lacks a file.
    """
    known = context.state.dataset
    waited = 0.0
    context.doing("waiting for the dataset")
    say(f"waiting until dataset {known['ref']} is READY")
    for pause in context.pace.polls():
        status = known_status(context)
        version = known.get("version") if "sending" not in known else sent_version(context)
        if status == "READY" and version:
            break
        if waited > context.pace.ready:
            raise Problem(
                f"dataset {known['ref']} is still {status or 'unknown'} after {waited / 60:.0f} "
                "minutes: see its page at Kaggle, and run the same command again."
            )
        context.remote.wait(pause)
        waited += pause
    sending = known.pop("sending", {})
    known.update({k: sending[k] for k in ("hash", "files") if k in sending}, version=version)
    known["ready"] = False
    context.state.save()
    verify(context)
    known["ready"] = True
    context.state.save()
    tidy(context)
    say(f"dataset {known['ref']} version {version} is READY, all {len(known['files'])} files")


def known_status(context: Context) -> str:
    """Return the dataset's status word.

    Raises:
        Problem: the dataset has failed or was deleted; the next `ship bundle` uploads it anew.
    """
    ref = context.state.dataset["ref"]
    try:
        status = context.remote.dataset_status(ref)
    except Refused as refusal:
        if refusal.status in NOT_THERE:
            return "NOT_YET_PERSISTED"
        raise
    if status in ("FAILED", "DELETED"):
        context.state.values["dataset"] = {"ref": ref}
        context.state.save()
        raise Problem(
            f"Kaggle could not make dataset {ref} of what was uploaded ({status}): run the same "
            "command again to upload it anew."
        )
    return status


def verify(context: Context) -> None:
    """Raise Problem when the dataset at Kaggle lacks a file that was sent."""
    known = context.state.dataset
    listed = context.remote.dataset_files(known["ref"], known["version"])
    missing = missing_files(known["files"], listed)
    if missing:
        context.state.values["dataset"] = {"ref": known["ref"]}
        context.state.save()
        raise Problem(
            f"dataset {known['ref']} version {known['version']} lacks {len(missing)} of the "
            f"{len(known['files'])} files, {missing[0]} among them: run the same command again to "
            "upload it anew."
        )


def missing_files(sent: dict[str, int], listed: list[tuple[str, int]]) -> list[str]:
    """Return which of the files that were sent Kaggle does not list.

    Kaggle lists the files of an unpacked archive by their path. Bare names without folders, sizes
    of 0 and an archive that is listed as it was sent are accepted too. Files without content need
    not be listed.

    Args:
        sent: path in the dataset to size in bytes.
        listed: Kaggle's list of names and sizes in bytes; a bare name may occur several times.
    """
    left = Counter(listed)
    names = {name for name, _ in listed}
    bare = not any("/" in name for name in names)
    missing = []
    for name, size in sent.items():
        archive, _, rest = name.partition("/")
        if not size or f"{archive}.zip" in names:
            continue
        shown = rest.split("/")[-1] if bare else name
        entry = (shown, size) if left[(shown, size)] else (shown, 0)
        if left[entry]:
            left[entry] -= 1
        else:
            missing.append(name)
    return missing


def tidy(context: Context) -> None:
    """Remove the staged datasets, which nobody needs once Kaggle has them."""
    for folder in (context.project.runs / "staged").glob("dataset-*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def upload_bar(context: Context, staged: StagedDataset) -> Iterator[None]:
    """Show the upload's progress over all files; the client reports it file by file."""
    total = sum(file.stat().st_size for file in staged.folder.glob("*.zip"))
    last = 0
    say(f"uploading {staged.folder.name} ({len(staged.files)} files, {total / 1e6:.1f} MB)")
    with tqdm(total=total, unit="B", unit_scale=True, desc="upload", disable=None) as bar:

        def advance(done: int, _: int) -> None:
            nonlocal last
            bar.update(done - last if done >= last else done)
            last = done

        context.remote.on_progress = advance
        try:
            yield
        finally:
            context.remote.on_progress = lambda done, total: None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship bundle`."""
    parser.add_argument(
        "--new", action="store_true", help="create the dataset without asking whether it exists"
    )


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship bundle`."""
    settings = context.settings(arguments)
    bundle(context, context.shown_config(settings), arguments.new)
