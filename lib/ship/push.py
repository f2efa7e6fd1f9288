"""`ship push`: the kernel, staged with owner and settings, pushed as a new version that runs.

Every push carries a mark of its own in the script's marked block. When the answer is lost, the
newest version's source at Kaggle tells whether the push arrived.
"""

import argparse
import json
import secrets
import shutil
import time
from pathlib import Path

from common import Problem, write_atomically
from ship.desk import Desk, say
from ship.project import KERNEL_METADATA, sha256

OVER = ("ERROR", "CANCEL_ACKNOWLEDGED")
"""Status words of runs that ended without a result."""


def name_of(run: dict) -> str:
    """Return how a run is called in the ledger and in runs/: "slug-v3"."""
    return f"{run['ref'].split('/')[1]}-v{run['version']}"


def page_of(run: dict) -> str:
    """Return the address of a run's page."""
    return f"https://www.kaggle.com/code/{run['ref']}?scriptVersionNumber={run['version']}"


def run_key(desk: Desk, settings: dict[str, str]) -> str:
    """Return a hash of all that makes a run what it is: script, settings, metadata, dataset."""
    metadata = desk.project.owned(desk.project.kernel_metadata, desk.owner)
    text = desk.project.script(settings, "")
    parts = [text, json.dumps(metadata, sort_keys=True), desk.state.dataset.get("hash", "")]
    return sha256("\0".join(parts).encode())


def stage(desk: Desk, settings: dict[str, str], mark: str) -> Path:
    """Write the script and its metadata as they are pushed into a folder of their own."""
    folder = desk.project.runs / "staged" / "kernel"
    shutil.rmtree(folder, ignore_errors=True)
    metadata = desk.project.owned(desk.project.kernel_metadata, desk.owner)
    write_atomically(folder / desk.project.code.name, desk.script(settings, mark))
    metadata["code_file"] = desk.project.code.name
    write_atomically(folder / KERNEL_METADATA, json.dumps(metadata, indent=2) + "\n")
    return folder


def push(desk: Desk, settings: dict[str, str], config: dict, again: bool = False) -> None:
    """Push the kernel unless this very run is there already and has not failed.

    Raise Problem when Kaggle refuses it or one of its sources; the next push then tries anew.
    """
    if desk.dry_run:
        return describe(desk, settings, config)
    ref = desk.kernel_ref
    require_dataset(desk)
    settle(desk)
    run, key = desk.state.run, run_key(desk, settings)
    if run.get("key") == key and not again:
        if run.get("status") not in OVER:
            say(f"{name_of(run)} is pushed, nothing has changed since")
            return None
        say(f"{name_of(run)} ended with {run['status']}: pushing the same kernel once more")
    elif run.get("version") and not run.get("status"):
        say(f"{name_of(run)} is left to itself (`ship follow --version {run['version']}` shows it)")
    desk.state.values["run"] = {
        "mark": secrets.token_hex(8),
        "key": key,
        "ref": ref,
        "settings": settings,
        "config": {name: config.get(name) for name in ("recipe", "backbone", "weights_files")},
        "image_size": config.get("config", {}).get("image_size"),
        "commit": desk.project.commit(),
        "sending": True,
    }
    desk.state.save()
    send(desk, stage(desk, settings, desk.state.run["mark"]))
    return None


def require_dataset(desk: Desk) -> None:
    """Raise Problem when there is no dataset for the kernel to mount: its run would be lost."""
    if not desk.state.dataset.get("ready") and not desk.remote.dataset(desk.dataset_ref):
        raise Problem(f"there is no dataset {desk.dataset_ref} yet: run `ship bundle` first.")


def describe(desk: Desk, settings: dict[str, str], config: dict) -> None:
    """Print what `push` would send."""
    metadata = desk.project.owned(desk.project.kernel_metadata, desk.owner)
    script = desk.script(settings, "dry run")
    say(f"would push {desk.project.code.name} ({len(script):,} characters) with this metadata:")
    say(json.dumps(metadata, indent=2))
    overrides = " ".join(f"{name}={value}" for name, value in settings.items()) or "none"
    say(f"overrides: {overrides}; recipe {config['recipe']}, backbone {config['backbone']}")


def send(desk: Desk, folder: Path) -> None:
    """Push what is staged."""
    what = f"kernel {desk.state.run['ref']}"
    answer = desk.send_once(
        f"the push of {what}",
        send=lambda: desk.remote.call("push", what, once=True, folder=str(folder)),
        arrived=lambda: arrived(desk),
        forget=lambda: forget(desk),
    )
    if answer:
        accept(desk, answer)


def accept(desk: Desk, answer: dict) -> None:
    """Take Kaggle's answer to a push; raise Problem for every error and every refused source."""
    run = desk.state.run
    if answer["error"]:
        forget(desk)
        raise Problem(f"Kaggle did not take the kernel: {answer['error']}")
    run["version"] = answer["version"]
    if answer["refused"]:
        named = "; ".join(f"{kind} {', '.join(refs)}" for kind, refs in answer["refused"].items())
        page = page_of(run)
        forget(desk)
        raise Problem(
            f"Kaggle does not know, or refuses you, a source of the kernel: {named}. It runs "
            f"version {answer['version']} without it: cancel that at {page}, correct "
            f"{KERNEL_METADATA} (for a competition: accept its rules on its page), and run the "
            "same command again."
        )
    if not answer["version"]:
        if not desk.shows_up(lambda: arrived(desk)):
            forget(desk)
            raise Problem(
                "Kaggle answered the push without a version number and has no such version: run "
                "the same command again."
            )
        return
    note_pushed(desk)


def forget(desk: Desk) -> None:
    """Note that there is no run: the next push begins anew, with the same settings."""
    desk.state.values["run"] = {"settings": desk.state.run["settings"]}
    desk.state.save()


def settle(desk: Desk) -> None:
    """Find out what became of a push that was cut short, and forget it when it never arrived."""
    if desk.state.run.get("sending") and not desk.shows_up(lambda: arrived(desk)):
        forget(desk)


def arrived(desk: Desk) -> bool:
    """Tell whether Kaggle has the push that bears the run's mark; note its version then."""
    run = desk.state.run
    version, source = desk.remote.kernel(run["ref"])
    if not version or run["mark"] not in source:
        return False
    run["version"] = version
    note_pushed(desk)
    return True


def note_pushed(desk: Desk) -> None:
    """Save the version that Kaggle gave to the run, and begin its row in the ledger."""
    run = desk.state.run
    write_row(desk)
    run.pop("sending", None)
    desk.state.save()
    say(f"pushed {run['ref']} version {run['version']}: {page_of(run)}")


def write_row(desk: Desk) -> None:
    """Write what is known of a run at its push into the ledger, unless it is there."""
    run = desk.state.run
    if any(row["run"] == name_of(run) for row in desk.ledger.rows()):
        return
    size = run.get("image_size")
    desk.ledger.append(
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


def run(desk: Desk, arguments: argparse.Namespace) -> None:
    """Run `ship push`."""
    settings = desk.settings(arguments)
    config = desk.shown_config(settings)
    push(desk, settings, config, arguments.again)
