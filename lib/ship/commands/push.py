"""`ship push`: push the kernel with its owner and settings as a new version, which then runs.

Every push carries a random mark and a hash of all that the run depends on in the script's marked
block. By the mark a push whose answer was lost is found at Kaggle; by the hash a version that this
machine does not know.
"""

import argparse
import dataclasses
import json
import shutil
import webbrowser
from pathlib import Path

from kernelkit.core.contract import read_metrics
from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.context import Context
from ship.grammar import Usage, Version, only_version, version
from ship.kaggle.client_process import Refused
from ship.kaggle.response_schemas import REF, schema_error
from ship.kaggle.send_once import (
    Absent,
    DeliveryStatus,
    Found,
    Transmission,
    Unknown,
    send_once,
    settle,
)
from ship.ledger import REFUSED, Run, run_name, settings_text, typed
from ship.output import say
from ship.project.bundle import mounted_version
from ship.project.project import KERNEL_METADATA
from ship.project.versions import (
    MARK,
    adopt,
    code_hash,
    forget,
    key_of,
    known_run,
    new_run,
    note,
    run_at_kaggle,
)

GPUS = {"t4": "NvidiaTeslaT4", "p100": "NvidiaTeslaP100"}
"""Short names of Kaggle's accelerators; T4 gives two of them."""


def gpu_name(kind: str | None) -> str:
    """Return Kaggle's name of an accelerator, "" for that of the metadata.

    Raises:
        Problem: it can't be a name.
    """
    name = GPUS.get((kind or "").lower(), kind or "")
    if kind and not name.isalnum():
        raise Problem(f"--gpu takes {', '.join(GPUS)} or Kaggle's own name, not {kind!r}.")
    return name


class NotTaken(Problem):
    """Kaggle did not take the kernel, and said why."""


def push(
    context: Context,
    settings: dict[str, str],
    config: dict,
    again: bool = False,
    remembered: bool = True,
) -> Run | None:
    """Push the kernel unless a run of exactly the same is known, and return the run.

    Args:
        context: the project, Kaggle and the state.
        settings: the kernel's settings.
        config: the kernel's answer to --show-config.
        again: push although nothing has changed, the same has failed, or nobody knows whether an
            earlier push arrived.
        remembered: the next command that names no settings takes these.

    Raises:
        Problem: Kaggle refuses the kernel or one of its sources, the same kernel has failed before,
            or nobody knows whether it arrived.
    """
    if context.dry_run:
        return describe(context, settings, config)
    context.doing("pushing the kernel")
    with context.sending():
        settle_push(context, again)
        run = new_run(context, settings, config)
        if remembered:
            context.remember(settings)
        known = None if again else same_as(context, run)
        if not known:
            run.dataset = mounted_version(context, config)
            return send(context, run, again)
        refuse_failed(known)
        say(f"{known.name} is pushed, nothing has changed since")
        return known


def same_as(context: Context, run: Run) -> Run | None:
    """Return the run of exactly the same that is known here or at Kaggle, None without one."""
    known = known_run(context, run)
    return known or run_at_kaggle(context, run, context.remote.kernel(run.kernel))


def refuse_failed(run: Run) -> None:
    """Raise Problem when a run of the very same kernel has failed, or was of other code."""
    if run.of_other_code:
        raise Problem(
            f"{run.name}, which was to be of exactly this kernel, found other packages than those "
            "of its dataset's version: run the same once more with `ship push --again`."
        )
    if run.status == REFUSED:
        raise Problem(
            f"{run.name} was pushed without a source that Kaggle refused ({run.failure}): correct "
            f"{KERNEL_METADATA} or accept the competition's rules; then, if nothing else changes, "
            "`ship push --again`."
        )
    if run.failed:
        raise Problem(
            f"{run.name}, of exactly this kernel, ended with {run.status.upper()}"
            f"{f' ({run.failure})' if run.failure else ''}: change what failed, or push the same "
            "once more with `ship push --again`."
        )


def describe(context: Context, settings: dict[str, str], config: dict) -> None:
    """Print what `push` would send."""
    script = context.script(settings, "dry run")
    say(f"would push {context.project.code.name} ({len(script):,} characters) with this metadata:")
    say(json.dumps(context.metadata, indent=2))
    overrides = settings_text(settings) or "none"
    say(f"overrides: {overrides}; recipe {config['recipe']}, backbone {config['backbone']}")


def stage_kernel(context: Context, run: Run) -> Path:
    """Write the script and its metadata, as they are pushed, into a folder and return that."""
    folder = context.project.runs / "staged" / "kernel"
    shutil.rmtree(folder, ignore_errors=True)
    script = context.script(run.settings, f"{run.mark} {key_of(run)} for {run.dataset}")
    write_atomically(folder / context.project.code.name, script)
    metadata = context.metadata | {"code_file": context.project.code.name}
    write_atomically(folder / KERNEL_METADATA, json.dumps(metadata, indent=2) + "\n")
    return folder


def send(context: Context, run: Run, again: bool = False) -> Run:
    """Push a new run once, and return its record.

    Unless it is to be pushed `again`, a run of the same that another machine has pushed at this
    moment takes its place.
    """
    shown = context.remote.kernel(run.kernel)
    if not again and (known := run_at_kaggle(context, run, shown)):
        return known
    before = shown[0] if shown else 0
    folder = stage_kernel(context, run)
    if code_hash(context) != run.code:
        raise Problem(
            f"{context.project.code.name} was edited while its push was prepared: run the same "
            "command again."
        )

    def begin() -> None:
        waiting = {"kernel": run.kernel, "mark": run.mark, "before": before}
        context.state.push = waiting | {"run": dataclasses.asdict(run)}

    what = f"kernel {run.kernel}"
    answer = send_once(
        context,
        dataclasses.replace(
            transmission_of(context, run.kernel),
            send=lambda: context.remote.call("push", what, once=True, folder=str(folder)),
            begin=begin,
        ),
    )
    if isinstance(answer, Found):
        run = note(context, run, *answer.evidence)
    else:
        run = accept(context, run, answer)
    return run if again else first_of(context, run, before)


def first_of(context: Context, run: Run, before: int) -> Run:
    """Return the first version of the same that came after `before`: of two machines one gives way.

    Kaggle knows no push under a condition, so both may have arrived; this one is then ended.
    """
    twin = dataclasses.replace(run, name="", verified={})
    first = run_at_kaggle(context, twin, (run.version - 1, ""), since=before)
    if first is None:
        return run
    from ship.commands.cancel import cancel  # which imports this module

    say(f"another machine has pushed the same as {first.name}: {run.name} is ended")
    for waited in context.asking():
        try:
            cancel(context, run, wait=False)
            break
        except Problem as problem:  # the session's number is not known before it starts
            if waited > context.timeouts.prove:
                say(str(problem))
                break
    context.reread(run)
    run.status, run.failure = "cancel_acknowledged", f"the same as {first.name}"
    context.ledger.keep(run)
    return first


def transmission_of(context: Context, kernel: str) -> Transmission:
    """Return the pending push as a transmission that can be probed."""
    return Transmission(
        what=f"the push of kernel {kernel}",
        probe=lambda: probe(context),
        forget=lambda: forget(context),
        decide=(
            f"see the versions at https://www.kaggle.com/code/{kernel}; `ship adopt VERSION` takes "
            "up the one that arrived, `ship push --again` pushes once more."
        ),
    )


def settle_push(context: Context, again: bool = False) -> None:
    """Find out what became of a push that was cut short: take it up, or forget it.

    Raises:
        Undecided: nobody knows, and no person has said `again`.
    """
    pending = context.state.push
    if not pending:
        return
    if again:
        return forget(context)
    say("an earlier push was cut short; asking Kaggle whether it arrived")
    found = settle(context, transmission_of(context, pending["kernel"]))
    if found:
        run = typed(Run, {"name": ""} | pending["run"])
        note(context, run, *found.evidence)
        return None
    return forget(context)


def probe(context: Context) -> DeliveryStatus:
    """Probe for the pending push: the versions that came since, and the own kernels."""
    pending = context.state.push
    kernel, before, mark = pending["kernel"], pending["before"], pending["mark"]
    shown = context.remote.kernel(kernel)
    if shown:
        newest, source = shown
        unmarked = 0
        for version in range(newest, before, -1):
            if version != newest:
                source = context.remote.source(kernel, version)
            if mark in source:
                return Found((kernel, version, "its mark in the version's source"))
            if not MARK.search(source):
                unmarked = version
        if unmarked:
            return Unknown(f"version {unmarked} came since, and no mark tells whose it is")
        if newest < before:
            return Unknown(f"Kaggle shows version {newest}, where {before} was there before")
        return Absent() if newest or before else Unknown("Kaggle tells no version number")
    if before:
        return Unknown("Kaggle does not show the kernel that was there before")
    owner = kernel.split("/")[0]
    listed = context.remote.own_kernels(owner)
    slugs = (kernel, f"{owner}/{context.project.title_slug}")  # Kaggle may have made another slug
    for other in [ref for ref in listed if ref.startswith(slugs) and ref != kernel]:
        version, source = context.remote.kernel(other) or (0, "")
        if mark in source:
            return Found((other, version, "its mark in the version's source"))
    return Unknown("Kaggle lists the kernel but does not show it") if kernel in listed else Absent()


def accept(context: Context, run: Run, answer: dict) -> Run:
    """Note what Kaggle answered to a push, and return the run.

    Raises:
        Problem: Kaggle did not take the kernel, or refused a source of it.
    """
    if answer["error"]:
        forget(context)
        raise NotTaken(f"Kaggle did not take the kernel: {answer['error']}")
    kernel = "/".join(answer["ref"].strip("/").split("/")[-2:])
    kernel = kernel if REF.fullmatch(kernel) else run.kernel
    if not answer["version"] or schema_error(answer["version"], int):
        found = settle(context, transmission_of(context, run.kernel))
        if found:
            return note(context, run, *found.evidence)
        forget(context)
        raise Problem(
            "Kaggle answered the push without a version number and has no such version: run the "
            "same command again."
        )
    if answer["refused"]:
        named = "; ".join(f"{kind} {', '.join(refs)}" for kind, refs in answer["refused"].items())
        run.failure = named
        note(context, run, kernel, answer["version"], "Kaggle's answer", REFUSED)
        raise Problem(
            f"Kaggle does not know, or refuses you, a source of the kernel: {named}. It runs "
            f"version {answer['version']} without it: end that with `ship cancel "
            f"{answer['version']}` or at {run.page}, and correct {KERNEL_METADATA} (for a "
            "competition: accept its rules on its page, then `ship push --again`)."
        )
    return note(context, run, kernel, answer["version"], "Kaggle's answer")


def take_up(context: Context, wanted: Version) -> Run:
    """Take up a version of the project's kernel that this machine does not know.

    Raises:
        Problem: it is another kernel's version, or Kaggle has no such version.
    """
    if wanted.slug not in ("", context.project.slug):
        raise Problem(
            f"no run {wanted} is known here, and the kernel of this project is "
            f"{context.project.slug}: `ship runs` lists the known ones."
        )
    try:
        with context.sending():
            return adopt(context, wanted.number)
    except Refused as refusal:
        if refusal.status not in (403, 404):
            raise
        newest, _ = context.remote.kernel(context.kernel_ref) or (0, "")
        has = f"its newest is {newest}" if newest else "Kaggle shows no version of it"
        raise Problem(
            f"there is no version {wanted.number} of kernel {context.kernel_ref} ({has}): "
            "`ship runs` lists those that are known here."
        ) from None


def chosen_run(context: Context, wanted: Version | None) -> Run:
    """Return the newest run, or that of a version of the kernel, which is taken up if need be.

    Raises:
        Problem: no run is known.
    """
    if not context.dry_run and context.state.push:
        with context.sending():
            settle_push(context)
    if wanted:
        runs = context.ledger.runs() if wanted.slug else context.runs_of_kernel()
        known = [run for run in runs if run.version == wanted.number]
        known = [run for run in known if not wanted.slug or run.name == str(wanted)]
        if known:
            return known[-1]
        if context.dry_run:
            ref = context.kernel_ref
            return Run(run_name(ref, wanted.number), ref, wanted.number)
        return take_up(context, wanted)
    runs = [run for run in context.runs_of_kernel() if context.is_here(run)]
    if not runs:
        raise Problem(
            f"no run of {context.project.slug} for {context.project.competition} is known here: "
            "push one with `ship push`, or name the version that Kaggle has."
        )
    return runs[-1]


def run_to_continue(context: Context) -> Run:
    """Return the newest run of the kernel, from whose output the next one can go on.

    Where that goes on from another one itself and may not have been cut short too, it is that
    other one: the same command takes the newest up and does not push it again.

    Raises:
        Problem: there is none, it is not complete, or it has done all that it was to do.
    """
    runs = {run.name: run for run in context.runs_of_kernel() if context.is_here(run)}
    if not runs:
        raise Problem(
            f"--continue needs an earlier run of {context.project.slug} for "
            f"{context.project.competition}, and none is known here: push without it."
        )
    newest = list(runs.values())[-1]
    stopped = newest.status == "complete" and stopped_by_time(context, newest)
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


def stopped_by_time(context: Context, run: Run) -> bool | None:
    """Return whether the end of its session cut a run short; None while that is not known here."""
    try:
        return read_metrics(context.folder(run)).get("stopped_by_time_limit")
    except Problem:
        return None


def open_page(run: Run) -> None:
    """Open a run's page in a browser, where there is one."""
    if not webbrowser.open(run.page):
        say(f"no browser could be opened: {run.page}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship push`, which `ship` has too."""
    run_arguments(parser)
    parser.add_argument(
        "--again",
        action="store_true",
        default=argparse.SUPPRESS,
        help="push although nothing has changed, it failed, or an earlier push may have arrived",
    )
    parser.add_argument(
        "--adopt",
        type=version,
        metavar="N",
        default=argparse.SUPPRESS,
        help="take up version N instead of pushing",
    )
    open_argument(parser)


def open_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument of the commands that can show a run's page."""
    parser.add_argument(
        "--open",
        action="store_true",
        default=argparse.SUPPRESS,
        help="open the run's page in a browser",
    )


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of all commands that push, which say how the kernel is to run."""
    parser.add_argument(
        "--continue",
        action="store_true",
        dest="goes_on",
        default=argparse.SUPPRESS,
        help="go on from the newest run, which time cut short: its output is attached",
    )
    parser.add_argument(
        "--gpu",
        metavar="KIND",
        default=argparse.SUPPRESS,
        help=f"the accelerator: {', '.join(GPUS)} or Kaggle's own name of one (the metadata's)",
    )


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship push`."""
    settings = context.settings(arguments)
    config = context.shown_config(settings)
    pushed = push(context, settings, config, arguments.again)
    if pushed and arguments.open:
        open_page(pushed)


def run_adopt(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship adopt`.

    Raises:
        Usage: no version is named.
    """
    wanted = only_version(arguments)
    if wanted is None:
        raise Usage(
            "`ship adopt` takes the version that is to be taken up, such as `ship adopt 3`."
        )
    if context.dry_run:
        return say(f"would take up version {wanted.number} of {context.kernel_ref}")
    taken = take_up(context, wanted)
    return open_page(taken) if arguments.open else None
