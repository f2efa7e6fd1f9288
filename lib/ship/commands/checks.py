"""The checks: what could fail later, and how to mend it.

A check is a function of the context and the kernel's settings. It returns what it found to be well,
or raises Problem with what is wrong and how to mend it; a `Concern` does not stop a shipment. Each
step makes the checks that it depends on, `ship doctor` and `ship` make all of them.
"""

import contextlib
import importlib.metadata
import importlib.util
import math
import shutil
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from packaging.version import Version

from kernelkit.config.settings import number, setting
from kernelkit.core.problem import Problem
from ship.context import Context
from ship.kaggle.client_process import Refused, Unavailable
from ship.kaggle.credentials import Credentials, secret_in
from ship.ledger import rehearsing
from ship.output import say
from ship.project.bundle import remote_version
from ship.project.contents import upload_files
from ship.project.project import (
    DATASET_METADATA,
    KERNEL_METADATA,
    dataset_metadata_errors,
    kernel_metadata_errors,
    syntax_error,
)
from ship.project.published import required_weights, verified_wheels, wheels_in
from ship.project.script import read_block

OLDEST_CLIENT = "1.8.4"
SPARE_BYTES = 2 << 30
"""What a run's output may take on the disk."""
SESSION_MINUTES = 12 * 60
"""How long Kaggle lets a run take that has no time limit of its own."""

Settings = dict[str, str]


class Concern(Exception):
    """Something that may become a problem, but does not stop a shipment."""


class Fault(Problem):
    """What a check was looking for, and not that it could not be made: a person may override it."""


def check_client(context: Context, settings: Settings) -> str:
    """Check that the kaggle client is installed, complete and new enough."""
    try:
        version = importlib.metadata.version("kaggle")
    except importlib.metadata.PackageNotFoundError:
        raise Problem("the kaggle client is not installed: pip install kaggle six") from None
    if Version(version) < Version(OLDEST_CLIENT):
        raise Problem(f"kaggle {version} is too old: pip install 'kaggle>={OLDEST_CLIENT}'")
    if importlib.util.find_spec("six") is None:
        raise Problem("kaggle imports six, which is not installed: pip install six")
    return f"kaggle {version}"


def check_credentials(context: Context, settings: Settings) -> str:
    """Check that there are credentials; say of which kind and from where, and nothing of them."""
    found = Credentials.find()
    if not found.kind:
        raise Problem(found.advice().rstrip("."))
    return f"{found.kind} from {found.source}"


def check_kernel_metadata(context: Context, settings: Settings) -> str:
    """Check that kernel-metadata.json keeps Kaggle's rules."""
    errors = kernel_metadata_errors(context.project.kernel_metadata, context.project)
    if errors:
        raise Fault(f"{KERNEL_METADATA}: {'; '.join(errors)}")
    return f"{context.project.kernel_metadata['title']!r}, {context.project.competition}"


def check_dataset_metadata(context: Context, settings: Settings) -> str:
    """Check that dataset-metadata.json keeps Kaggle's rules."""
    errors = dataset_metadata_errors(context.project.dataset_metadata)
    if errors:
        raise Fault(f"{DATASET_METADATA}: {'; '.join(errors)}")
    return f"{context.project.dataset_metadata['title']!r}"


def check_owner(context: Context, settings: Settings) -> str:
    """Check that Kaggle accepts the credentials and that both ids belong to their user."""
    return f"{context.kernel_ref}, {context.dataset_ref}"


def check_script(context: Context, settings: Settings) -> str:
    """Check that the kernel compiles and has its block of overrides."""
    if error := syntax_error(context.project.script(settings, "doctor")):
        raise Problem(f"{context.project.code.name} does not compile: {error}")
    return f"{context.project.code.name} compiles"


def check_settings(context: Context, settings: Settings) -> str:
    """Check that the kernel accepts its settings and is made for the metadata's competition."""
    config = context.shown_config(settings)
    if config["competition"] != context.project.competition:
        raise Problem(
            f"{context.project.code.name} is made for {config['competition']}, but "
            f"{KERNEL_METADATA} names {context.project.competition}: make them the same"
        )
    return f"recipe {config['recipe']}, backbone {config['backbone']}"


def check_secrets(context: Context, settings: Settings) -> str:
    """Check that nothing that would be sent looks like a secret, of whatever account."""
    project = context.project
    weights = context.shown_config(settings)["weights_files"]
    files = {f"lib/{name}": file for name, file in upload_files(project.lib, weights).items()}
    metadata = (project.root / name for name in (KERNEL_METADATA, DATASET_METADATA))
    files |= {path.name: path for path in (project.code, *metadata)}
    there = {name: file for name, file in files.items() if file.is_file()}
    found = {name: why for name, file in there.items() if (why := secret_in(name, file))}
    if found:
        named = ", ".join(f"{name} ({why})" for name, why in list(found.items())[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise Fault(
            f"{named}{more} would be sent to Kaggle and looks like a secret: move it out of the "
            "project"
        )
    return f"none in {len(files)} files"


def check_weights(context: Context, settings: Settings) -> str:
    """Check that the weights that the settings need are here, with the published hash."""
    files = context.shown_config(settings)["weights_files"]
    required_weights(files, context.project.lib / "weights")
    return ", ".join(files) or "none needed"


def check_wheels(context: Context, settings: Settings) -> str:
    """Check that there are wheels of what Kaggle's image may lack one day."""
    folder = context.project.lib / "wheels"
    wheels = wheels_in(folder)
    if not wheels and rehearsing():
        return "none, and a rehearsal needs none"
    if not wheels:
        raise Concern("none: if albumentations leaves Kaggle's image the run fails; `ship wheels`")
    verified_wheels(folder)
    return f"{len(wheels)} wheels, verified"


def check_dataset(context: Context, settings: Settings) -> str:
    """Check that the dataset has not failed at Kaggle."""
    try:
        version = remote_version(context, context.dataset_ref)
        if version is None:
            return f"{context.dataset_ref} is not there yet: `ship bundle` creates it"
        status = context.remote.dataset_status(context.dataset_ref)
    except Problem as problem:
        raise_unless_informing(problem)
    if status == "FAILED":
        raise Concern(f"{context.dataset_ref} version {version} is FAILED; `ship bundle` renews it")
    return f"{context.dataset_ref} version {version} is {status or 'in an unknown state'}"


def raise_unless_informing(problem: Problem) -> None:
    """Raise Concern for an answer that only would have informed; wrong credentials stay a Problem.

    Raises:
        Concern: Kaggle would not, or could not, say something that no step depends on.
        Problem: Kaggle refused the credentials, or the client can't be used.
    """
    if isinstance(problem, Refused | Unavailable) or "(403)" in str(problem):
        raise Concern(str(problem)) from None
    raise problem


def check_competition(context: Context, settings: Settings) -> str:
    """Check that the competition's rules are accepted and its files are there."""
    competition = context.project.competition
    page = f"https://www.kaggle.com/competitions/{competition}"
    try:
        files = context.remote.data_files(competition)
    except Refused as refusal:
        if refusal.status == 404:
            raise Fault(
                f"there is no competition {competition}: correct {KERNEL_METADATA}"
            ) from None
        if refusal.status != 403:
            raise
        raise Fault(f"accept the rules of {competition} at {page}/rules ({refusal})") from None
    tables = read_block(context.project.code).tables
    missing = [name for name in tables if not {name, f"{name}.zip"} & set(files)]
    if missing:
        raise Fault(
            f"{competition} has no {missing[0]} but {', '.join(files[:5])}: see {page}/data"
        )
    return f"{competition}: rules accepted, {len(files)} files"


@dataclass(frozen=True)
class GpuTime:
    """The GPU time of a week, in minutes."""

    allowed: float
    left: float
    renewed: str
    """The time of its renewal, "" when Kaggle does not tell."""
    renewed_in: float = math.inf
    """The seconds until then, by this machine's clock."""

    @property
    def until(self) -> str:
        """When it is renewed, to be put behind a sentence."""
        return f", renewed at {self.renewed}" if self.renewed else ""


def gpu_time(context: Context) -> GpuTime:
    """Return how much GPU time there is, and is left, this week.

    Raises:
        Concern: Kaggle does not tell.
    """
    try:
        answer = context.remote.quota()
        quota = answer.get("gpuQuota") or {}
        total, used, reserved = (
            number(str(quota.get(name) or "0").rstrip("s"), float, setting(least=0).metadata) / 60
            for name in ("totalTimeAllowed", "timeUsed", "timeReserved")
        )
    except ArgumentTypeError:
        quota = {}
    except Problem as problem:
        raise_unless_informing(problem)
    if "totalTimeAllowed" not in quota:
        raise Concern("Kaggle gives no GPU quota: see https://www.kaggle.com/settings")
    text = answer.get("quotaRefreshTime") or ""
    renewed = f"{text[:16].replace('T', ' ')} UTC" if text else ""
    seconds = math.inf
    with contextlib.suppress(ValueError, TypeError):
        seconds = datetime.fromisoformat(text).timestamp() - time.time()
    return GpuTime(total, max(0.0, total - used - reserved), renewed, seconds)


def check_quota(context: Context, settings: Settings) -> str:
    """Check that the GPU time that is left this week suffices for the run's time limit."""
    time, shown = gpu_time(context), context.shown_config(settings)
    left, week = time.left, f"of this week's {time.allowed / 60:.0f} hours of GPU time"
    limit = shown.get("config", {}).get("time_limit") or SESSION_MINUTES
    needs = f" and computes to {hours}" if (hours := computed_hours(shown)) else ""
    if left < 30:
        raise Concern(
            f"{left:.0f} minutes are left {week}{time.until}: Kaggle may refuse a run until then"
        )
    if left < limit:
        raise Concern(
            f"{left / 60:.1f} h of GPU time left, the run may take {limit / 60:.1f} h{needs}: "
            f"wait, or push with --set time_limit={max(1, int(left) - 10)}"
        )
    return f"{left / 60:.1f} h of GPU time left, the run may take {limit / 60:.1f} h{needs}"


def computed_hours(*shown: dict) -> str:
    """Return the GPU hours of runs with these answers to --show-config; "" where one has none.

    They are computed from published throughputs by the kernel's own arithmetic.
    """
    minutes = [config.get("gpu_minutes") for config in shown]
    if not minutes or not all(isinstance(one, int | float) for one in minutes):
        return ""
    return f"{sum(minutes) / 60:.1f} h (from published throughputs, give or take half)"


def submissions_left(context: Context) -> int:
    """Return how many submissions are left today.

    Raises:
        Concern: Kaggle does not tell.
    """
    try:
        limits = context.remote.submissions_left(context.project.competition)
    except Problem as problem:
        raise_unless_informing(problem)
    if not limits:
        raise Concern("Kaggle does not tell how many submissions are left today")
    return limits.get("numAllowedNow") or 0


def check_submissions(context: Context, settings: Settings) -> str:
    """Check that there are submissions left today."""
    left = submissions_left(context)
    if not left:
        raise Concern("no submissions are left today: the score has to wait until tomorrow (UTC)")
    return f"{left} submissions left today"


def check_disk(context: Context, settings: Settings) -> str:
    """Check that the disk has room for the staged dataset and a run's output."""
    files = context.shown_config(settings)["weights_files"]
    sizes = [file.stat().st_size for file in upload_files(context.project.lib, files).values()]
    needed = SPARE_BYTES + sum(sizes)
    free = shutil.disk_usage(context.project.root).free
    if free < needed:
        raise Fault(f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed: free some room")
    return f"{free / 1e9:.0f} GB free"


LOCAL: dict[str, Callable[[Context, Settings], str]] = {
    "client": check_client,
    "credentials": check_credentials,
    "kernel metadata": check_kernel_metadata,
    "dataset metadata": check_dataset_metadata,
    "kernel": check_script,
    "settings": check_settings,
    "weights": check_weights,
    "wheels": check_wheels,
    "secrets": check_secrets,
    "disk": check_disk,
}
AT_KAGGLE: dict[str, Callable[[Context, Settings], str]] = {
    "owner": check_owner,
    "competition": check_competition,
    "dataset": check_dataset,
    "GPU quota": check_quota,
    "submissions": check_submissions,
}

BEFORE_BUNDLE = ("client", "credentials", "dataset metadata", "settings")
BEFORE_BUNDLE += ("weights", "wheels", "secrets", "disk")
BEFORE_PUSH = ("client", "credentials", "kernel metadata", "kernel", "settings", "secrets")
BEFORE_PUSH += ("GPU quota",)
"""The checks that a step depends on."""

FORCIBLE = ("kernel metadata", "dataset metadata", "secrets", "disk", "competition")
"""Checks whose faults a person may override: a shipment can go on without what they look for."""


def option_of(name: str) -> str:
    """Return the name of a check as --force takes it."""
    return name.replace(" ", "-").lower()


def with_way_round(name: str, problem: Problem) -> str:
    """Return the sentence about a check that failed, with how to override it if that can be."""
    sentence = f"{str(problem).rstrip('.')}."
    if not isinstance(problem, Fault):
        return sentence
    return f"{sentence} (`--force {option_of(name)}` goes on all the same.)"


def make(name: str, context: Context, settings: Settings) -> str:
    """Make a check and return what it found to be well; one that is overridden only warns.

    Raises:
        Concern: it found something that does not stop a shipment.
        Problem: it found something that does.
    """
    context.doing(f"checking the {name}")
    try:
        return (LOCAL | AT_KAGGLE)[name](context, settings)
    except Fault as fault:
        if option_of(name) in context.forced:
            raise Concern(f"{fault} (overridden)") from None
        raise


def require(context: Context, settings: Settings, names: Iterable[str]) -> None:
    """Make the checks that a step depends on.

    Raises:
        Problem: one of them has failed; the sentence says how to override it.
    """
    for name in names:
        if context.dry_run and name in ("client", "credentials", *AT_KAGGLE):
            continue
        try:
            make(name, context, settings)
        except Concern as concern:
            say(f"warn  {name:<17} {concern}")
        except Problem as problem:
            raise Problem(with_way_round(name, problem)) from None
