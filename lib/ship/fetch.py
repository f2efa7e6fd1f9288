"""`ship fetch`: download the complete output of one version into a folder of its own."""

import argparse
import json
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from common import Problem
from ship.context import Context, say
from ship.follow import WAITING, add_arguments, chosen_run
from ship.push import name_of
from ship.remote import Refused

__all__ = ["add_arguments", "fetch", "inside", "read_metrics", "run"]

RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}
"""File names, without an ending, that Windows keeps for devices."""


def fetch(context: Context, run: dict) -> Path:
    """Fetch a run's output into runs/<slug>-v<N>/ and return that folder.

    The folder appears when everything is there. The files of a fetch that was cut short stay in
    `<folder>.part` and are not fetched again.

    Raises:
        Problem: the run is not over, a file can't be fetched, or a file would lie outside the
            folder.
    """
    context.doing(f"fetching the output of {name_of(run)}")
    folder = context.project.runs / name_of(run)
    if folder.is_dir():
        say(f"the output of {name_of(run)} is in {folder}")
    else:
        require_end(context, run)
        part = folder.with_name(folder.name + ".part")
        part.mkdir(parents=True, exist_ok=True)
        fetch_into(context, run, part)
        part.rename(folder)
        say(f"fetched {name_of(run)} into {folder}")
    metrics = read_metrics(folder)
    context.ledger.append(
        name_of(run),
        val_accuracy=metrics.get("val_accuracy"),
        val_accuracy_tta=metrics.get("val_accuracy_tta"),
    )
    run["folder"] = folder.name
    context.state.save()
    return folder


def require_end(context: Context, run: dict) -> None:
    """Raise Problem when a run is not over, because its output would not be complete."""
    if run.get("status"):
        return
    status, _ = context.remote.run_status(run["ref"], run["version"])
    if status in WAITING:
        raise Problem(f"{name_of(run)} is {status}: wait for its end with `ship follow`.")


def fetch_into(context: Context, run: dict, folder: Path) -> None:
    """Fetch every output file of a run, and its log, into a folder.

    Raises:
        Problem: a file is listed twice, can't be fetched, or would lie outside the folder.
    """
    files, log = context.remote.run_output(run["ref"], run["version"])
    targets = {name: inside(folder, name) for name, _ in files}
    outside = [name for name, target in targets.items() if target is None]
    places = [str(targets[name]).lower() for name, _ in files if targets[name]]
    if len(set(places)) < len(places):  # not every system tells upper case from lower case
        raise Problem(f"Kaggle lists an output file of {name_of(run)} twice: nothing was fetched.")
    urls = dict(files)
    with tqdm(total=len(targets), unit="file", desc="fetch", disable=None) as bar:
        for name, target in targets.items():
            if target and not target.exists():
                urls = fetch_file(context, run, name, target, urls)
            bar.update()
    if outside:
        raise Problem(
            f"Kaggle lists an output file named {outside[0]!r}, which would lie outside the run's "
            f"folder: it was not fetched. The {len(files) - len(outside)} others are in {folder}."
        )
    text = "".join(str(entry.get("data") or "") for entry in log)
    (folder / f"{run['ref'].split('/')[1]}.log").write_text(text, encoding="utf-8")


def inside(folder: Path, name: str) -> Path | None:
    """Return where an output file goes, None when its name could lead out of the folder.

    A name is refused everywhere if any operating system can't keep it inside.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    bad = (
        not parts
        or any(part in ("..", "/") or part != part.rstrip(" .") for part in parts)
        or any(ord(letter) < 32 or letter in ':*?"<>|' for letter in name)
        or any(part.split(".")[0].lower() in RESERVED for part in parts)
    )
    return None if bad else folder.joinpath(*parts)


def fetch_file(
    context: Context, run: dict, name: str, target: Path, urls: dict[str, str]
) -> dict[str, str]:
    """Fetch one output file and return the addresses to use for the next ones.

    Addresses expire: when Kaggle refuses one, all are asked for anew, once.
    """
    what = f"output file {name} of {name_of(run)}"
    try:
        context.remote.call("download", what, url=urls[name], path=str(target))
        return urls
    except Refused:
        urls = dict(context.remote.run_output(run["ref"], run["version"])[0])
    try:
        context.remote.call("download", what, url=urls.get(name, ""), path=str(target))
    except Refused as refusal:
        raise Problem(
            f"{refusal}; nothing of it was saved. Run the same command again: the files that were "
            "fetched stay."
        ) from None
    return urls


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return the values in a run's metrics.json, {} when there is none that can be read."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return metrics if isinstance(metrics, dict) else {}


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship fetch`."""
    chosen = chosen_run(context, arguments.version)
    if context.dry_run:
        return say(f"would fetch the output of {name_of(chosen)} into {context.project.runs}")
    fetch(context, chosen)
    return None
