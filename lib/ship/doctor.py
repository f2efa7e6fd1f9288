"""`ship doctor`: everything that could fail later, checked now, with a fix for each.

A check is a function of the Desk and the kernel's settings that returns what is well, or raises
Problem with what is not and how to mend it; a `Warning` from one does not stop a shipment.
"""

import argparse
import importlib.metadata
import importlib.util
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from packaging.version import Version

from common import Problem
from ship.bundle import contents, remote_version
from ship.credentials import Credentials
from ship.desk import Desk, say
from ship.project import (
    DATASET_METADATA,
    KERNEL_METADATA,
    code_faults,
    dataset_faults,
    kernel_faults,
)
from ship.remote import Refused
from ship.submit import SAMPLE, TRAIN
from ship.weights import required_weights
from ship.wheels import staged_wheels

OLDEST_CLIENT = "1.8.4"
SPARE_BYTES = 2 << 30
SESSION_MINUTES = 12 * 60

Settings = dict[str, str]


class Concern(Exception):
    """Something that may become a problem, but does not stop a shipment."""


def check_client(desk: Desk, settings: Settings) -> str:
    """The kaggle client is installed, whole and new enough."""
    try:
        version = importlib.metadata.version("kaggle")
    except importlib.metadata.PackageNotFoundError:
        raise Problem("the kaggle client is not installed: pip install kaggle six") from None
    if Version(version) < Version(OLDEST_CLIENT):
        raise Problem(f"kaggle {version} is too old: pip install 'kaggle>={OLDEST_CLIENT}'")
    if importlib.util.find_spec("six") is None:
        raise Problem("kaggle imports six, which is not installed: pip install six")
    return f"kaggle {version}"


def check_credentials(desk: Desk, settings: Settings) -> str:
    """There are credentials; which kind and from where, never themselves."""
    found = Credentials.find()
    if not found.kind:
        raise Problem(
            "none found: run `kaggle auth login`, or create a token at "
            "https://www.kaggle.com/settings/api and set KAGGLE_API_TOKEN"
        )
    return f"{found.kind} from {found.source}"


def check_kernel_metadata(desk: Desk, settings: Settings) -> str:
    """kernel-metadata.json keeps Kaggle's rules."""
    faults = kernel_faults(desk.project.kernel_metadata, desk.project)
    if faults:
        raise Problem(f"{KERNEL_METADATA}: {'; '.join(faults)}")
    return f"{desk.project.kernel_metadata['title']!r}, {desk.project.competition}"


def check_dataset_metadata(desk: Desk, settings: Settings) -> str:
    """dataset-metadata.json keeps Kaggle's rules."""
    faults = dataset_faults(desk.project.dataset_metadata)
    if faults:
        raise Problem(f"{DATASET_METADATA}: {'; '.join(faults)}")
    return f"{desk.project.dataset_metadata['title']!r}"


def check_owner(desk: Desk, settings: Settings) -> str:
    """Kaggle accepts the credentials, and both metadata files belong to their user."""
    return f"{desk.kernel_ref}, {desk.dataset_ref}"


def check_script(desk: Desk, settings: Settings) -> str:
    """The kernel compiles and has its block of overrides."""
    faults = code_faults(desk.project.script(settings, "doctor"))
    if faults:
        raise Problem(f"{desk.project.code.name} does not compile: {faults[0]}")
    return f"{desk.project.code.name} compiles"


def check_settings(desk: Desk, settings: Settings) -> str:
    """The kernel accepts its settings, and is made for the competition of the metadata."""
    config = desk.shown_config(settings)
    if config["competition"] != desk.project.competition:
        raise Problem(
            f"{desk.project.code.name} is made for {config['competition']}, but {KERNEL_METADATA} "
            f"names {desk.project.competition}: make them the same"
        )
    return f"recipe {config['recipe']}, backbone {config['backbone']}"


def check_weights(desk: Desk, settings: Settings) -> str:
    """The weights that the settings need are there, with the published hash."""
    files = desk.shown_config(settings)["weights_files"]
    required_weights(files, desk.project.lib / "weights")
    return ", ".join(files) or "none needed"


def check_wheels(desk: Desk, settings: Settings) -> str:
    """There are wheels for what Kaggle's image may lack one day."""
    folder = desk.project.lib / "wheels"
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        raise Concern("none: if albumentations leaves Kaggle's image the run fails; `ship wheels`")
    staged_wheels(folder)
    return f"{len(wheels)} wheels, verified"


def check_dataset(desk: Desk, settings: Settings) -> str:
    """The dataset is READY, or not there yet."""
    version = remote_version(desk, desk.dataset_ref)
    if version is None:
        return f"{desk.dataset_ref} is not there yet: `ship bundle` creates it"
    status = desk.remote.dataset_status(desk.dataset_ref)
    if status == "FAILED":
        raise Concern(f"{desk.dataset_ref} version {version} is FAILED; `ship bundle` renews it")
    return f"{desk.dataset_ref} version {version} is {status or 'in an unknown state'}"


def check_competition(desk: Desk, settings: Settings) -> str:
    """The competition's rules are accepted and its files are as expected."""
    competition = desk.project.competition
    page = f"https://www.kaggle.com/competitions/{competition}"
    try:
        files = desk.remote.data_files(competition)
    except Refused as refusal:
        if refusal.status == 404:
            raise Problem(
                f"there is no competition {competition}: correct {KERNEL_METADATA}"
            ) from None
        raise Problem(f"accept the rules of {competition} at {page}/rules ({refusal})") from None
    missing = [name for name in (TRAIN, SAMPLE) if name not in files]
    if missing:
        raise Problem(
            f"{competition} has no {missing[0]} but {', '.join(files[:5])}: see {page}/data"
        )
    return f"{competition}: rules accepted, {len(files)} files"


def check_quota(desk: Desk, settings: Settings) -> str:
    """The week's GPU time that is left suffices for the time limit of the run."""
    quota = desk.remote.quota().get("gpuQuota") or {}
    if "totalTimeAllowed" not in quota:
        raise Concern("Kaggle gives no GPU quota: see https://www.kaggle.com/settings")
    total, used, reserved = (
        float(str(quota.get(name) or "0").rstrip("s")) / 60
        for name in ("totalTimeAllowed", "timeUsed", "timeReserved")
    )
    left = total - used - reserved
    limit = desk.shown_config(settings).get("config", {}).get("time_limit") or SESSION_MINUTES
    if left < 30:
        raise Problem(f"{left:.0f} minutes of GPU time are left this week: wait for its renewal")
    if left < limit:
        raise Concern(
            f"{left / 60:.1f} h of GPU time left, the run may take {limit / 60:.1f} h: wait, or "
            f"push with --set time_limit={max(1, int(left) - 10)}"
        )
    return f"{left / 60:.1f} h of GPU time left, the run may take {limit / 60:.1f} h"


def check_submissions(desk: Desk, settings: Settings) -> str:
    """There are submissions left today."""
    limits = desk.remote.submissions_left(desk.project.competition)
    if "numAllowedNow" in limits and not limits["numAllowedNow"]:
        raise Concern("no submissions are left today: the score has to wait until tomorrow (UTC)")
    return f"{limits.get('numAllowedNow', 'unknown')} submissions left today"


def check_disk(desk: Desk, settings: Settings) -> str:
    """There is room for the staged dataset and a run's output."""
    files = desk.shown_config(settings)["weights_files"]
    sizes = [file.stat().st_size for file in contents(desk.project.lib, files).values()]
    needed = SPARE_BYTES + sum(sizes)
    free = shutil.disk_usage(desk.project.root).free
    if free < needed:
        raise Problem(f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed: free some room")
    return f"{free / 1e9:.0f} GB free"


LOCAL: dict[str, Callable[[Desk, Settings], str]] = {
    "client": check_client,
    "credentials": check_credentials,
    "kernel metadata": check_kernel_metadata,
    "dataset metadata": check_dataset_metadata,
    "kernel": check_script,
    "settings": check_settings,
    "weights": check_weights,
    "wheels": check_wheels,
    "disk": check_disk,
}
AT_KAGGLE: dict[str, Callable[[Desk, Settings], str]] = {
    "owner": check_owner,
    "competition": check_competition,
    "dataset": check_dataset,
    "GPU quota": check_quota,
    "submissions": check_submissions,
}


NEED_SETTINGS = ("weights", "disk", "GPU quota")
"""Checks that ask the kernel's settings."""


@dataclass(frozen=True)
class Finding:
    """What a check found: mark is "ok", "warn" or "FAIL"."""

    name: str
    mark: str
    text: str


def skipped(name: str, failed: set[str], dry_run: bool) -> str:
    """Say why a check can't be made after others have failed, "" when it can."""
    if name in NEED_SETTINGS and "settings" in failed:
        return "needs settings that the kernel accepts"
    if name in AT_KAGGLE and failed & {"client", "credentials", "owner"}:
        return "needs working credentials"
    return "would ask Kaggle" if name in AT_KAGGLE and dry_run else ""


def findings(desk: Desk, settings: Settings) -> Iterator[Finding]:
    """Make all checks, those that need Kaggle last and only with client and credentials."""
    failed: set[str] = set()
    for name, check in (LOCAL | AT_KAGGLE).items():
        if reason := skipped(name, failed, desk.dry_run):
            yield Finding(name, "skip", reason)
            continue
        try:
            yield Finding(name, "ok", check(desk, settings))
        except Concern as concern:
            yield Finding(name, "warn", str(concern))
        except Problem as problem:
            failed.add(name)
            yield Finding(name, "FAIL", str(problem))


def examine(desk: Desk, settings: Settings, quiet: bool = False) -> None:
    """Make all checks and print them (`quiet`: only what is not well); Problem when one fails."""
    found = []
    for finding in findings(desk, settings):
        found.append(finding)
        if not quiet or finding.mark == "warn":
            say(f"{finding.mark:<5} {finding.name:<17} {finding.text}")
    failed = [finding for finding in found if finding.mark == "FAIL"]
    if failed:
        first = failed[0]
        raise Problem(
            f"{len(failed)} of {len(found)} checks failed"
            + (": " if len(failed) == 1 else f", `ship doctor` shows all; {first.name}: ")
            + first.text
        )
    say(f"{len(found)} checks, none failed")


def run(desk: Desk, arguments: argparse.Namespace) -> None:
    """Run `ship doctor`."""
    examine(desk, desk.settings(arguments))
