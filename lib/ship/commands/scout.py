"""`ship scout`: let Kaggle's GPUs judge the candidates, and leave what is found to the next run."""

import argparse

from kernelkit.core.problem import Problem
from ship.command_line import switch
from ship.commands import doctor
from ship.commands.fetch import fetch_some
from ship.commands.live_runs import follow
from ship.commands.push import push
from ship.context import Context
from ship.output import emit_json, say

FOUND = "scout/candidates.txt"  # in the run's output: the table as its log has it
USUAL = {"recipe": "max"}


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Judge all candidates on Kaggle without training them, and show the table."""
    settings = USUAL | context.settings(arguments) | {"scout_only": "yes"}
    config = context.shown_config(settings)
    if not config.values.get("candidates") or config.values.get("members"):
        raise Problem(
            "These settings have no candidates to scout: give "
            "`--set candidates=a:SigLIP2B,b:ConvNeXtBase`, or name neither recipe nor members."
        )
    doctor.require(context, settings, doctor.BEFORE_PUSH)
    with context.remote.patient(context.timeouts.outage):
        pushed = push(context, settings, config, arguments.again, False, config.weights_files)
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


ARGUMENTS = (switch("--again", "push although nothing has changed"),)
