"""`ship bundle`: upload what the kernel needs offline as a dataset, and verify it there.

The notes of each version name the hashes of its parts, so that another machine knows what it holds.
"""

import argparse
import contextlib
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelkit.core.problem import Problem
from ship.command_line import switch
from ship.context import Context
from ship.kaggle.client_process import AnswerLost, Refused, Unavailable
from ship.kaggle.remote import unless_hidden
from ship.kaggle.send_once import Absent, DeliveryStatus, Found, Transmission, Unknown
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
from ship.project.project import DATASET_METADATA, KERNEL_METADATA

HASH = re.compile(r"\b[0-9a-f]{12}\b")  # of one of the dataset's parts, in the notes of a version


def bundle(context: Context, weights: list[str], **options: bool) -> None:
    """Bring the dataset of lib/ with these weights up to date, and wait until it is READY.

    The options and errors are those of `Bundle.bring_up_to_date`.
    """
    one = Bundle.of_lib(context, weights)
    if others := not_sent(context.project.lib):
        named = ", ".join(others)
        say(f"not sent, because it is no package or a link: {named} in {context.project.lib}")
    if not context.dry_run:
        return one.bring_up_to_date(**options)
    refuse_secrets_in(one.files, context.remote.secrets)
    size = sum(file.stat().st_size for file in one.files.values()) / 1e6
    say(f"would upload to dataset {one.ref} ({len(one.files)} files, {size:.1f} MB):")
    for name, file in one.files.items():
        say(f"  {name}  {file.stat().st_size:,}")
    return None


def remote_version(context: Context, ref: str) -> tuple[int, str] | None:
    """Return number and notes of the newest version; None without a dataset, Problem if unknown."""
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


ARGUMENTS = (
    switch("--new", "create the dataset without asking whether it exists"),
    switch("--again", "upload it although it is, or may be, up to date"),
)


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Bring the lib dataset up to date."""
    config = context.shown_config(context.settings(arguments))
    bundle(context, config.weights_files, new=arguments.new, again=arguments.again)


@dataclass
class Bundle:
    """Files that are to be a dataset at Kaggle."""

    context: Context
    files: Mapping[str, Path]  # by their paths in the dataset
    metadata: dict[str, Any]
    ref: str  # "owner/slug"

    @classmethod
    def of_lib(cls, context: Context, weights: list[str]) -> "Bundle":
        """Return the packages of lib/, the wheels and the named weights."""
        files = upload_files(context.project.lib, weights)
        return cls(context, files, context.project.dataset_metadata, context.dataset_ref)

    @property
    def known(self) -> Dataset:
        """What is known of the dataset at Kaggle."""
        return self.context.state.datasets.setdefault(self.ref, Dataset())

    def bring_up_to_date(self, new: bool = False, again: bool = False, quiet: bool = False) -> None:
        """Upload the files unless the dataset holds them, and wait until it is READY.

        With `new` the dataset is created without asking first whether it exists; with `again` it
        is uploaded although it is up to date, or nobody knows whether it has arrived; with `quiet`
        nothing is printed where nothing is to do. Raises Problem where Kaggle refuses the dataset,
        lacks a file, or does not make it READY.
        """
        self.context.doing("packing the dataset")
        with self.context.sending():
            self._settle_upload(new or again)
            current = None if new and self.known.version is None else self._newest_version()
            up_to_date = not (again or self._lacking())
            if current and self.known.version is None and not again:
                self._refuse_foreign(current)
            if not up_to_date:
                self._send(current or 0)
            self._make_ready()
            if up_to_date and not quiet:
                say(f"dataset {self.ref} version {current} is up to date")

    def mounted_version(self) -> str:
        """Return "owner/slug/version" of the dataset that a run pushed now will mount, once READY.

        Kaggle mounts the newest version that is READY when the run starts. Raises Problem where
        there is no dataset, or it does not hold the files.
        """
        self._settle_upload()
        current = self._newest_version()
        if current is None:
            raise Problem(f"there is no dataset {self.ref} yet: run `ship bundle` first.")
        if parts := self._lacking():
            named = ", ".join("the packages of lib/" if one == "code" else one for one in parts)
            raise Problem(
                f"dataset {self.ref} version {current} at Kaggle does not hold {named} as they are "
                "here: `ship bundle` uploads them, `ship` does that and pushes."
            )
        self._make_ready()
        return f"{self.ref}/{current}"

    @property
    def _command(self) -> str:
        """The command that uploads it: the packages of lib/, or a run's networks."""
        return "ship bundle" if self.ref == self.context.dataset_ref else "ship publish"

    def _refuse_foreign(self, current: int) -> None:
        """Raise Problem where the newest version holds files, and none that ship would send."""
        listed = [name for name, _ in self._listed(current)]
        archives = {f"{name.partition('/')[0]}.zip" for name in self.files}
        if not listed or not archives.union(self.files).isdisjoint(listed):
            return
        file = DATASET_METADATA if self._command == "ship bundle" else KERNEL_METADATA
        raise Problem(
            f"there is a dataset {self.ref} at Kaggle that ship has not made (it holds "
            f"{listed[0]}): another id in {file} leaves it alone, `{self._command} --again` makes "
            "these files its next version."
        )

    # --- what Kaggle has ---

    def _lacking(self) -> list[str]:
        """Return which parts of the files the dataset lacks, as far as this machine knows.

        More weights and wheels than a run needs do no harm: other settings may need them.
        """
        return [part for part, one in parts_of(self.files).items() if one not in self.known.holds]

    def _newest_version(self) -> int | None:
        """Return the number of the dataset's newest version; None when there is no such dataset.

        The notes tell what a version holds that this machine has not sent. Kaggle writes those of
        the first one itself: there the list of its files tells it.
        """
        known = self.known
        if (found := remote_version(self.context, self.ref)) is None:
            known.version, known.holds = None, []
            return None
        number, notes = found
        if known.version != number:
            known.holds = HASH.findall(notes)
            if number == 1 and not known.holds:
                known.holds = hashes_in(name for name, _ in self._listed(1))
            known.files = {name: file.stat().st_size for name, file in self.files.items()}
            is_own = known.holds or known.version  # else it was never one of ship's
            known.version, known.ready = number if is_own else None, False
            self.context.state.save()
        return number

    def _listed(self, version: int) -> list[tuple[str, int]]:
        return unless_hidden(lambda: self.context.remote.dataset_files(self.ref, version), [])

    def _make_ready(self) -> None:
        """Wait until the dataset is READY, unless it is known to be, and verify its files."""
        context, known = self.context, self.known
        if known.ready:
            return
        context.doing("waiting for the dataset")
        say(f"waiting until dataset {self.ref} is READY")
        with context.remote.patient(context.timeouts.outage):
            version = context.ask_until(self._ready_version, context.timeouts.ready)
            if not version:
                raise Problem(
                    f"dataset {self.ref} is still {self._status() or 'unknown'} after "
                    f"{context.timeouts.ready / 60:.0f} minutes: see its page at Kaggle, and run "
                    "the same command again."
                )
            if known.sending:
                known.holds, known.files = known.sending.holds, known.sending.files
            known.version, known.sending = version, None
            context.state.save()
            self._verify_files()
        known.ready = True
        context.state.save()
        for folder in (context.project.runs / "staged").glob("dataset-*"):  # needed no more
            shutil.rmtree(folder, ignore_errors=True)
        say(f"dataset {self.ref} version {version} is READY, all {len(known.files)} files")
        emit_json(dataset=self.ref, dataset_version=version)

    def _ready_version(self) -> int | None:
        """Return the version that was sent, or is known, once READY; Problem if it failed."""
        status = self._status()
        version = self._sent_version() if self.known.sending else self.known.version
        if status in ("FAILED", "DELETED"):
            self.context.state.datasets[self.ref] = Dataset(version)
            self.context.state.save()
            raise Problem(
                f"Kaggle could not make dataset {self.ref} of what was uploaded ({status}): run "
                "the same command again to upload it anew."
            )
        return version if status == "READY" else None

    def _status(self) -> str:
        status = self.context.remote.dataset_status
        return unless_hidden(lambda: status(self.ref), "NOT_YET_PERSISTED")

    def _verify_files(self) -> None:
        known, missing = self.known, []

        def is_complete() -> bool:
            missing[:] = missing_files(known.files, self._listed(known.version))
            return not missing

        lagging = f"Kaggle does not list all files of dataset {self.ref} yet; asking again"
        if not self.context.ask_until(is_complete, self.context.timeouts.prove, lagging):
            raise Problem(
                f"Kaggle lists dataset {self.ref} version {known.version} without {len(missing)} "
                f"of the {len(known.files)} files, {missing[0]} among them: the same command "
                f"looks again, `{self._command} --again` uploads it anew."
            )

    # --- sending ---

    def _send(self, base: int) -> None:
        context, project = self.context, self.context.project
        owned = project.owned(self.metadata, context.owner)
        staged = stage_dataset(self.files, owned, project.runs / "staged", context.remote.secrets)
        context.doing("uploading the dataset")

        def begin() -> None:
            note = f"ship {secrets.token_hex(4)}"
            self.known.sending = Sending(base, note, [*staged.parts.values()], staged.files)
            self.known.ready = False

        def upload() -> None:
            answer = self._upload(staged)
            status = answer["status"].lower()
            if answer["error"] or status == "error":
                reason = answer["error"] or "it gave no reason"
                raise Problem(f"Kaggle refused dataset {self.ref}: {reason}")
            if status != "ok":
                raise AnswerLost("it is not clear")

        self._transmission().send(begin, upload)

    def _transmission(self) -> Transmission:
        page = f"https://www.kaggle.com/datasets/{self.ref}"
        decide = f"see {page}; `{self._command} --again` uploads it anew."
        what = f"the upload of dataset {self.ref}"
        return Transmission(self.context, what, self._probe, self._forget, decide)

    def _forget(self) -> None:
        self.known.sending = None
        self.context.state.save()

    def _settle_upload(self, again: bool = False) -> None:
        """Find out what became of an upload that was cut short: wait for it, or forget it."""
        if self.known.sending and self._transmission().settle_earlier(again):
            self._make_ready()

    def _upload(self, staged: StagedDataset) -> dict:
        remote, sending, what = self.context.remote, self.known.sending, f"dataset {self.ref}"
        with self._upload_bar(staged):
            folder, new = str(staged.folder), sending.base == 0
            remote.call("upload", f"the upload of {what}", folder=folder, new=new)
        # Whatever is queued would mount the version that is made now.
        runs = self.context.ledger.runs()
        live = [run for run in runs if not run.ended and run.dataset.startswith(self.ref)]
        names = " and ".join(run.name for run in live)
        waits = f"{names} has not started yet, and would mount this: waiting for its start"
        self.context.ask_until(
            lambda: not any(map(self._is_queued, live)), self.context.timeouts.ready, waits
        )
        self.context.state.save()  # after a kill from here on, Kaggle is asked before it is resent
        return remote.call(
            "create", what, once=True, notes=" ".join([sending.note, "holds", *sending.holds])
        )

    def _is_queued(self, run: Run) -> bool:
        with contextlib.suppress(Refused, Unavailable):
            return self.context.remote.run_status(run.kernel, run.version)[0] == "QUEUED"
        return False

    def _probe(self) -> DeliveryStatus:
        """Ask Kaggle once for the version that is being sent: its list of versions, its status."""
        if self._sent_version():
            return Found("the note in the list of versions")
        status = unless_hidden(lambda: self.context.remote.dataset_status(self.ref), None)
        if status is None and self.known.sending.base:
            return Unknown("Kaggle does not show the dataset that was there before")
        if status == "":
            return Unknown("Kaggle tells no status of the dataset")
        if status not in (None, "READY", "FAILED", "DELETED"):
            return Found(f"the status {status}")
        return Absent()

    def _sent_version(self) -> int | None:
        """Return the number of the version that is being sent, None while it is not shown."""
        base, note = self.known.sending.base, self.known.sending.note
        current = unless_hidden(lambda: self.context.remote.dataset(self.ref), None)
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
    def _upload_bar(self, staged: StagedDataset) -> Iterator[None]:
        total = sum(file.stat().st_size for file in staged.folder.glob("*.zip"))
        before = last = 0
        say(f"uploading {staged.folder.name} ({len(staged.files)} files, {total / 1e6:.1f} MB)")
        with progress_bar("upload") as show:

            def advance(done: int, _: int) -> None:
                nonlocal before, last
                before += last if done < last else 0  # the next file has begun
                last = done
                show(before + done, total)

            with self.context.remote.reporting(advance):
                yield
