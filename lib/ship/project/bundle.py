"""`ship bundle`: upload what the kernel needs offline as a dataset, and verify it there.

The notes of each version name the hashes of its parts, so that another machine knows what it holds.
"""

import argparse
import contextlib
import dataclasses
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from kernelkit.core.problem import Problem
from ship.context import Context
from ship.kaggle.client_process import Refused, Unavailable
from ship.kaggle.remote import unless_hidden
from ship.kaggle.send_once import (
    Absent,
    DeliveryStatus,
    Found,
    Transmission,
    Unknown,
    send_once,
    settle,
)
from ship.ledger import Dataset, Run, Sending
from ship.output import emit_json, progress_bar, say
from ship.project.contents import (
    StagedDataset,
    hashes_in,
    missing_files,
    not_sent,
    parts_of,
    refuse_secrets_in,
    stage_dataset,
    upload_files,
)

HASH = re.compile(r"\b[0-9a-f]{12}\b")  # of one of the dataset's parts, in the notes of a version


class Refusal(Problem):
    """Kaggle did not take the dataset, and said why; another machine may have made it just now."""


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
    files = upload_files(context.project.lib, config["weights_files"])
    if context.dry_run:
        return _describe(context, files)
    metadata, lib = context.project.dataset_metadata, context.project.lib
    before = partial(_warn_about_others, lib)
    return _bring_up_to_date(context, files, metadata, new, again, silent, before)


def publish(context: Context, files: Mapping[str, Path], metadata: dict, again: bool) -> str:
    """Bring the dataset of a run's networks up to date; return its "owner/slug/version".

    Args:
        context: the project, Kaggle and the state.
        files: by their paths in the dataset.
        metadata: of the dataset.
        again: upload it although it is up to date, or nobody knows whether it has arrived.

    Raises:
        Problem: as in `bundle`.
    """
    with context.publishing():
        _bring_up_to_date(context, files, metadata, new=False, again=again, silent=False)
        return f"{context.dataset.ref}/{context.dataset.version}"


def _bring_up_to_date(
    context: Context,
    files: Mapping[str, Path],
    metadata: dict,
    new: bool,
    again: bool,
    silent: bool,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Upload the files unless the dataset holds them; call `before` only if they are sent."""
    context.doing("packing the dataset")
    with context.sending():
        _settle_upload(context, new or again)
        known = context.dataset
        current = None if new and known.version is None else _newest_version(context, files)
        if again or _lacking(context, files):
            before()
            owned = context.project.owned(metadata, context.owner)
            staged = stage_dataset(
                files, owned, context.project.runs / "staged", context.remote.secrets
            )
            try:
                _send(context, staged, current or 0)
            except Refusal:
                _newest_version(context, files)
                if current or _lacking(context, files):
                    raise
            if not known.sending:  # another machine has made it meanwhile
                _newest_version(context, files)
            _make_ready(context)
        else:
            _make_ready(context)
            if not silent:
                say(f"dataset {known.ref} version {current} is up to date")
    return None


def mounted_version(context: Context, config: dict) -> str:
    """Return "owner/slug/version" of the dataset that a run pushed now will mount, once READY.

    Kaggle mounts the newest version that is READY when the run starts.

    Raises:
        Problem: there is no dataset, or it does not hold what the run needs.
    """
    files, ref = upload_files(context.project.lib, config["weights_files"]), context.dataset_ref
    _settle_upload(context)
    current = _newest_version(context, files)
    if current is None:
        raise Problem(f"there is no dataset {ref} yet: run `ship bundle` first.")
    if parts := _lacking(context, files):
        named = ["the packages of lib/" if part == "code" else part for part in parts]
        raise Problem(
            f"dataset {ref} version {current} at Kaggle does not hold {', '.join(named)} as they "
            "are here: `ship bundle` uploads them, `ship` does that and pushes."
        )
    _make_ready(context)
    return f"{ref}/{current}"


def remote_version(context: Context, ref: str) -> tuple[int, str] | None:
    """Return the number and the notes of the dataset's newest version; None without a dataset.

    Raises:
        Problem: Kaggle does not tell whether it exists.
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
    return current and (current[0], current[1].get(current[0], ""))


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


def _describe(context: Context, files: Mapping[str, Path]) -> None:
    """Print what would be uploaded."""
    _warn_about_others(context.project.lib)
    refuse_secrets_in(files, context.remote.secrets)
    size = sum(file.stat().st_size for file in files.values()) / 1e6
    say(f"would upload to dataset {context.dataset_ref} ({len(files)} files, {size:.1f} MB):")
    for name, file in files.items():
        say(f"  {name}  {file.stat().st_size:,}")


def _warn_about_others(lib: Path) -> None:
    if others := not_sent(lib):
        say(f"not sent, because it is no package: {', '.join(others)} in {lib}")


# --- what Kaggle has ---


def _lacking(context: Context, files: Mapping[str, Path]) -> list[str]:
    """Return which parts of these files the dataset lacks, as far as this machine knows.

    More weights and wheels than a run needs do no harm: other settings may need them.
    """
    holds = context.dataset.holds
    return [part for part, digest in parts_of(files).items() if digest not in holds]


def _newest_version(context: Context, files: Mapping[str, Path]) -> int | None:
    """Return the number of the dataset's newest version; None when there is no such dataset.

    The notes tell what a version holds that this machine has not sent. Kaggle writes those of the
    first one itself: the list of its files tells it. A later one that was made by hand may have
    kept the file of the hashes.
    """
    known = context.dataset
    if (found := remote_version(context, known.ref)) is None:
        known.version, known.holds = None, []
        return None
    number, notes = found
    if known.version != number:
        known.holds = HASH.findall(notes)
        if number == 1 and not known.holds:
            known.holds = hashes_in(name for name, _ in _listed(context, 1))
        known.files = {name: file.stat().st_size for name, file in files.items()}
        known.version, known.ready = number, False
        context.state.save()
    return number


def _listed(context: Context, version: int) -> list[tuple[str, int]]:
    """Return the names and sizes of a version's files, [] while Kaggle hides them."""
    ref = context.dataset.ref
    return unless_hidden(lambda: context.remote.dataset_files(ref, version), [])


def _make_ready(context: Context) -> None:
    """Wait until the dataset is READY, unless it is known to be, and verify its list of files.

    Raises:
        Problem: it does not become READY in time, or lacks a file.
    """
    known = context.dataset
    if known.ready:
        return
    context.doing("waiting for the dataset")
    say(f"waiting until dataset {known.ref} is READY")
    with context.remote.patient(context.timeouts.outage):
        for waited in context.asking():
            status = _status(context)
            version = _sent_version(context) if known.sending else known.version
            if status == "READY" and version:
                break
            if waited > context.timeouts.ready:
                raise Problem(
                    f"dataset {known.ref} is still {status or 'unknown'} after {waited / 60:.0f} "
                    "minutes: see its page at Kaggle, and run the same command again."
                )
        if known.sending:
            known.holds, known.files = known.sending.holds, known.sending.files
        known.version, known.sending = version, None
        context.state.save()
        _verify_files(context)
    known.ready = True
    context.state.save()
    for folder in (context.project.runs / "staged").glob("dataset-*"):  # needed no more
        shutil.rmtree(folder, ignore_errors=True)
    say(f"dataset {known.ref} version {version} is READY, all {len(known.files)} files")
    emit_json(dataset=known.ref, dataset_version=version)


def _status(context: Context) -> str:
    """Return the dataset's status word.

    Raises:
        Problem: the dataset has failed or was deleted; the next `ship bundle` uploads it anew.
    """
    known = context.dataset
    status = unless_hidden(lambda: context.remote.dataset_status(known.ref), "NOT_YET_PERSISTED")
    if status in ("FAILED", "DELETED"):
        version = _sent_version(context) if known.sending else known.version
        context.dataset = Dataset(known.ref, version)
        context.state.save()
        raise Problem(
            f"Kaggle could not make dataset {known.ref} of what was uploaded ({status}): run the "
            "same command again to upload it anew."
        )
    return status


def _verify_files(context: Context) -> None:
    """Wait until the list of the dataset's files has all that was sent: Kaggle's lists lag.

    Raises:
        Problem: it lacks a file for long; a person decides whether to upload it again.
    """
    known = context.dataset
    for waited in context.asking():
        missing = missing_files(known.files, _listed(context, known.version))
        if not missing:
            return
        if not waited:
            say(f"Kaggle does not list all files of dataset {known.ref} yet; asking again")
        if waited >= context.timeouts.prove:
            raise Problem(
                f"Kaggle lists dataset {known.ref} version {known.version} without "
                f"{len(missing)} of the {len(known.files)} files, {missing[0]} among them: the "
                "same command looks again, `ship bundle --again` uploads it anew."
            )


# --- sending ---


def _send(context: Context, staged: StagedDataset, base: int) -> None:
    """Upload the staged files and make them the version after `base` (0: the first version).

    Raises:
        Problem: Kaggle refused them, or has not got them.
    """
    known = context.dataset
    context.doing("uploading the dataset")

    def begin() -> None:
        note = f"ship {secrets.token_hex(4)}"
        known.sending = Sending(base, note, [*staged.parts.values()], staged.files)
        known.ready = False

    transmission = dataclasses.replace(
        _transmission(context), begin=begin, send=lambda: _upload(context, staged)
    )
    answer = send_once(context, transmission)
    if isinstance(answer, Found):
        return
    status = answer["status"].lower()
    if answer["error"] or status == "error":
        _forget(context)
        raise Refusal(
            f"Kaggle refused dataset {known.ref}: {answer['error'] or 'it gave no reason'}"
        )
    if status != "ok" and not settle(context, transmission):
        _forget(context)
        raise Problem(
            f"Kaggle gave no clear answer about dataset {known.ref}, and does not have it: run the "
            "same command again."
        )


def _transmission(context: Context) -> Transmission:
    """Return the version that is on its way as a transmission that can be probed."""
    ref = context.dataset.ref
    return Transmission(
        what=f"the upload of dataset {ref}",
        probe=lambda: _probe(context),
        forget=lambda: _forget(context),
        decide=f"see https://www.kaggle.com/datasets/{ref}; `ship bundle --again` uploads it anew.",
    )


def _forget(context: Context) -> None:
    """Save that Kaggle did not take what was sent."""
    context.dataset.sending = None
    context.state.save()


def _settle_upload(context: Context, again: bool = False) -> None:
    """Find out what became of an upload that was cut short: wait for it, or forget it.

    Raises:
        Undecided: nobody knows, and no person has said `again`.
    """
    if context.dataset.ref != context.dataset_ref:
        context.dataset = Dataset(context.dataset_ref)
    if not context.dataset.sending:
        return
    if not again:
        say("an earlier upload was cut short; asking Kaggle whether it arrived")
        if settle(context, _transmission(context)):
            return _make_ready(context)
    return _forget(context)


def _upload(context: Context, staged: StagedDataset) -> dict | Found:
    """Upload what Kaggle has not got yet, create the dataset or its version, return the answer."""
    known, what = context.dataset, f"dataset {context.dataset.ref}"
    base, holds = known.sending.base, known.sending.holds
    with _upload_bar(context, staged):
        context.remote.call(
            "upload", f"the upload of {what}", folder=str(staged.folder), new=base == 0
        )
    _wait_for_starts(context)
    newer = remote_version(context, known.ref) if base else None
    if newer and newer[0] > base and set(holds) <= set(HASH.findall(newer[1])):
        _forget(context)
        return Found("the notes of a version that another machine has made")
    context.state.save()  # after a kill from here on, Kaggle is asked before it is sent again
    notes = " ".join([known.sending.note, "holds", *holds])
    return context.remote.call("create", what, once=True, notes=notes)


def _wait_for_starts(context: Context) -> None:
    """Wait until no run of this project is queued: it would mount the version that is made now."""
    ref = context.dataset.ref
    live = [run for run in context.ledger.runs() if not run.ended and run.dataset.startswith(ref)]
    for waited in context.asking():
        live = [run for run in live if _is_queued(context, run)]
        if not live or waited > context.timeouts.ready:
            return
        if not waited:
            say(f"{live[0].name} has not started yet, and would mount this: waiting for its start")


def _is_queued(context: Context, run: Run) -> bool:
    with contextlib.suppress(Refused, Unavailable):
        return context.remote.run_status(run.kernel, run.version)[0] == "QUEUED"
    return False


def _probe(context: Context) -> DeliveryStatus:
    """Ask Kaggle once for the version that is being sent: its list of versions, and the status."""
    if _sent_version(context):
        return Found("the note in the list of versions")
    known = context.dataset
    status = unless_hidden(lambda: context.remote.dataset_status(known.ref), None)
    if status is None and known.sending.base:
        return Unknown("Kaggle does not show the dataset that was there before")
    if status == "":
        return Unknown("Kaggle tells no status of the dataset")
    if status not in (None, "READY", "FAILED", "DELETED"):
        return Found(f"the status {status}")
    return Absent()


def _sent_version(context: Context) -> int | None:
    """Return the number of the version that is being sent, None while Kaggle does not show it."""
    known = context.dataset
    base, note = known.sending.base, known.sending.note
    current = unless_hidden(lambda: context.remote.dataset(known.ref), None)
    if current is None:
        return None
    newest, notes = current
    for version, text in notes.items():
        if note in text:
            return version
    # Kaggle writes the first version's notes itself, and need not list the versions at all.
    others = base > 0 and any(text for version, text in notes.items() if version > base)
    return newest if newest > base and not others else None


@contextlib.contextmanager
def _upload_bar(context: Context, staged: StagedDataset) -> Iterator[None]:
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

        with context.remote.reporting(advance):
            yield
