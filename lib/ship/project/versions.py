"""A kernel's versions: what each is made of, and how one becomes a run's record.

The script that is pushed carries a random mark and a hash of all that the run depends on. By the
mark a push whose answer was lost is found; by the hash a version that this machine does not know.
"""

import ast
import contextlib
import json
import re
import secrets
import time

from kernelkit.core.files import write_atomically
from kernelkit.core.packages import packages_hash
from kernelkit.core.problem import Problem
from ship.context import Context
from ship.kaggle.client_process import Refused
from ship.ledger import Run, run_name
from ship.output import emit_json, say
from ship.project.contents import content_hash, sha256, upload_files
from ship.project.hashes import HASHES
from ship.project.project import KERNEL_METADATA

MARK = re.compile(r"^# ship: (\S+)(?: (\S+))?(?: for (\S+))?$", re.MULTILINE)
"""A push's mark, its key, and the version of the dataset that it is for, in the script."""

TAKEN_UP = "its key in the version's source"
ADOPTED = "the version's source"
"""What verifies a run that another machine, or a lost record, has pushed."""


def code_hash(context: Context) -> str:
    """Return a hash of the script without its overrides, and of its metadata."""
    text = context.project.script({}, "") + json.dumps(context.metadata, sort_keys=True)
    return sha256(text.encode())[:16]


def data_hash(context: Context, weights_files: list[str]) -> str:
    """Return a hash of what a run with these weights needs of the dataset."""
    return content_hash(upload_files(context.project.lib, weights_files))[:16]


def key_of(run: Run) -> str:
    """Return a hash of all that a run depends on."""
    made_of = [run.code, run.data, run.settings, *filter(None, [run.continues])]
    return sha256(json.dumps(made_of, sort_keys=True).encode())[:16]


def new_run(context: Context, settings: dict[str, str], config: dict) -> Run:
    """Return the record of a run that is to be pushed, still without a version."""
    values = config.get("config") or {}
    size, limit = values.get("image_size"), values.get("time_limit")
    return Run(
        name="",
        kernel=context.kernel_ref,
        commit=context.project.commit(),
        recipe=str(config["recipe"]),
        backbone=str(config["backbone"]),
        image_size="x".join(map(str, size)) if isinstance(size, list) else str(size or ""),
        settings=dict(settings),
        time_limit=float(limit) if isinstance(limit, int | float) else None,
        code=code_hash(context),
        data=data_hash(context, config["weights_files"]),
        competition=context.project.competition,
        packages=packages_hash(context.project.lib, HASHES.of),
        mark=secrets.token_hex(8),
        continues=context.continued.name if context.continued else "",
    )


def known_run(context: Context, run: Run) -> Run | None:
    """Return the newest run of exactly the same, better one with a result; None without any."""
    same = [known for known in context.ledger.runs() if known.version and same_run(known, run)]
    good = [known for known in same if not known.useless]
    return (good or same or [None])[-1]


def same_run(known: Run, run: Run) -> bool:
    """Tell whether two runs are made of the same code, data and settings."""
    one, other = ((r.code, r.data, r.settings, r.continues) for r in (known, run))
    return one == other


def name_of(context: Context, kernel: str, version: int) -> str:
    """Return the name of a kernel's version, with its owner where another user's has the name."""
    name = run_name(kernel, version)
    known = next((run for run in context.ledger.runs() if run.name == name), None)
    return f"{kernel.split('/')[0]}-{name}" if known and known.kernel not in ("", kernel) else name


def forget(context: Context) -> None:
    """Note that no push is on its way."""
    context.state.push = {}


def note(
    context: Context, run: Run, kernel: str, version: int, verified: str, status: str = "pushed"
) -> Run:
    """Save that a push has arrived as this version, and return the run's record."""
    if kernel != run.kernel:
        say(
            f"Kaggle calls this kernel {kernel}, not {run.kernel}: write that slug and its title "
            f"into {KERNEL_METADATA}, or each push makes another kernel."
        )
    run.kernel, run.version, run.status = kernel, version, status
    run.name, run.time = name_of(context, kernel, version), time.strftime("%Y-%m-%d %H:%M:%S")
    run.verified["pushed"] = verified
    context.ledger.keep(run)
    staged = context.project.runs / "staged" / "kernel" / context.project.code.name
    if staged.is_file() and run.mark in (text := staged.read_text("utf-8")):
        write_atomically(context.project.runs / "kernels" / f"{run.name}.py", text)
    forget(context)
    say(f"pushed {kernel} version {version}{run.shown_page}")
    emit_json(run=run.name, version=version, page=run.page)
    return run


def run_at_kaggle(
    context: Context, run: Run, shown: tuple[int, str] | None, since: int = 0
) -> Run | None:
    """Take up the newest of Kaggle's versions that was made of exactly the same, and return it.

    Args:
        context: the project, Kaggle and the state.
        run: what it is to be made of.
        shown: Kaggle's newest version and its source, None when it shows no such kernel.
        since: the versions up to this one are not looked at.
    """
    recorded = {r.version for r in context.ledger.runs() if r.kernel == run.kernel and r.code}
    newest, source = shown or (0, "")
    for version in range(newest, since, -1):
        if version in recorded:
            continue
        found = mark_of(context, run.kernel, version, source if version == newest else "")
        if found and found[2] == key_of(run) and version != newest:
            # A kernel that was deleted and made again counts its versions from 1 again.
            context.state.values["versions"].pop(f"{run.kernel}/{version}")
            found = mark_of(context, run.kernel, version)
        if found and found[2] == key_of(run):
            run.mark, run.dataset = found[1], found[3] or ""
            say(f"version {version} at Kaggle is of exactly this kernel")
            return note(context, run, run.kernel, version, TAKEN_UP)
    return None


def mark_of(context: Context, kernel: str, version: int, source: str = "") -> re.Match | None:
    """Return the mark, key and dataset in a version's source, which Kaggle is asked for once."""
    seen = context.state.values.setdefault("versions", {})
    name = f"{kernel}/{version}"
    if source or name not in seen:
        try:
            found = MARK.search(source or context.remote.source(kernel, version))
        except Refused as refusal:
            if refusal.status not in (403, 404):
                raise
            return None
        seen[name] = found[0] if found else ""
        context.state.save()
    return MARK.search(seen[name])


def adopt(context: Context, version: int) -> Run:
    """Take up a version that this machine does not know, and return its record.

    Raises:
        Problem: Kaggle does not show such a version.
    """
    kernel = context.kernel_ref
    name = name_of(context, kernel, version)
    pending = context.state.push
    source = context.remote.source(kernel, version)
    found = MARK.search(source)
    run = next((run for run in context.ledger.runs() if run.name == name), None)
    if run is None:
        competition = context.remote.competition_of(kernel, version)
        run = Run(name, kernel, settings=overrides_in(source), competition=competition)
        with contextlib.suppress(Problem):  # the kernel here may not know these settings
            mine = new_run(context, run.settings, context.shown_config(run.settings))
            run = mine if found and found[2] == key_of(mine) else run
        run.dataset = found[3] or "" if found else ""
        run.mark = found[1] if found else ""
    if pending and pending["kernel"] == kernel:  # a person has said what became of it
        forget(context)
    write_atomically(context.project.runs / "kernels" / f"{name}.py", source)
    return note(context, run, kernel, version, ADOPTED, run.status or "pushed")


def overrides_in(source: str) -> dict[str, str]:
    """Return the settings in the marked block of a script, {} when it has none."""
    found = re.search(r"^OVERRIDES(?:: dict\[str, str\])? = (\{.*?\})\n", source, re.M | re.S)
    try:
        values = dict(ast.literal_eval(found[1])) if found else {}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {}
    return {str(name): str(value) for name, value in values.items()}
