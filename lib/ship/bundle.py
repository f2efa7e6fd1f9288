"""`ship bundle`: what the kernel needs offline, staged, uploaded as a dataset, and verified.

Each package of lib/, the weights and the wheels become one zip archive, which Kaggle unpacks again
under the archive's name. The archives are made here and not by the client, which packs folders into
a new temporary file each time and so could never resume their upload in another process.
"""

import argparse
import contextlib
import json
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from common import Problem, write_atomically
from ship.credentials import refuse_secrets
from ship.desk import Desk, say
from ship.project import DATASET_METADATA, sha256
from ship.remote import Refused
from ship.weights import required_weights
from ship.wheels import staged_wheels

LEFT_OUT = ("ship", "sample", "weights", "wheels", "__pycache__")
DEBRIS = (".pyc", ".pyo", "~", ".bak", ".orig", ".rej")
EPOCH = (1980, 1, 1, 0, 0, 0)
STORED = (".h5", ".whl", ".npz", ".png", ".jpg")

NOT_THERE = (403, 404)
"""What Kaggle may answer about a dataset that is just being made."""


@dataclass(frozen=True)
class Staged:
    """A dataset ready to be uploaded: files maps paths in the dataset to sizes in bytes."""

    folder: Path
    hash: str
    files: dict[str, int]


def contents(lib: Path, weights_files: list[str]) -> dict[str, Path]:
    """Return what the dataset holds: path in the dataset to file.

    The packages of lib/ but `ship`, the manifest and the named weights, the wheels if there are
    any. Raise Problem when weights or wheels are missing or are not the published ones.
    """
    found: dict[str, Path] = {}
    for package in sorted(lib.iterdir()):
        if package.name not in LEFT_OUT and (package / "__init__.py").is_file():
            for file in sorted(package.rglob("*")):
                parts = file.relative_to(lib).parts
                hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
                if file.is_file() and not hidden and not file.name.endswith(DEBRIS):
                    found["/".join(parts)] = file
    if not found:
        raise Problem(f"there is no package in {lib}: run ship in a clone of the repository.")
    weights, wheels = lib / "weights", lib / "wheels"
    files = [weights / "manifest.json", *required_weights(weights_files, weights)]
    files += staged_wheels(wheels) if any(wheels.glob("*.whl")) else []
    return found | {f"{file.parent.name}/{file.name}": file for file in files}


def left_out(lib: Path) -> list[str]:
    """Return what lies in lib/ and is no package, for the user to know."""
    return [
        path.name
        for path in sorted(lib.iterdir())
        if path.name not in LEFT_OUT
        and not path.name.startswith(".")
        and path.suffix != ".egg-info"
        and not (path / "__init__.py").is_file()
    ]


def checked_contents(desk: Desk, weights_files: list[str]) -> dict[str, Path]:
    """Return what the dataset holds; raise Problem when a file of it holds a secret."""
    files = contents(desk.project.lib, weights_files)
    if others := left_out(desk.project.lib):
        say(f"not sent, for it is no package: {', '.join(others)} in {desk.project.lib}")
    for name, file in files.items():
        refuse_secrets(name, file.read_bytes(), desk.remote.secrets)
    return files


def content_hash(files: dict[str, Path]) -> str:
    """Return a hash of the names and the contents of files."""
    lines = [f"{name} {sha256(file)}\n" for name, file in sorted(files.items())]
    return sha256("".join(lines).encode())


def stage(desk: Desk, weights_files: list[str]) -> Staged:
    """Pack the dataset into a folder of its own, named by its content; an older one is reused."""
    files = checked_contents(desk, weights_files)
    digest = content_hash(files)
    sizes = {name: file.stat().st_size for name, file in files.items()}
    staged = Staged(desk.project.runs / "staged" / f"dataset-{digest[:16]}", digest, sizes)
    if not staged.folder.exists():
        part = staged.folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for archive in sorted({name.split("/")[0] for name in files}):
            inside = {n: f for n, f in files.items() if n.split("/")[0] == archive}
            pack(inside, part / f"{archive}.zip")
        part.rename(staged.folder)
    metadata = desk.project.owned(desk.project.dataset_metadata, desk.owner)
    write_atomically(staged.folder / DATASET_METADATA, json.dumps(metadata, indent=2) + "\n")
    return staged


def pack(files: dict[str, Path], archive: Path) -> None:
    """Write files into a zip archive without their first folder: the same bytes each time."""
    with zipfile.ZipFile(archive, "w") as out:
        for name, file in sorted(files.items()):
            info = zipfile.ZipInfo(name.split("/", 1)[1], EPOCH)
            info.external_attr = 0o644 << 16
            stored = file.suffix in STORED
            info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            info.file_size = file.stat().st_size
            with open(file, "rb") as source, out.open(info, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def bundle(desk: Desk, config: dict, new: bool = False) -> None:
    """Bring the dataset up to date at Kaggle, and wait until it is READY there.

    `new` creates it without asking first whether it is there. Raise Problem when Kaggle refuses it,
    when a file was dropped, or when it does not become READY.
    """
    if desk.dry_run:
        return describe(desk, config)
    ref = desk.dataset_ref
    staged = stage(desk, config["weights_files"])
    known = desk.state.dataset
    if known.get("ref") not in (None, ref):
        known.clear()
    known["ref"] = ref
    if known.get("sending") and new:
        forget_sending(desk)
    elif known.get("sending"):
        if desk.shows_up(lambda: arrived(desk)):
            wait_ready(desk)
        else:
            forget_sending(desk)
    current = None if new and "version" not in known else remote_version(desk, ref)
    if known.get("hash") == staged.hash and known.get("version") == current:
        if not known.get("ready"):
            wait_ready(desk)
        say(f"dataset {ref} version {current} is up to date")
        return None
    send(desk, staged, current or 0)
    wait_ready(desk)
    return None


def describe(desk: Desk, config: dict) -> None:
    """Print what `bundle` would upload."""
    files = checked_contents(desk, config["weights_files"])
    total = sum(file.stat().st_size for file in files.values())
    say(f"would upload to dataset {desk.dataset_ref} ({len(files)} files, {total / 1e6:.1f} MB):")
    for name, file in files.items():
        say(f"  {name}  {file.stat().st_size:,}")


def remote_version(desk: Desk, ref: str) -> int | None:
    """Return the dataset's version at Kaggle; None when there is no such dataset."""
    try:
        current = desk.remote.dataset(ref)
    except Refused as refusal:
        if refusal.status == 403:
            raise Problem(
                f"Kaggle refuses to say whether dataset {ref} exists (403): nothing was uploaded. "
                "If you know that it does not, create it with `ship bundle --new`."
            ) from None
        raise
    return current[0] if current else None


def send(desk: Desk, staged: Staged, base: int) -> None:
    """Upload the staged files and make a version of them; `base` is the one before, 0 for none."""
    known = desk.state.dataset
    what = f"dataset {known['ref']}"
    known["sending"] = {"hash": staged.hash, "base": base, "files": staged.files}
    answer = desk.send_once(
        f"the upload of {what}",
        send=lambda: upload(desk, staged, what),
        arrived=lambda: arrived(desk),
        forget=lambda: forget_sending(desk),
    )
    if answer and (answer["error"] or answer["status"].lower() == "error"):
        forget_sending(desk)
        raise Problem(f"Kaggle refused {what}: {answer['error'] or 'it gave no reason'}")
    unclear = answer and answer["status"].lower() != "ok"
    if unclear and not desk.shows_up(lambda: arrived(desk)):
        forget_sending(desk)
        raise Problem(
            f"Kaggle gave no clear answer about {what}, and does not have it: run the same command "
            "again."
        )


def upload(desk: Desk, staged: Staged, what: str) -> dict:
    """Upload what Kaggle has not got yet, then create the dataset or its version; its answer."""
    sending = desk.state.dataset["sending"]
    with upload_bar(desk, staged):
        desk.remote.call(
            "upload", f"the upload of {what}", folder=str(staged.folder), new=sending["base"] == 0
        )
    sending["note"] = f"ship {secrets.token_hex(4)}"
    desk.state.save()
    return desk.remote.call("create", what, once=True, notes=sending["note"])


def forget_sending(desk: Desk) -> None:
    """Note that Kaggle did not take what was sent."""
    desk.state.dataset.pop("sending", None)
    desk.state.save()


def arrived(desk: Desk) -> bool:
    """Tell whether Kaggle has, or is at work on, the version whose answer was lost."""
    return bool(sent_version(desk)) or still_processing(desk)


def sent_version(desk: Desk) -> int | None:
    """Return the number of the version that is being sent, None while Kaggle does not show it."""
    known = desk.state.dataset
    sending = known["sending"]
    try:
        current = desk.remote.dataset(known["ref"])
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


def still_processing(desk: Desk) -> bool:
    """Tell whether Kaggle is at work on a version of the dataset."""
    try:
        status = desk.remote.dataset_status(desk.state.dataset["ref"])
    except Refused as refusal:
        if refusal.status in NOT_THERE:
            return False
        raise
    return status not in ("READY", "FAILED", "DELETED")


def wait_ready(desk: Desk) -> None:
    """Wait until the dataset that was sent is READY, then verify the list of its files."""
    known = desk.state.dataset
    waited = 0.0
    say(f"waiting until dataset {known['ref']} is READY")
    for pause in desk.pace.polls():
        status = known_status(desk)
        version = known.get("version") if "sending" not in known else sent_version(desk)
        if status == "READY" and version:
            break
        if waited > desk.pace.ready:
            raise Problem(
                f"dataset {known['ref']} is still {status or 'unknown'} after {waited / 60:.0f} "
                "minutes: see its page at Kaggle, and run the same command again."
            )
        desk.remote.wait(pause)
        waited += pause
    sending = known.pop("sending", {})
    known.update({k: sending[k] for k in ("hash", "files") if k in sending}, version=version)
    known["ready"] = False
    desk.state.save()
    verify(desk)
    known["ready"] = True
    desk.state.save()
    tidy(desk)
    say(f"dataset {known['ref']} version {version} is READY, all {len(known['files'])} files")


def known_status(desk: Desk) -> str:
    """Return the dataset's status; raise Problem for one that it can't recover from."""
    ref = desk.state.dataset["ref"]
    try:
        status = desk.remote.dataset_status(ref)
    except Refused as refusal:
        if refusal.status in NOT_THERE:
            return "NOT_YET_PERSISTED"
        raise
    if status in ("FAILED", "DELETED"):
        desk.state.values["dataset"] = {"ref": ref}
        desk.state.save()
        raise Problem(
            f"Kaggle could not make dataset {ref} of what was uploaded ({status}): run the same "
            "command again to upload it anew."
        )
    return status


def verify(desk: Desk) -> None:
    """Raise Problem when the dataset at Kaggle lacks a file that was sent.

    Kaggle lists the files of an unpacked archive under their path; names without their folders and
    an archive that it keeps packed are accepted too, and files without content are not expected.
    """
    known = desk.state.dataset
    listed = desk.remote.dataset_files(known["ref"], known["version"])
    flat = not any("/" in name for name in listed)

    def there(name: str, size: int) -> bool:
        first, _, rest = name.partition("/")
        shown = listed.get(rest.split("/")[-1] if flat else name, -1)
        return shown in (size, 0) or size == 0 or f"{first}.zip" in listed

    missing = [name for name, size in known["files"].items() if not there(name, size)]
    if missing:
        desk.state.values["dataset"] = {"ref": known["ref"]}
        desk.state.save()
        raise Problem(
            f"dataset {known['ref']} version {known['version']} lacks {len(missing)} of the "
            f"{len(known['files'])} files, {missing[0]} among them: run the same command again to "
            "upload it anew."
        )


def tidy(desk: Desk) -> None:
    """Remove staged datasets that are no longer needed."""
    for folder in (desk.project.runs / "staged").glob("dataset-*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def upload_bar(desk: Desk, staged: Staged) -> Iterator[None]:
    """Show the upload's progress over all files, as the client reports it file by file."""
    total = sum(file.stat().st_size for file in staged.folder.glob("*.zip"))
    last = 0
    say(f"uploading {staged.folder.name} ({len(staged.files)} files, {total / 1e6:.1f} MB)")
    with tqdm(total=total, unit="B", unit_scale=True, desc="upload", disable=None) as bar:

        def advance(done: int, _: int) -> None:
            nonlocal last
            bar.update(done - last if done >= last else done)
            last = done

        desk.remote.on_progress = advance
        try:
            yield
        finally:
            desk.remote.on_progress = lambda done, total: None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship bundle`."""
    parser.add_argument(
        "--new", action="store_true", help="create the dataset without asking whether it exists"
    )


def run(desk: Desk, arguments: argparse.Namespace) -> None:
    """Run `ship bundle`."""
    settings = desk.settings(arguments)
    bundle(desk, desk.shown_config(settings), arguments.new)
