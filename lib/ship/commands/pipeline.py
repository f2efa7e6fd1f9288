"""`ship` without a command: the whole pipeline from the repository to a score; and `ship scout`.

In a code competition a second kernel predicts with the networks, and its version is submitted. Each
step finds out by itself what is done already and skips it. `ship scout` lets Kaggle's GPUs judge
the candidates, and leaves what is found to the next run.
"""

import argparse

from kernelkit.core.problem import Problem
from ship.command_line import switch
from ship.commands import doctor
from ship.commands.fetch import SUBMISSION, fetch, fetch_some
from ship.commands.live_runs import follow, open_page
from ship.commands.predict import HOURS, predict
from ship.commands.push import push, take_up
from ship.commands.submission import takes_kernels_only
from ship.commands.submit import submit
from ship.context import Context
from ship.ledger import Run
from ship.output import emit_json, say
from ship.project.versions import known_run, new_run

FOUND = "scout/candidates.txt"  # in the run's output: the table as its log has it
SCOUTING = {"recipe": "max"}


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Check, bundle, push, follow, fetch and submit."""
    if not arguments.adopt:
        pushed = _push(context, arguments)
    elif context.dry_run:
        pushed = say(f"would take up version {arguments.adopt.number} of {context.kernel_ref}")
    else:
        pushed = take_up(context, arguments.adopt, arguments.set)
    if pushed is None:
        kernel = "predict with its networks in a second kernel, " if arguments.code else ""
        steps = f"follow the run, fetch its output, {kernel}submit it and wait for the score"
        return say(f"would then {steps}")
    if arguments.open:
        open_page(pushed)
    if arguments.no_wait:
        return None
    timeouts = context.timeouts  # another `ship` may follow the run for hours
    with context.holding(pushed, timeouts.score), context.remote.patient(timeouts.outage):
        follow(context, [pushed])
        folder = fetch(context, pushed)
        scored = pushed.public_score is not None
        if arguments.code or (not scored and takes_kernels_only(context)):
            return predict(context, pushed, folder, hours=arguments.hours)
        return submit(context, pushed, folder / SUBMISSION)


def _push(context: Context, arguments: argparse.Namespace) -> Run | None:
    settings = context.settings(arguments)
    if not _nothing_changed(context, settings):
        doctor.examine(context, settings, quiet=True)
    config = context.shown_config(settings)
    with context.remote.patient(context.timeouts.outage):
        return push(context, settings, config, arguments.again, weights=config.weights_files)


def _nothing_changed(context: Context, settings: dict[str, str]) -> bool:
    """Tell whether there is a run of exactly the present files that has not failed."""
    if context.dry_run or context.state.push:
        return False
    try:
        config = context.shown_config(settings)
        known = known_run(context, new_run(context, settings, config))
    except Problem:  # the doctor says what is wrong
        return False
    return bool(known and not known.useless)


ARGUMENTS = (
    switch(
        "--code",
        "submit a second kernel, which predicts with the networks, as in a code competition",
    ),
    HOURS,
)
"""Those that `ship` has alone."""


def run_scout(context: Context, arguments: argparse.Namespace) -> None:
    """Judge all candidates on Kaggle without training them, and show the table."""
    settings = SCOUTING | context.settings(arguments) | {"scout_only": "yes"}
    config = context.shown_config(settings)
    if not config.values.get("candidates") or config.values.get("members"):
        raise Problem(
            "These settings have no candidates to scout: give "
            "`--set candidates=a:SigLIP2B,b:ConvNeXtBase`, or name neither recipe nor members."
        )
    doctor.require(context, settings, doctor.BEFORE_PUSH)
    with context.remote.patient(context.timeouts.outage):
        again, weights = arguments.again, config.weights_files
        pushed = push(context, settings, config, again, remembered=False, weights=weights)
        if pushed is None:
            return say("would then follow the run, and fetch what it has found")
        with context.holding(pushed, context.timeouts.score):
            follow(context, [pushed])
            for pattern in ("scout/*.txt", "report*"):
                fetch_some(context, pushed, pattern)
    found = (context.folder(pushed) / FOUND).read_text(encoding="utf-8")
    emit_json(run=pushed.name, candidates=found.splitlines())
    say(found.rstrip(), result=True)
    return say("`ship --continue` trains what is chosen from it, and computes no feature again")


SCOUT_ARGUMENTS = (switch("--again", "push although nothing has changed"),)
