"""`ship bundle`: upload what the kernel needs offline as a dataset, and verify it there."""

import argparse
import contextlib
import dataclasses
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from kernelkit.core.problem import Problem
from ship.context import Context
from ship.kaggle.client_process import Refused, Unavailable
from ship.kaggle.send_once import (
    Absent,
    DeliveryStatus,
    Found,
    Transmission,
    Unknown,
    send_once,
    settle,
)
from ship.ledger import Run
from ship.output import emit_json, progress_bar, say
from ship.project.contents import DATA_FOLDERS, parts_of, sha256, upload_files
from ship.project.staging import (
    StagedDataset,
    checked_files,
    hashes_in,
    missing_files,
    stage_dataset,
)

NOT_THERE = (403, 404)
"""HTTP statuses that Kaggle may answer about a dataset that is just being made."""
HOLDS = re.compile(r"\b[0-9a-f]{12}\b")
"""A hash of one of the dataset's parts in the notes of a version."""
SENT = ("holds", "hashes", "files")
"""What is known of a version from the moment it is sent."""


class Refusal(Problem):
    """Kaggle did not take the dataset, and said why; another machine may have made it just now."""


def lacking(context: Context, files: dict[str, Path]) -> list[str]:
    """Return which parts of these files the dataset lacks, as far as this machine knows.

    More weights and wheels than a run needs do no harm: other settings may need them.
    """
    known = context.state.dataset
    if old := known.get("hashes"):
        same = all(old.get(name) == sha256(file)[:16] for name, file in files.items())
        more = [name for name in old if name not in files]
        fits = same and all(name.split("/")[0] in DATA_FOLDERS for name in more)
        return [] if fits else ["code"]
    holds = known.get("holds") or []
    return [part for part, digest in parts_of(files).items() if digest not in holds]


def bundle(
    context: Context, config: dict, new: bool = False, again: bool = False, silent: bool = False
) -> None:
    """Bring the dataset up to date at Kaggle, and wait until it is READY there.

    Args:
        context: the project, Kaggle and the state.
        config: the kernel's answer to --show-config, which names the weights.
        new: create the dataset without asking first whether it exists.
        again: upload it although it is up to date, or nobody knows whether it has arrived.
        silent: say nothing when it is up to date.

    Raises:
        Problem: Kaggle refuses the dataset, lacks a file of it, or does not make it READY.
    """
    if context.dry_run:
        return describe(context, config)
    context.doing("packing lib/ for the dataset")
    files = upload_files(context.project.lib, config["weights_files"])
    with context.sending():
        settle_upload(context, new or again)
        known = context.state.dataset
        current = None if new and "version" not in known else newest_version(context, files)
        if again or lacking(context, files):
            staged = stage_dataset(context, config["weights_files"])
            try:
                send(context, staged, current or 0)
            except Refusal:
                newest_version(context, files)
                if current or lacking(context, files):
                    raise
            if "sending" not in known:  # another machine has made it meanwhile
                newest_version(context, files)
            make_ready(context)
        else:
            make_ready(context)
            if not silent:
                say(f"dataset {known['ref']} version {current} is up to date")
    return None


def mounted_version(context: Context, config: dict) -> str:
    """Return "owner/slug/version" of the dataset that a run pushed now will mount, once READY.

    Kaggle mounts the newest version that is READY when the run starts.

    Raises:
        Problem: there is no dataset, or it does not hold what the run needs.
    """
    files, ref = upload_files(context.project.lib, config["weights_files"]), context.dataset_ref
    settle_upload(context)
    current = newest_version(context, files)
    if current is None:
        raise Problem(f"there is no dataset {ref} yet: run `ship bundle` first.")
    if parts := lacking(context, files):
        named = ["the packages of lib/" if part == "code" else part for part in parts]
        raise Problem(
            f"dataset {ref} version {current} at Kaggle does not hold {', '.join(named)} as they "
            "are here: `ship bundle` uploads them, `ship` does that and pushes."
        )
    make_ready(context)
    return f"{ref}/{current}"


def settle_upload(context: Context, again: bool = False) -> None:
    """Find out what became of an upload that was cut short: wait for it, or forget it.

    Raises:
        Undecided: nobody knows, and no person has said `again`.
    """
    known, ref = context.state.dataset, context.dataset_ref
    if known.get("ref") not in (None, ref):
        known.clear()
    known["ref"] = ref
    if not known.get("sending"):
        return
    if again:
        return forget_sending(context)
    say("an earlier upload was cut short; asking Kaggle whether it arrived")
    if settle(context, transmission_of(context)):
        wait_ready(context)
    else:
        forget_sending(context)
    return None


def newest_version(context: Context, files: dict[str, Path]) -> int | None:
    """Return the number of the dataset's newest version; None when there is no such dataset.

    What one holds that this machine has not sent is told by its notes. Kaggle writes those of the
    first one itself, so that one's list of files tells it; a later one that was made by hand may
    have kept the file.
    """
    known = context.state.dataset
    found = remote_version(context, known["ref"])
    if found is None:
        known.pop("version", None), known.pop("holds", None), known.pop("hashes", None)
        return None
    number, notes = found
    if known.get("version") != number:
        known.pop("hashes", None)
        sizes = {name: file.stat().st_size for name, file in files.items()}
        holds = HOLDS.findall(notes) or (listed_hashes(context) if number == 1 else [])
        known.update(version=number, holds=holds, files=sizes, ready=False)
        context.state.save()
    return number


def listed_hashes(context: Context) -> list[str]:
    """Return the hashes of the first version's parts by its list of files, [] if it has none."""
    try:
        listed = context.remote.dataset_files(context.state.dataset["ref"], 1)
    except Refused as refusal:
        if refusal.status not in NOT_THERE:
            raise
        return []
    return hashes_in([name for name, _ in listed])


def make_ready(context: Context) -> None:
    """Wait until the dataset is READY, unless it is known to be."""
    if not context.state.dataset.get("ready"):
        wait_ready(context)


def describe(context: Context, config: dict) -> None:
    """Print what `bundle` would upload."""
    files = checked_files(context, config["weights_files"])
    total = sum(file.stat().st_size for file in files.values())
    say(
        f"would upload to dataset {context.dataset_ref} ({len(files)} files, {total / 1e6:.1f} MB):"
    )
    for name, file in files.items():
        say(f"  {name}  {file.stat().st_size:,}")


def remote_version(context: Context, ref: str) -> tuple[int, str] | None:
    """Return the number and the notes of the dataset's newest version; None without a dataset.

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
    if current is None:
        return None
    number, versions = current
    notes = [v.get("versionNotes") or "" for v in versions if v.get("versionNumber") == number]
    return number, "".join(notes)


def send(context: Context, staged: StagedDataset, base: int) -> None:
    """Upload the staged files and make them the version after `base` (0: the first version).

    Raises:
        Problem: Kaggle refused them, or has not got them.
    """
    known = context.state.dataset
    context.doing("uploading the dataset")
    what = f"dataset {known['ref']}"

    def begin() -> None:
        sending = {"base": base, "files": staged.files, "holds": [*staged.parts.values()]}
        known["sending"] = sending | {"note": f"ship {secrets.token_hex(4)}"}
        known["ready"] = False

    transmission = transmission_of(context)
    answer = send_once(
        context,
        dataclasses.replace(transmission, send=lambda: upload(context, staged, what), begin=begin),
    )
    if isinstance(answer, Found):
        return
    if answer["error"] or answer["status"].lower() == "error":
        forget_sending(context)
        raise Refusal(f"Kaggle refused {what}: {answer['error'] or 'it gave no reason'}")
    if answer["status"].lower() != "ok" and not settle(context, transmission):
        forget_sending(context)
        raise Problem(
            f"Kaggle gave no clear answer about {what}, and does not have it: run the same command "
            "again."
        )


def transmission_of(context: Context) -> Transmission:
    """Return the dataset's version that is on its way as a transmission that can be probed."""
    ref = context.state.dataset["ref"]
    return Transmission(
        what=f"the upload of dataset {ref}",
        probe=lambda: probe(context),
        forget=lambda: forget_sending(context),
        decide=f"see https://www.kaggle.com/datasets/{ref}; `ship bundle --again` uploads it anew.",
    )


def upload(context: Context, staged: StagedDataset, what: str) -> dict:
    """Upload what Kaggle has not got yet, create the dataset or its version, return the answer."""
    sending = context.state.dataset["sending"]
    with upload_bar(context, staged):
        context.remote.call(
            "upload", f"the upload of {what}", folder=str(staged.folder), new=sending["base"] == 0
        )
    wait_for_starts(context)
    if made_elsewhere(context):
        forget_sending(context)
        return Found("the notes of a version that another machine has made")
    context.state.save()  # after a kill from here on it is asked for before it is sent again
    notes = " ".join([sending["note"], "holds", *sending["holds"]])
    return context.remote.call("create", what, once=True, notes=notes)


def made_elsewhere(context: Context) -> bool:
    """Tell whether another machine has made a version of just these contents since the upload."""
    known = context.state.dataset
    sending = known["sending"]
    found = remote_version(context, known["ref"]) if sending["base"] else None
    if not found or found[0] <= sending["base"]:
        return False
    return set(sending["holds"]) <= set(HOLDS.findall(found[1]))


def wait_for_starts(context: Context) -> None:
    """Wait until no run of this project is queued: it would mount the version that is made now."""
    ref, told = context.state.dataset["ref"], False
    live = [run for run in context.ledger.runs() if not run.ended and run.dataset.startswith(ref)]
    for waited in context.asking():
        live = [run for run in live if is_queued(context, run)]
        if not live or waited > context.timeouts.ready:
            return
        if not told:
            say(f"{live[0].name} has not started yet, and would mount this: waiting for its start")
        told = True


def is_queued(context: Context, run: Run) -> bool:
    """Tell whether Kaggle says that a run has not started yet."""
    with contextlib.suppress(Refused, Unavailable):
        return context.remote.run_status(run.kernel, run.version)[0] == "QUEUED"
    return False


def forget_sending(context: Context) -> None:
    """Note that Kaggle did not take what was sent."""
    context.state.dataset.pop("sending", None)
    context.state.save()


def probe(context: Context) -> DeliveryStatus:
    """Probe for the version that is being sent: the list of versions, and the status."""
    if sent_version(context):
        return Found("the note in the list of versions")
    ref = context.state.dataset["ref"]
    try:
        status = context.remote.dataset_status(ref)
    except Refused as refusal:
        if refusal.status not in NOT_THERE:
            raise
        if context.state.dataset["sending"]["base"]:
            return Unknown("Kaggle does not show the dataset that was there before")
        return Absent()
    if not status:
        return Unknown("Kaggle tells no status of the dataset")
    if status not in ("READY", "FAILED", "DELETED"):
        return Found(f"the status {status}")
    return Absent()


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


def wait_ready(context: Context) -> None:
    """Wait until the dataset that was sent is READY, then verify the list of its files.

    Raises:
        Problem: it does not become READY in time, or lacks a file.
    """
    known = context.state.dataset
    context.doing("waiting for the dataset")
    say(f"waiting until dataset {known['ref']} is READY")
    with context.remote.patient(context.timeouts.outage):
        for waited in context.asking():
            status = known_status(context)
            version = known.get("version") if "sending" not in known else sent_version(context)
            if status == "READY" and version:
                break
            if waited > context.timeouts.ready:
                raise Problem(
                    f"dataset {known['ref']} is still {status or 'unknown'} after "
                    f"{waited / 60:.0f} minutes: see its page at Kaggle, and run the same command "
                    "again."
                )
    if sending := known.pop("sending", {}):
        known.pop("hashes", None), known.pop("holds", None)
    known.update({k: sending[k] for k in SENT if k in sending}, version=version)
    known["ready"] = False
    context.state.save()
    with context.remote.patient(context.timeouts.outage):
        verify(context)
    known["ready"] = True
    context.state.save()
    tidy(context)
    say(f"dataset {known['ref']} version {version} is READY, all {len(known['files'])} files")
    emit_json(dataset=known["ref"], dataset_version=version)


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
        known = context.state.dataset
        version = sent_version(context) if "sending" in known else known.get("version")
        failed = {"version": version, "holds": []} if version else {}
        context.state.values["dataset"] = {"ref": ref} | failed
        context.state.save()
        raise Problem(
            f"Kaggle could not make dataset {ref} of what was uploaded ({status}): run the same "
            "command again to upload it anew."
        )
    return status


def verify(context: Context) -> None:
    """Wait until the list of the dataset's files has all that was sent: Kaggle's lists lag.

    Raises:
        Problem: it lacks a file for long; nothing is uploaded again without a person's word.
    """
    known = context.state.dataset
    for waited in context.asking():
        try:
            listed = context.remote.dataset_files(known["ref"], known["version"])
        except Refused as refusal:
            if refusal.status not in NOT_THERE:
                raise
            listed = []
        missing = missing_files(known["files"], listed)
        if not missing:
            return
        if not waited:
            say(f"Kaggle does not list all files of dataset {known['ref']} yet; asking again")
        if waited >= context.timeouts.prove:
            raise Problem(
                f"Kaggle lists dataset {known['ref']} version {known['version']} without "
                f"{len(missing)} of the {len(known['files'])} files, {missing[0]} among them: the "
                "same command looks again, `ship bundle --again` uploads it anew."
            )


def tidy(context: Context) -> None:
    """Remove the staged datasets, which nobody needs once Kaggle has them."""
    for folder in (context.project.runs / "staged").glob("dataset-*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def upload_bar(context: Context, staged: StagedDataset) -> Iterator[None]:
    """Show the upload's progress over all files; the client reports it file by file."""
    total = sum(file.stat().st_size for file in staged.folder.glob("*.zip"))
    before = last = 0
    say(f"uploading {staged.folder.name} ({len(staged.files)} files, {total / 1e6:.1f} MB)")
    with progress_bar("upload") as show:

        def advance(done: int, _: int) -> None:
            nonlocal before, last
            before += last if done < last else 0  # the next file has begun
            last = done
            show(before + done, total)

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
    parser.add_argument(
        "--again", action="store_true", help="upload it although it is, or may be, up to date"
    )


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Bring the lib dataset up to date."""
    settings = context.settings(arguments)
    bundle(context, context.shown_config(settings), arguments.new, arguments.again)
