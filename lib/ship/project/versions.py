"""A kernel's versions: what each is made of, and how one becomes a run's record."""

import contextlib
import json
import re
import secrets
import time

from kernelkit.core.files import write_atomically
from kernelkit.core.packages import packages_hash
from kernelkit.core.problem import Problem
from ship.context import Context, ShownConfig
from ship.kaggle.remote import unless_hidden
from ship.ledger import Run, run_name
from ship.output import emit_json, say
from ship.project.contents import content_hash, sha256, upload_files
from ship.project.offline import known_hash
from ship.project.project import KERNEL_METADATA
from ship.project.script import MARK, overrides_in

# What proves that a run was pushed which another machine, or a lost record, has pushed.
TAKEN_UP = "its key in the version's source"
ADOPTED = "the version's source"


def code_hash(context: Context) -> str:
    """Return a hash of the script without its overrides, and of its metadata."""
    text = context.project.script({}, "") + json.dumps(context.metadata, sort_keys=True)
    return sha256(text.encode())[:16]


def key_of(run: Run) -> str:
    """Return a hash of all that a run depends on."""
    made_of = [run.code, run.data, run.settings, *filter(None, [run.continues])]
    return sha256(json.dumps(made_of, sort_keys=True).encode())[:16]


def new_run(context: Context, settings: dict[str, str], config: ShownConfig) -> Run:
    """Return the record of a run that is to be pushed, still without a version."""
    lib = context.project.lib
    size, limit = config.values.get("image_size"), config.time_limit
    return Run(
        name="",
        kernel=context.kernel_ref,
        commit=context.project.commit(),
        recipe=config.recipe,
        backbone=config.backbone,
        image_size="x".join(map(str, size)) if isinstance(size, list) else str(size or ""),
        settings=dict(settings),
        time_limit=limit,
        code=code_hash(context),
        data=content_hash(upload_files(lib, config.weights_files))[:16],
        competition=context.project.competition,
        packages=packages_hash(lib, known_hash),
        mark=secrets.token_hex(8),
        continues=context.continued.name if context.continued else "",
    )


def known_run(
    context: Context, run: Run, ignored: frozenset[str] = frozenset(), any_limit: bool = False
) -> Run | None:
    """Return the newest run that is made of exactly the same as `run`; None without any.

    One with a result is preferred. Runs whose names are `ignored` do not count, nor with
    `any_limit` time limits.
    """

    def made_of(run: Run) -> tuple:
        settings = dict(run.settings)
        if any_limit:
            settings.pop("time_limit", None)
        return run.code, run.data, settings, run.continues

    runs = [known for known in context.ledger.runs() if known.version and known.name not in ignored]
    same = [known for known in runs if made_of(known) == made_of(run)]
    good = [known for known in same if not known.useless]
    return (good or same or [None])[-1]


def forget(context: Context) -> None:
    """Save that no push is on its way."""
    context.state.push = None
    context.state.save()


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
    run.name = _name_of(context, kernel, version)
    run.time = run.time or time.strftime("%Y-%m-%d %H:%M:%S")  # one that is known keeps its own
    run.verified["pushed"] = verified
    context.ledger.keep(run)
    staged = context.project.runs / "staged" / "kernel" / context.project.code.name
    if staged.is_file() and run.mark in (text := staged.read_text("utf-8")):
        write_atomically(context.project.runs / "kernels" / f"{run.name}.py", text)
    forget(context)
    say(f"pushed {kernel} version {version}{run.shown_page}")
    emit_json(run=run.name, version=version, page=run.page)
    return run


def _name_of(context: Context, kernel: str, version: int) -> str:
    name = run_name(kernel, version)
    known = context.ledger.find(name)
    return f"{kernel.split('/')[0]}-{name}" if known and known.kernel not in ("", kernel) else name


def run_at_kaggle(context: Context, run: Run, shown: tuple[int, str] | None) -> Run | None:
    """Take up the newest of Kaggle's versions that was made of exactly the same, and return it.

    `shown` is Kaggle's newest version and its source, None when it shows no such kernel.
    """
    recorded = {r.version for r in context.ledger.runs() if r.kernel == run.kernel and r.code}
    newest, source = shown or (0, "")
    for version in range(newest, 0, -1):
        if version in recorded:
            continue
        found = _mark_of(context, run.kernel, version, source if version == newest else "")
        if found and found["key"] == key_of(run) and version != newest:
            # A kernel that was deleted and made again counts its versions from 1 again.
            context.state.versions.pop(f"{run.kernel}/{version}")
            found = _mark_of(context, run.kernel, version)
        if found and found["key"] == key_of(run):
            run.mark, run.dataset = found["mark"], found["dataset"] or ""
            say(f"version {version} at Kaggle is of exactly this kernel")
            return note(context, run, run.kernel, version, TAKEN_UP)
    return None


def _mark_of(context: Context, kernel: str, version: int, source: str = "") -> re.Match | None:
    """Return the mark in a version's source, for which Kaggle is asked once."""
    seen, name = context.state.versions, f"{kernel}/{version}"
    if source or name not in seen:
        source = source or unless_hidden(lambda: context.remote.source(kernel, version), None)
        if source is None:
            return None
        found = MARK.search(source)
        seen[name] = found[0] if found else ""
        context.state.save()
    return MARK.search(seen[name])


def adopt(context: Context, version: int) -> Run:
    """Take up a version that this machine does not know; Problem where Kaggle does not show it."""
    kernel = context.kernel_ref
    name = _name_of(context, kernel, version)
    pending = context.state.push
    _, source, competitions = context.remote.kernel_version(kernel, version)
    found = MARK.search(source)
    run = context.ledger.find(name)
    if run is None:
        competition = competitions[0] if len(competitions) == 1 else ""
        run = Run(name, kernel, settings=overrides_in(source), competition=competition)
        with contextlib.suppress(Problem):  # the kernel here may not know these settings
            mine = new_run(context, run.settings, context.shown_config(run.settings))
            run = mine if found and found["key"] == key_of(mine) else run
        if found:
            run.mark, run.dataset = found["mark"], found["dataset"] or ""
    if pending and pending.run.kernel == kernel:  # a person has decided what became of it
        forget(context)
    write_atomically(context.project.runs / "kernels" / f"{name}.py", source)
    return note(context, run, kernel, version, ADOPTED, run.status or "pushed")
