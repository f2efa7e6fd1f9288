"""`ship push`: push the kernel with its owner and settings as a new version, which then runs.

Every push carries a random mark in the script's marked block. When Kaggle's answer is lost, the
source of the newest version at Kaggle tells by the mark whether the push arrived.
"""

import argparse
import json
import secrets
import shutil
import time
from pathlib import Path

from common import Problem, write_atomically
from ship.contents import sha256
from ship.context import Context, say
from ship.project import KERNEL_METADATA

FAILED = ("ERROR", "CANCEL_ACKNOWLEDGED")
"""Status words of runs that ended without a result."""


def name_of(run: dict) -> str:
    """Return the run's name in the ledger and in runs/: "slug-v3"."""
    return f"{run['ref'].split('/')[1]}-v{run['version']}"


def page_of(run: dict) -> str:
    """Return the address of a run's page."""
    return f"https://www.kaggle.com/code/{run['ref']}?scriptVersionNumber={run['version']}"


def run_key(context: Context, settings: dict[str, str]) -> str:
    """Return a hash of what a run depends on: script, settings, metadata, uploaded dataset."""
    metadata = context.project.owned(context.project.kernel_metadata, context.owner)
    text = context.project.script(settings, "")
    parts = [text, json.dumps(metadata, sort_keys=True), context.state.dataset.get("hash", "")]
    return sha256("\0".join(parts).encode())


def stage_kernel(context: Context, settings: dict[str, str], mark: str) -> Path:
    """Write the script and its metadata, as they are pushed, into a folder and return that."""
    folder = context.project.runs / "staged" / "kernel"
    shutil.rmtree(folder, ignore_errors=True)
    metadata = context.project.owned(context.project.kernel_metadata, context.owner)
    write_atomically(folder / context.project.code.name, context.script(settings, mark))
    metadata["code_file"] = context.project.code.name
    write_atomically(folder / KERNEL_METADATA, json.dumps(metadata, indent=2) + "\n")
    return folder


def push(context: Context, settings: dict[str, str], config: dict, again: bool = False) -> None:
    """Push the kernel unless the newest run is of the same key and has not failed.

    Args:
        context: the project, Kaggle and the state.
        settings: the kernel's settings.
        config: the kernel's answer to --show-config.
        again: push even when nothing has changed.

    Raises:
        Problem: Kaggle refuses the kernel or one of its sources; the next push tries anew.
    """
    if context.dry_run:
        return describe(context, settings, config)
    context.doing("pushing the kernel")
    ref = context.kernel_ref
    require_dataset(context)
    resolve_interrupted_push(context)
    run, key = context.state.run, run_key(context, settings)
    if run.get("key") == key and not again:
        if run.get("status") not in FAILED:
            say(f"{name_of(run)} is pushed, nothing has changed since")
            return None
        say(f"{name_of(run)} ended with {run['status']}: pushing the same kernel once more")
    elif run.get("version") and not run.get("status"):
        say(f"{name_of(run)} is left to itself (`ship follow --version {run['version']}` shows it)")
    context.state.values["run"] = {
        "mark": secrets.token_hex(8),
        "key": key,
        "ref": ref,
        "settings": settings,
        "config": {name: config.get(name) for name in ("recipe", "backbone", "weights_files")},
        "image_size": config.get("config", {}).get("image_size"),
        "commit": context.project.commit(),
        "sending": True,
    }
    context.state.save()
    send(context, stage_kernel(context, settings, context.state.run["mark"]))
    return None


def require_dataset(context: Context) -> None:
    """Raise Problem when there is no dataset for the kernel to mount: its run would be wasted."""
    if not context.state.dataset.get("ready") and not context.remote.dataset(context.dataset_ref):
        raise Problem(f"there is no dataset {context.dataset_ref} yet: run `ship bundle` first.")


def describe(context: Context, settings: dict[str, str], config: dict) -> None:
    """Print what `push` would send."""
    metadata = context.project.owned(context.project.kernel_metadata, context.owner)
    script = context.script(settings, "dry run")
    say(f"would push {context.project.code.name} ({len(script):,} characters) with this metadata:")
    say(json.dumps(metadata, indent=2))
    overrides = " ".join(f"{name}={value}" for name, value in settings.items()) or "none"
    say(f"overrides: {overrides}; recipe {config['recipe']}, backbone {config['backbone']}")


def send(context: Context, folder: Path) -> None:
    """Push the staged kernel once."""
    what = f"kernel {context.state.run['ref']}"
    answer = context.send_once(
        f"the push of {what}",
        send=lambda: context.remote.call("push", what, once=True, folder=str(folder)),
        arrived=lambda: arrived(context),
        forget=lambda: forget(context),
    )
    if answer:
        accept(context, answer)


def accept(context: Context, answer: dict) -> None:
    """Note what Kaggle answered to a push.

    Raises:
        Problem: Kaggle did not take the kernel, or refused a source of it.
    """
    run = context.state.run
    if answer["error"]:
        forget(context)
        raise Problem(f"Kaggle did not take the kernel: {answer['error']}")
    run["version"] = answer["version"]
    if answer["refused"]:
        named = "; ".join(f"{kind} {', '.join(refs)}" for kind, refs in answer["refused"].items())
        page = page_of(run)
        forget(context)
        raise Problem(
            f"Kaggle does not know, or refuses you, a source of the kernel: {named}. It runs "
            f"version {answer['version']} without it: cancel that at {page}, correct "
            f"{KERNEL_METADATA} (for a competition: accept its rules on its page), and run the "
            "same command again."
        )
    if not answer["version"]:
        if not context.shows_up(lambda: arrived(context)):
            forget(context)
            raise Problem(
                "Kaggle answered the push without a version number and has no such version: run "
                "the same command again."
            )
        return
    note_pushed(context)


def forget(context: Context) -> None:
    """Forget the run but not its settings: the next push begins anew with them."""
    context.state.values["run"] = {"settings": context.state.run["settings"]}
    context.state.save()


def resolve_interrupted_push(context: Context) -> None:
    """Ask Kaggle about a push that was cut short, and forget it when it has not arrived."""
    if context.state.run.get("sending") and not context.shows_up(lambda: arrived(context)):
        forget(context)


def arrived(context: Context) -> bool:
    """Tell whether Kaggle's newest version bears the run's mark; if so, note its number."""
    run = context.state.run
    version, source = context.remote.kernel(run["ref"])
    if not version or run["mark"] not in source:
        return False
    run["version"] = version
    note_pushed(context)
    return True


def note_pushed(context: Context) -> None:
    """Save that the push has arrived, and begin the run's row in the ledger."""
    run = context.state.run
    write_row(context)
    run.pop("sending", None)
    context.state.save()
    say(f"pushed {run['ref']} version {run['version']}: {page_of(run)}")


def write_row(context: Context) -> None:
    """Write what is known of a run at its push into the ledger, unless it is there already."""
    run = context.state.run
    if any(row["run"] == name_of(run) for row in context.ledger.rows()):
        return
    size = run.get("image_size")
    context.ledger.append(
        name_of(run),
        time=time.strftime("%Y-%m-%d %H:%M:%S"),
        commit=run["commit"],
        recipe=run["config"]["recipe"],
        backbone=run["config"]["backbone"],
        image_size="x".join(map(str, size)) if isinstance(size, list) else size,
        settings=run["settings"] or None,
        status="pushed",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship push`."""
    parser.add_argument(
        "--again",
        action="store_true",
        help="push even when nothing has changed since the last push",
    )


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship push`."""
    settings = context.settings(arguments)
    config = context.shown_config(settings)
    push(context, settings, config, arguments.again)
