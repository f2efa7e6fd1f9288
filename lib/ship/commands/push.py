"""`ship push` and `ship adopt`: push the kernel as a new version, or take up one that is there.

Every push carries a random mark and a hash of all that the run depends on in the script's marked
block. By the mark a push whose answer was lost is found at Kaggle; by the hash a version that this
machine does not know.
"""

import argparse
import contextlib
import json
import shutil

from slugify import slugify

from kernelkit.core.contract import read_metrics
from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.command_line import (
    Usage,
    Version,
    only_version,
    option,
    parse_settings,
    switch,
    version,
)
from ship.commands.live_runs import OPEN, open_page
from ship.context import Context, ShownConfig
from ship.kaggle.client_process import AnswerLost, Refused
from ship.kaggle.response_schemas import REF
from ship.kaggle.send_once import Absent, DeliveryStatus, Found, Transmission, Unknown
from ship.ledger import REFUSED, PendingPush, Run, run_name, settings_text
from ship.output import say
from ship.project import versions
from ship.project.bundle import Bundle, bundle
from ship.project.offline import page_of
from ship.project.project import KERNEL_METADATA
from ship.project.versions import run_at_kaggle

GPUS = {"t4": "NvidiaTeslaT4", "p100": "NvidiaTeslaP100"}
"""Short names of Kaggle's accelerators; T4 gives two of them."""


class NotTaken(Problem):
    """Kaggle did not accept the kernel; the sentence gives its reason."""


def push(
    context: Context,
    settings: dict[str, str],
    config: ShownConfig,
    again: bool = False,
    remembered: bool = True,
    weights: list[str] | None = None,
) -> Run | None:
    """Push the kernel unless a run of exactly the same is known; return the run, None in a dry run.

    With `again` it is pushed although nothing has changed, the same has failed, or nobody knows
    whether an earlier push arrived. `remembered` settings are those of the next command that names
    none. The dataset is brought up to date before, with these `weights`; None leaves it as it is.

    Raises NotTaken where Kaggle did not take the kernel, and Problem where it refuses one of the
    sources, the same kernel has failed before, or nobody knows whether it arrived.
    """
    with context.sending():
        if context.dry_run:
            if weights is not None:
                bundle(context, weights)
            return _describe(context, settings, config)
        context.doing("pushing the kernel")
        settle_push(context, again)
        run = versions.new_run(context, settings, config)
        if remembered:
            context.remember(settings)
        known = None if again else versions.known_run(context, run)
        if not again and not known:
            known = run_at_kaggle(context, run, context.remote.kernel(run.kernel))
        if known:
            _refuse_failed(context, known)
            say(f"{known.name} is pushed, nothing has changed since")
            return known
        if weights is not None:
            bundle(context, weights, quiet=not remembered)  # a sweep pushes often
            context.doing("pushing the kernel")
            run = versions.new_run(context, settings, config)  # of what was sent meanwhile
        run.dataset = Bundle.of_lib(context, config.weights_files).mounted_version()
        return _send(context, run, config, again)


def _describe(context: Context, settings: dict[str, str], config: ShownConfig) -> None:
    code, text = context.project.code.name, context.script(settings, "dry run")
    say(f"would push {code} ({len(text):,} characters) with this metadata:")
    say(json.dumps(_metadata(context, config), indent=2))
    say(f"overrides: {settings_text(settings) or 'none'}; {config.summary}")


def _refuse_failed(context: Context, run: Run) -> None:
    if run.of_other_code:
        raise Problem(
            f"{run.name}, which was to be of exactly this kernel, found other packages than those "
            f"of its dataset's version: run the same once more with `{context.again}`."
        )
    if run.status == REFUSED:
        raise Problem(
            f"{run.name} was pushed without a source that Kaggle refused ({run.failure}): correct "
            f"{KERNEL_METADATA}, or accept the competition's rules or the model's licence; then, "
            f"if nothing else changes, `{context.again}`."
        )
    if run.failed:
        raise Problem(
            f"{run.name}, of exactly this kernel, ended with {run.status.upper()}"
            f"{f' ({run.failure})' if run.failure else ''}: change what failed, or push the same "
            f"once more with `{context.again}`."
        )


def _metadata(context: Context, config: ShownConfig) -> dict:
    """Return the kernel's metadata with the models that its settings need attached.

    They take the place of other versions of the same models.
    """
    handles = config.model_sources
    replaced = {handle.rpartition("/")[0] for handle in handles}
    own = context.metadata.get("model_sources") or []
    kept = [handle for handle in own if handle.rpartition("/")[0] not in replaced]
    return context.metadata | {"model_sources": [*kept, *handles]}


def _send(context: Context, run: Run, config: ShownConfig, again: bool) -> Run:
    shown = context.remote.kernel(run.kernel)
    if not again and (known := run_at_kaggle(context, run, shown)):
        return known
    before = shown[0] if shown else 0
    code = context.project.code.name
    folder = context.project.runs / "staged" / "kernel"
    shutil.rmtree(folder, ignore_errors=True)
    script = context.script(run.settings, f"{run.mark} {versions.key_of(run)} for {run.dataset}")
    write_atomically(folder / code, script)
    metadata = _metadata(context, config) | {"code_file": code}
    write_atomically(folder / KERNEL_METADATA, json.dumps(metadata, indent=2) + "\n")
    if versions.code_hash(context) != run.code:
        raise Problem(f"{code} was edited while its push was prepared: run the same command again.")

    def begin() -> None:
        context.state.push = PendingPush(run, before)
        context.state.save()

    def send() -> tuple[str, int, str]:
        what = f"kernel {run.kernel}"
        answer = context.remote.call("push", what, once=True, folder=str(folder))
        return _accepted(context, run, answer)

    return versions.note(context, run, *_transmission(context, run.kernel).send(begin, send))


def _transmission(context: Context, kernel: str) -> Transmission:
    return Transmission(
        context,
        what=f"the push of kernel {kernel}",
        probe=lambda: _probe(context),
        forget=lambda: versions.forget(context),
        decide=(
            f"see the versions at https://www.kaggle.com/code/{kernel}; `ship adopt VERSION` takes "
            f"up the one that arrived, `{context.again}` pushes once more."
        ),
    )


def settle_push(context: Context, again: bool = False) -> None:
    """Take up a push that was cut short, or forget it; Undecided where nobody knows."""
    pending = context.state.push
    if pending and (found := _transmission(context, pending.run.kernel).settle_earlier(again)):
        versions.note(context, pending.run, *found.evidence)


def _probe(context: Context) -> DeliveryStatus:
    """Probe for the pending push: the versions that came since, and the own kernels."""
    pending = context.state.push
    kernel, before, mark = pending.run.kernel, pending.before, pending.run.mark
    shown = context.remote.kernel(kernel)
    if shown:
        newest, source = shown
        unmarked = 0
        for number in range(newest, before, -1):
            if number != newest:
                source = context.remote.source(kernel, number)
            if mark in source:
                return Found((kernel, number, "its mark in the version's source"))
            if not versions.MARK.search(source):
                unmarked = number
        if unmarked:
            return Unknown(f"version {unmarked} came since, and it has no mark of `ship`")
        if newest < before:
            return Unknown(f"Kaggle shows version {newest}, where {before} was there before")
        return Absent() if newest or before else Unknown("Kaggle tells no version number")
    if before:
        return Unknown("Kaggle does not show the kernel that was there before")
    owner = kernel.split("/")[0]
    listed = context.remote.own_kernels(owner)
    title = slugify(str(context.project.kernel_metadata.get("title") or ""))
    slugs = (kernel, f"{owner}/{title}")  # Kaggle may have made another slug
    for other in listed:
        if other.startswith(slugs) and other != kernel:
            number, source = context.remote.kernel(other) or (0, "")
            if mark in source:
                return Found((other, number, "its mark in the version's source"))
    return Unknown("Kaggle lists the kernel but does not show it") if kernel in listed else Absent()


def _accepted(context: Context, run: Run, answer: dict) -> tuple[str, int, str]:
    """Return kernel, version and proof in Kaggle's answer to a push.

    Raises AnswerLost where it names no version, and Problem where it is a refusal.
    """
    if answer["error"]:
        raise NotTaken(f"Kaggle did not take the kernel: {answer['error']}")
    kernel = "/".join(answer["ref"].strip("/").split("/")[-2:])
    kernel = kernel if REF.fullmatch(kernel) else run.kernel
    number = answer["version"]
    if not number or not isinstance(number, int):
        raise AnswerLost("it names no version")
    if refused := answer["refused"]:
        named = "; ".join(f"{kind} {', '.join(refs)}" for kind, refs in refused.items())
        run.failure = named
        versions.note(context, run, kernel, number, "Kaggle's answer", REFUSED)
        consent = "for a competition: accept its rules on its page"
        if models := refused.get("model"):
            pages = ", ".join(map(page_of, models))
            consent = f"for a model: accept its licence at {pages} or take another backbone"
        raise Problem(
            f"Kaggle does not know, or refuses you, a source of the kernel: {named}. It runs "
            f"version {number} without it: end that with `ship cancel {number}` or at {run.page}, "
            f"and correct {KERNEL_METADATA} ({consent}, then `{context.again}`)."
        )
    return kernel, number, "Kaggle's answer"


def take_up(context: Context, wanted: Version, words: list[str] | None = None) -> Run:
    """Take up a version of the project's kernel that this machine does not know.

    Raises Problem where there is none, or it has other settings than `words`, those of --set.
    """
    if wanted.slug not in ("", context.project.slug):
        raise Problem(
            f"no run {wanted} is known here, and the kernel of this project is "
            f"{context.project.slug}: `ship runs` lists the known ones."
        )
    try:
        with context.sending():
            run = versions.adopt(context, wanted.number)
    except Refused as refusal:
        if refusal.status not in (403, 404):
            raise
        newest, _ = context.remote.kernel(context.kernel_ref) or (0, "")
        has = f"its newest is {newest}" if newest else "Kaggle shows no version of it"
        raise Problem(
            f"there is no version {wanted.number} of kernel {context.kernel_ref} ({has}): "
            "`ship runs` lists those that are known here."
        ) from None
    if (given := parse_settings(words or [])) and given != run.settings:
        had = settings_text(run.settings) or "none"
        raise Problem(f"the settings of {run.name} are not those of --set but {had}: leave it out.")
    return run


def chosen_run(context: Context, wanted: Version | None) -> Run:
    """Return the newest run, or that of a version (taken up if need be); Problem without one."""
    if not context.dry_run and context.state.push:
        with context.sending():
            settle_push(context)
    if wanted is None:
        if here := context.runs_here():
            return here[-1]
        raise Problem(
            f"no run of {context.project.slug} for {context.project.competition} is known here: "
            "push one with `ship push`, or name the version that Kaggle has."
        )
    if wanted.slug:
        known = context.ledger.find(str(wanted))
    else:
        of_number = [run for run in context.runs_of_kernel() if run.version == wanted.number]
        known = of_number[-1] if of_number else None
    if known:
        return known
    if context.dry_run:
        ref = context.kernel_ref
        return Run(run_name(ref, wanted.number), ref, wanted.number)
    return take_up(context, wanted)


def run_to_continue(context: Context) -> Run:
    """Return the newest complete run of the kernel, from whose output the next one can continue.

    Where the newest continues another one and is not known to be cut short too, it is that other
    one: so the same command takes the newest up and does not push it again.
    """
    runs = {run.name: run for run in context.runs_here()}
    if not runs:
        raise Problem(
            f"--continue needs an earlier run of {context.project.slug} for "
            f"{context.project.competition}, and none is known here: push without it."
        )
    newest = list(runs.values())[-1]
    stopped = None  # whether the end of its session cut it short; None while that is unknown
    if newest.status == "complete":
        with contextlib.suppress(Problem):
            stopped = read_metrics(context.folder(newest)).get("stopped_by_time_limit")
    if newest.continues in runs and not stopped:
        return runs[newest.continues]
    if newest.status != "complete":
        raise Problem(
            f"--continue goes on from the output of {newest.name}, whose status is "
            f"{newest.status or 'unknown'}: `ship follow` waits for its end."
        )
    if stopped is False:
        raise Problem(f"{newest.name} has done all that it was to do: push without --continue.")
    return newest


def _gpu(kind: str) -> str:
    if not kind.isalnum():
        raise argparse.ArgumentTypeError(
            f"it takes {', '.join(GPUS)} or Kaggle's own name, not {kind!r}"
        )
    return GPUS.get(kind.lower(), kind)


GPU = option("--gpu",
    f"the accelerator: {', '.join(GPUS)} or Kaggle's own name of one (the metadata's)",
    type=_gpu, metavar="KIND")  # fmt: skip
RUN_ARGUMENTS = (
    switch("--continue", "go on from the newest run, which time cut short: its output is attached",
        dest="continues"),
    GPU,
)  # fmt: skip
"""Of all commands that push: how the kernel is to run."""
ARGUMENTS = (
    *RUN_ARGUMENTS,
    switch("--again",
        "push although nothing has changed, it failed, or an earlier push may be there"),
    option("--adopt", "take up version N instead of pushing", type=version, metavar="N"),
    OPEN,
)  # fmt: skip


def run_push(context: Context, arguments: argparse.Namespace) -> None:
    """Push the kernel as a new version, which runs."""
    settings = context.settings(arguments)
    pushed = push(context, settings, context.shown_config(settings), arguments.again)
    if pushed and arguments.open:
        open_page(pushed)


def run_adopt(context: Context, arguments: argparse.Namespace) -> None:
    """Take up a version that this machine does not know."""
    wanted = only_version(arguments)
    if wanted is None:
        raise Usage("`ship adopt` takes the version to take up, such as `ship adopt 3`.")
    if context.dry_run:
        return say(f"would take up version {wanted.number} of {context.kernel_ref}")
    taken = take_up(context, wanted, arguments.set)
    return open_page(taken) if arguments.open else None
