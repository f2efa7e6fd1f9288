"""`ship doctor`: check what could fail later, and say how to correct it.

A check is a function of the context and the kernel's settings. It returns a text about what it
found, or raises Problem with what is wrong and the cure; a `Concern` does not stop a shipment. Each
step makes the checks that it depends on, `ship doctor` and `ship` make all of them.
"""

import argparse
import contextlib
import dataclasses
import shutil
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kernelkit.config.settings import number, setting
from kernelkit.core.problem import Problem, first_names
from ship.context import Context
from ship.kaggle.client_process import Refused, Unavailable
from ship.kaggle.credentials import Credentials, secret_in
from ship.ledger import rehearsing
from ship.output import emit_json, say
from ship.project.bundle import remote_version
from ship.project.contents import code_files, upload_files
from ship.project.offline import (
    NotShown,
    listed_files,
    required_weights,
    verified_wheels,
    wheels_in,
)
from ship.project.project import (
    DATASET_METADATA,
    KERNEL_METADATA,
    dataset_metadata_errors,
    kernel_metadata_errors,
    sources,
)
from ship.project.script import read_block, syntax_error

SPARE_BYTES = 2 << 30  # what a run's output may take on the disk
SESSION_MINUTES = 12 * 60  # how long Kaggle lets a run take that has no time limit of its own

Settings = dict[str, str]


class Concern(Exception):
    """Something that may become a problem, but does not stop a shipment."""


class Fault(Problem):
    """A check found what it was looking for: a person may override it."""


@dataclass(frozen=True)
class GpuTime:
    """The GPU time of a week, in minutes."""

    allowed: float
    left: float
    until: str  # when it is renewed, as the end of a sentence; "" when Kaggle does not tell


# --- questions to Kaggle about what is left ---


def gpu_time(context: Context) -> GpuTime:
    """Return this week's GPU time, and what is left of it; Concern where Kaggle does not tell."""
    with _only_informing(), contextlib.suppress(ArgumentTypeError):
        answer = context.remote.quota()
        quota = answer.get("gpuQuota") or {}
        total, used, reserved = (
            number(str(quota.get(name) or "0").rstrip("s"), float, setting(least=0).metadata) / 60
            for name in ("totalTimeAllowed", "timeUsed", "timeReserved")
        )
        if "totalTimeAllowed" in quota:
            time = (answer.get("quotaRefreshTime") or "")[:16].replace("T", " ")
            until = f", renewed at {time} UTC" if time else ""
            return GpuTime(total, max(0.0, total - used - reserved), until)
    raise Concern("Kaggle gives no GPU quota: see https://www.kaggle.com/settings")


def submissions_left(context: Context) -> int:
    """Return how many submissions are left today; Concern where Kaggle does not tell."""
    with _only_informing():
        limits = context.remote.submissions_left(context.project.competition)
    if not limits:
        raise Concern("Kaggle does not tell how many submissions are left today")
    return limits.get("numAllowedNow") or 0


@contextlib.contextmanager
def _only_informing() -> Iterator[None]:
    """Turn a refusal or a missing answer into a Concern, where no step depends on the answer."""
    try:
        yield
    except Problem as problem:
        if isinstance(problem, Refused | Unavailable) or "(403)" in str(problem):
            raise Concern(str(problem)) from None
        raise


def listed_data(
    context: Context, competition: str, most: int | None = None
) -> list[tuple[str, int]]:
    """Return names and sizes of a competition's files; Fault where its rules are not accepted."""
    try:
        return context.remote.data_files(competition, most)
    except Refused as refusal:
        if refusal.status != 403:
            raise
        page = f"https://www.kaggle.com/competitions/{competition}/rules"
        raise Fault(f"accept the rules of {competition} at {page} ({refusal})") from None


def computed_hours(minutes: list[float | None]) -> str:
    """Return the GPU hours of runs of so many minutes; "" where the kernel does not tell them."""
    if not minutes or None in minutes:
        return ""
    return f"{sum(minutes) / 60:.1f} h (from published throughputs, give or take half)"


# --- the checks ---


def _credentials(context: Context, settings: Settings) -> str:
    found = Credentials.find()
    if not found.kind:
        raise Problem(found.advice().rstrip("."))
    return f"{found.kind} from {found.source}"


def _kernel_metadata(context: Context, settings: Settings) -> str:
    values, dataset = context.project.kernel_metadata, context.project.dataset_metadata["id"]
    if errors := kernel_metadata_errors(values, dataset):
        raise Fault(f"{KERNEL_METADATA}: {'; '.join(errors)}")
    return f"{values['title']!r}, {context.project.competition}"


def _dataset_metadata(context: Context, settings: Settings) -> str:
    values = context.project.dataset_metadata
    if errors := dataset_metadata_errors(values):
        raise Fault(f"{DATASET_METADATA}: {'; '.join(errors)}")
    return repr(values["title"])


def _kernel(context: Context, settings: Settings) -> str:
    project = context.project
    texts: dict[str, str | bytes] = {project.code.name: project.script(settings, "doctor")}
    files = code_files(project.lib)
    texts |= {f"lib/{name}": files[name].read_bytes() for name in files if name.endswith(".py")}
    for name, text in texts.items():
        if error := syntax_error(text):
            raise Problem(f"{name} does not compile: {error}")
    return f"{project.code.name} and the packages of lib/ compile"


def _settings(context: Context, settings: Settings) -> str:
    config = context.shown_config(settings)
    if config.competition != context.project.competition:
        raise Problem(
            f"{context.project.code.name} is made for {config.competition}, but "
            f"{KERNEL_METADATA} names {context.project.competition}: make them the same"
        )
    return config.summary


def _weights(context: Context, settings: Settings) -> str:
    files = context.shown_config(settings).weights_files
    required_weights(files, context.project.lib / "weights")
    return ", ".join(files) or "none needed"


def _wheels(context: Context, settings: Settings) -> str:
    folder = context.project.lib / "wheels"
    wheels = wheels_in(folder)
    if not wheels and rehearsing():
        return "none, and a rehearsal needs none"
    if not wheels:
        raise Concern("none: if albumentations leaves Kaggle's image the run fails; `ship wheels`")
    verified_wheels(folder)
    return f"{len(wheels)} wheels, verified"


def _secrets(context: Context, settings: Settings) -> str:
    """Check that nothing that would be sent looks like a secret, of whatever account."""
    weights = context.shown_config(settings).weights_files
    files = sources(context.project)
    files |= {f"lib/{n}": file for n, file in upload_files(context.project.lib, weights).items()}
    there = {name: file for name, file in files.items() if file.is_file()}
    found = {name: why for name, file in there.items() if (why := secret_in(name, file))}
    if found:
        named = first_names((f"{name} ({why})" for name, why in found.items()), 5)
        raise Fault(
            f"{named} would be sent to Kaggle and looks like a secret: move it out of the project"
        )
    return f"none in {len(files)} files"


def _disk(context: Context, settings: Settings) -> str:
    files = context.shown_config(settings).weights_files
    sizes = [file.stat().st_size for file in upload_files(context.project.lib, files).values()]
    needed = SPARE_BYTES + sum(sizes)
    free = shutil.disk_usage(context.project.root).free
    if free < needed:
        raise Fault(f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed: free some room")
    return f"{free / 1e9:.0f} GB free"


def _owner(context: Context, settings: Settings) -> str:
    return f"{context.kernel_ref}, {context.dataset_ref}"  # which are those of the credentials


def _competition(context: Context, settings: Settings) -> str:
    """Check that the competition's rules are accepted and its files are there."""
    competition = context.project.competition
    try:
        files = [name for name, _ in listed_data(context, competition)]
    except Refused as refusal:
        if refusal.status != 404:
            raise
        raise Fault(f"there is no competition {competition}: correct {KERNEL_METADATA}") from None
    tables = read_block(context.project.code).tables
    missing = [name for name in tables if not {name, f"{name}.zip"} & set(files)]
    if missing:
        raise Fault(
            f"{competition} has no {missing[0]} but {', '.join(files[:5])}: see "
            f"https://www.kaggle.com/competitions/{competition}/data"
        )
    return f"{competition}: rules accepted, {len(files)} files"


def _models(context: Context, settings: Settings) -> str:
    handles = context.shown_config(settings).model_sources
    for handle in handles:
        try:
            listed_files(context.remote, handle)
        except NotShown as problem:
            raise Fault(str(problem).rstrip(".")) from None
    return ", ".join(handles) or "none needed"


def _dataset(context: Context, settings: Settings) -> str:
    with _only_informing():
        found = remote_version(context, context.dataset_ref)
        if found is None:
            return f"{context.dataset_ref} is not there yet: `ship bundle` creates it"
        status = context.remote.dataset_status(context.dataset_ref)
    dataset = f"{context.dataset_ref} version {found[0]}"
    if status == "FAILED":
        raise Concern(f"{dataset} is FAILED; `ship bundle` renews it")
    return f"{dataset} is {status or 'in an unknown state'}"


def _gpu_quota(context: Context, settings: Settings) -> str:
    """Check that the GPU time that is left this week suffices for the run's time limit."""
    gpu, shown = gpu_time(context), context.shown_config(settings)
    if gpu.left < 30:
        raise Concern(
            f"{gpu.left:.0f} minutes are left of this week's {gpu.allowed / 60:.0f} hours of GPU "
            f"time{gpu.until}: Kaggle may refuse a run until then"
        )
    limit = shown.time_limit or SESSION_MINUTES
    hours = computed_hours([shown.gpu_minutes])
    needs = f" and computes to {hours}" if hours else ""
    text = f"{gpu.left / 60:.1f} h of GPU time left, the run may take {limit / 60:.1f} h{needs}"
    if gpu.left < limit:
        raise Concern(f"{text}: wait, or push with --set time_limit={max(1, int(gpu.left) - 10)}")
    return text


def _submissions(context: Context, settings: Settings) -> str:
    competition = context.project.competition
    with _only_informing():
        closed = context.remote.competition(competition).get("submissionsDisabled")
    if closed:
        raise Concern(f"{competition} takes no submissions any more: a run would get no score")
    left = submissions_left(context)
    if not left:
        raise Concern("no submissions are left today: the score has to wait until tomorrow (UTC)")
    return f"{left} submissions left today"


Check = Callable[[Context, Settings], str]
LOCAL: dict[str, Check] = {
    "credentials": _credentials,
    "kernel-metadata": _kernel_metadata,
    "dataset-metadata": _dataset_metadata,
    "kernel": _kernel,
    "settings": _settings,
    "weights": _weights,
    "wheels": _wheels,
    "secrets": _secrets,
    "disk": _disk,
}
AT_KAGGLE: dict[str, Check] = {
    "owner": _owner,
    "competition": _competition,
    "models": _models,
    "dataset": _dataset,
    "gpu-quota": _gpu_quota,
    "submissions": _submissions,
}
CHECKS = LOCAL | AT_KAGGLE
BEFORE_BUNDLE = ("credentials", "dataset-metadata", "settings", "weights", "wheels")
BEFORE_BUNDLE += ("secrets", "disk")
BEFORE_PUSH = ("credentials", "kernel-metadata", "kernel", "settings", "secrets")
BEFORE_PUSH += ("competition", "models", "gpu-quota")
FORCIBLE = ("kernel-metadata", "dataset-metadata", "secrets", "disk", "competition", "models")
"""The checks that raise Fault: a shipment can go on without what they look for."""


# --- making them ---


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    name: str
    mark: str  # "ok", "warn", "FAIL" or "skip"
    text: str

    def __str__(self) -> str:
        return f"{self.mark:<5} {self.name:<17} {self.text}"


def findings(
    context: Context, settings: Settings, names: Iterable[str] = CHECKS
) -> Iterator[Finding]:
    """Make checks one after the other; one that fails for the reason of another is skipped."""
    failed: dict[str, str] = {}  # by the text of a failure the check that it was of
    for name in names:
        if name in AT_KAGGLE and context.dry_run:
            yield Finding(name, "skip", "would ask Kaggle")
            continue
        context.doing(f"checking the {name}")
        try:
            yield Finding(name, "ok", CHECKS[name](context, settings))
        except Concern as concern:
            yield Finding(name, "warn", str(concern))
        except Problem as problem:
            text, is_fault = str(problem), isinstance(problem, Fault)
            first = failed.setdefault(text.rstrip("."), name)
            if is_fault and name in context.forced:
                yield Finding(name, "warn", f"{text} (overridden)")
            elif first != name:
                yield Finding(name, "skip", f"needs the {first} in order")
            else:
                hint = f". (`--force {name}` goes on all the same.)" if is_fault else ""
                yield Finding(name, "FAIL", text + hint)


def examine(context: Context, settings: Settings, quiet: bool = False) -> None:
    """Make all checks and print what they found (`quiet`: warnings); Problem if one fails."""
    found = []
    for finding in findings(context, settings):
        found.append(finding)
        if not quiet or finding.mark == "warn":
            say(str(finding))
    emit_json(checks=[dataclasses.asdict(one) for one in found])
    if failed := [finding for finding in found if finding.mark == "FAIL"]:
        others = ", `ship doctor` shows all" if quiet and len(failed) > 1 else ""
        first = f"{failed[0].name}: {failed[0].text}"
        raise Problem(f"{len(failed)} of {len(found)} checks failed{others}; {first}")
    say(f"{len(found)} checks, none failed")


def require(context: Context, settings: Settings, names: Iterable[str]) -> None:
    """Make the checks before a step, in a dry run without an account; Problem if one fails."""
    if context.dry_run:
        names = [name for name in names if name != "credentials"]
    for finding in findings(context, settings, names):
        if finding.mark == "warn":
            say(str(finding))
        if finding.mark == "FAIL":
            raise Problem(finding.text)


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Check everything that could fail later."""
    examine(context, context.settings(arguments))
