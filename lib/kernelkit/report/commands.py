"""The commands that repeat a run with other settings."""

import shlex
from dataclasses import replace
from pathlib import Path, PurePath

from kernelkit.config.rows import Stage
from kernelkit.config.settings import text_of
from kernelkit.report.saved import Run


def again(run: Run, **settings: object) -> str:
    """Return the command that repeats the run with other settings, its results in another folder.

    Options of the run's own command that `settings` names get their new values; those that it names
    with None are dropped.
    """
    start, options = options_of(run)
    options |= {name: None if v is None else str(v) for name, v in settings.items()}
    if on_kaggle(run):
        sets = [f"--set {name}={shlex.quote(v)}" for name, v in options.items() if v is not None]
        return " ".join([run.score.get("again", "ship push"), *sets])
    options["output"] = (options.get("output") or "output") + "-next"
    words = [f"--{n.replace('_', '-')} {shlex.quote(v)}" for n, v in options.items() if v]
    return " ".join([shlex.join(start), *words])


def on_kaggle(run: Run) -> bool:
    """Return whether the run was made on Kaggle, which gives every kernel the same name."""
    return PurePath(options_of(run)[0][-1]).name == "script.py"


def options_of(run: Run) -> tuple[list[str], dict[str, str | None]]:
    """Return the beginning of the run's own command, and its options by their fields' names."""
    words = shlex.split(run.metrics.get("command", "")) or ["python", "kernel.py"]
    start, options, name = words[:2], {}, ""
    for word in words[2:]:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            name = name.replace("-", "_")
            options[name] = value
        elif name:
            options[name] = word
    options.pop("fresh", None)
    return start, options


def path_of(run: Run, file: str) -> str:
    """Return the path of a run's file as `--exclude` takes it where the report was made."""
    if on_kaggle(run):
        return file
    path, here = (run.folder / file).resolve(), Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def stages_text(stages: list[dict], epochs: float = 1, slower: tuple[str, ...] = ()) -> str:
    """Return stages as the command line has them, with so many times their epochs.

    The stages named in `slower` get 0.3 times their learning rates.
    """
    rows = []
    for stage in (Stage(**stage) for stage in stages):
        rate = (0.3 if stage.name in slower else 1) * stage.learning_rate
        count = stage.epochs if stage.views else max(1, round(epochs * stage.epochs))
        rows.append(replace(stage, learning_rate=float(f"{rate:g}"), epochs=count))
    return text_of(tuple(rows))


def resized(run: Run, factor: float) -> str:
    """Return the run's size of photos times a factor, in multiples of 16 pixels, as HxW."""
    height, width = (max(32, 16 * round(factor * s / 16)) for s in run.metrics["image_size"])
    return f"{height}x{width}"
