"""What every command works with: the project, Kaggle, the state and the ledger."""

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock
from pydantic import BaseModel, Field, ValidationError

from kernelkit.core.boundary import Boundary
from kernelkit.core.files import write_atomically
from kernelkit.core.locks import Occupied, only_one
from kernelkit.core.problem import Problem
from kernelkit.core.progress import clock_text
from ship.command_line import parse_settings
from ship.kaggle.credentials import Credentials, refuse_secrets, without_secrets
from ship.kaggle.remote import Remote
from ship.kaggle.response_schemas import HANDLE, error_text, loads
from ship.kaggle.timeouts import Timeouts
from ship.ledger import Ledger, Run, State, settings_text
from ship.output import say
from ship.project.contents import sha256
from ship.project.project import DATASET_METADATA, KERNEL_METADATA, PLACEHOLDER, Project

OCCUPIED = (
    "another ship is sending something of this project ({holder}): wait for it, or end it and run "
    "the same command again; it goes on where the other stopped."
)
SCOUTING = "scout_only"  # a setting that a run which goes on does not keep: it trains


class ShownConfig(BaseModel):
    """The kernel's answer to --show-config."""

    recipe: str
    backbone: str
    weights_files: list[str]
    competition: str
    values: dict = Field(default={}, alias="config")  # of its settings
    model_sources: list[Annotated[str, Field(pattern=f"^{HANDLE.pattern}$")]] = []
    gpu_minutes: float | None = None  # that a run takes, computed

    @property
    def time_limit(self) -> float | None:
        """The run's time limit in minutes, None without one."""
        return self.values.get("time_limit")

    @property
    def summary(self) -> str:
        """Recipe and backbone, for a sentence."""
        return f"recipe {self.recipe}, backbone {self.backbone}"


@dataclass
class Context:
    """The project, Kaggle, the state and the ledger of one `ship` command."""

    project: Project
    remote: Remote
    state: State
    ledger: Ledger
    boundary: Boundary
    dry_run: bool = False
    forced: tuple[str, ...] = ()  # checks that a person overrides, by their names
    gpu: str = ""  # Kaggle's name of the accelerator that takes the place of the metadata's
    continued: Run | None = None  # its output is attached, and the next run goes on from there
    again: str = "ship push --again"  # the command that pushes this kernel once more
    _since: float = field(default_factory=time.monotonic)
    _sending: bool = False
    _settings: dict[str, str] | None = None

    def __post_init__(self) -> None:
        self.remote.doing = lambda: (
            f"{self.boundary.doing}, for {clock_text(time.monotonic() - self._since)}"
        )

    @classmethod
    def of(
        cls, project: Project, boundary: Boundary, dry_run: bool = False, **more: Any
    ) -> "Context":
        """Open a project's state and ledger, and reach Kaggle as the environment says."""
        runs = project.runs
        remote = Remote(runs / "uploads", Timeouts.from_environment())
        state, ledger = State.open(runs / "state.json"), Ledger(runs / "ledger.jsonl")
        return cls(project, remote, state, ledger, boundary, dry_run, **more)

    def doing(self, what: str) -> None:
        """Note what is done from now on: the sentence about an error names it after "while"."""
        if what != self.boundary.doing:
            self.boundary.doing, self._since = what, time.monotonic()

    @property
    def timeouts(self) -> Timeouts:
        """How long to wait for Kaggle."""
        return self.remote.timeouts

    def asking(self) -> Iterator[float]:
        """Yield the seconds waited so far, before each of Kaggle's answers that may come late."""
        waited = 0.0
        for pause in self.timeouts.polls():
            yield waited
            self.remote.wait(pause)
            waited += pause

    def ask_until(self, question: Callable[[], Any], longest: float, lagging: str = "") -> Any:
        """Ask again and again until the answer is true, or for `longest` seconds; return it.

        `lagging` is printed where the first answer is not true.
        """
        for waited in self.asking():
            answer = question()
            if answer or waited >= longest:
                return answer
            if not waited and lagging:
                say(lagging)
        return None

    # --- locks ---

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Let only this `ship` send something of the project; wait for another one, or Occupied."""
        if self._sending or self.dry_run:
            yield
            return
        with self._alone(self.project.runs / ".lock", OCCUPIED, self.timeouts.ready):
            self.state.read()
            self._sending = True
            try:
                yield
            finally:
                self._sending = False

    @contextlib.contextmanager
    def holding(self, run: Run, patience: float = 0.0) -> Iterator[None]:
        """Let only this `ship` follow, fetch and submit a run; wait `patience` s, or Occupied."""
        occupied = f"another ship is at work on {run.name} ({{holder}}): wait for it, or end it."
        with self._alone(self.project.runs / "locks" / run.name, occupied, patience):
            self.reread(run)
            yield

    @contextlib.contextmanager
    def _alone(self, lock: Path, occupied: str, patience: float) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for waited in self.asking():
                try:
                    stack.enter_context(only_one(lock, occupied))
                    break
                except Occupied as problem:
                    if waited >= patience:
                        raise
                    if not waited:
                        say(f"{problem} (waiting for it)")
            yield

    @contextlib.contextmanager
    def sharing(self, file: Path) -> Iterator[None]:
        """Let only this `ship` write a file that all of them use; others wait for that moment."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.name}.lock")):
            yield

    # --- runs ---

    def reread(self, run: Run) -> None:
        """Bring a run's record up to date with what other `ship`s have written of it."""
        vars(run).update(vars(self.ledger.find(run.name) or run))

    def is_here(self, run: Run) -> bool:
        """Tell whether a run is for the present competition, as far as its record shows."""
        return run.competition in ("", self.project.competition)

    def runs_of_kernel(self) -> list[Run]:
        """Return the runs of the kernel that the metadata names, oldest first.

        Where the owner is not known without asking Kaggle, anybody's kernel of that slug counts.
        """
        owner, slug = self.project.kernel_metadata["id"].split("/")[0], self.project.slug
        owner = Credentials.find().username if owner == PLACEHOLDER else owner
        runs = [run for run in self.ledger.runs() if run.version and run.slug == slug]
        runs = [run for run in runs if not owner or run.kernel == f"{owner}/{slug}"]
        return sorted(runs, key=lambda run: run.version)  # an older one may be adopted later

    def runs_here(self) -> list[Run]:
        """Return the runs of the kernel for the present competition, oldest first."""
        return [run for run in self.runs_of_kernel() if self.is_here(run)]

    def folder(self, run: Run) -> Path:
        """Return the folder of a run's output."""
        return getattr(run, "folder", None) or self.project.runs / run.name

    # --- names and metadata at Kaggle ---

    @cached_property
    def owner(self) -> str:
        """The user's name; in a dry run only what is known without asking Kaggle."""
        if self.dry_run:
            return Credentials.find().username or PLACEHOLDER
        return self.remote.username()

    @property
    def dataset_ref(self) -> str:
        """The dataset of lib/ as "owner/slug"."""
        return self.project.ref(DATASET_METADATA, self.owner)

    @property
    def kernel_ref(self) -> str:
        """The kernel as "owner/slug"."""
        return self.project.ref(KERNEL_METADATA, self.owner)

    @property
    def metadata(self) -> dict[str, Any]:
        """The kernel's metadata as it is pushed: with owner, accelerator and the run continued."""
        metadata = self.project.owned(self.project.kernel_metadata, self.owner)
        if self.continued:
            sources = [*(metadata.get("kernel_sources") or []), self.continued.kernel]
            metadata |= {"kernel_sources": list(dict.fromkeys(sources))}
        refuse_secrets(KERNEL_METADATA, json.dumps(metadata).encode(), self.remote.secrets)
        return metadata | ({"machine_shape": self.gpu} if self.gpu else {})

    def script(self, settings: Mapping[str, str], mark: str) -> str:
        """Return what `Project.script` does; raise Problem when it holds a secret."""
        text = self.project.script(settings, mark)
        refuse_secrets(self.project.code.name, text.encode(), self.remote.secrets)
        return text

    # --- settings ---

    def settings(self, arguments: argparse.Namespace) -> dict[str, str]:
        """Return the settings to push: those given with --set, or else those of the last push."""
        if self._settings is None:
            given = parse_settings(arguments.set or [])
            if self.continued:
                before = {k: v for k, v in self.continued.settings.items() if k != SCOUTING}
                self._settings = before | given
            elif given or arguments.defaults:
                self._settings = given
            else:
                of_kernel = self.state.settings_for in ("", self._place)
                self._settings = dict(self.state.settings) if of_kernel else {}
                if text := settings_text(self._settings):
                    say(f"settings of the last push: {text} (--defaults drops them)")
        return self._settings

    def remember(self, settings: Mapping[str, str]) -> None:
        """Keep settings for the next command that names none."""
        self.state.settings, self.state.settings_for = dict(settings), self._place
        self.state.save()

    @property
    def _place(self) -> str:
        return f"{self.project.slug} for {self.project.competition}"

    def shown_config(self, settings: Mapping[str, str]) -> ShownConfig:
        """Return what the kernel's --show-config answers to these settings.

        The last answer is kept in runs/config.json, because several steps ask for it. Raises
        Problem where the kernel refuses the settings, or its answer lacks something.
        """
        text = self.script(settings, "config")
        key = sha256(text.encode()) + self.project.lib_hash()
        kept = self.project.runs / "config.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            answer = loads(kept.read_text(encoding="utf-8"))
            if answer["key"] == key:
                return ShownConfig.model_validate(answer["config"])
        config = self.project.show_config(text)
        try:
            shown = ShownConfig.model_validate(config)
        except ValidationError as error:
            wrong = error_text(error)
            raise Problem(
                f"{self.project.code.name} --show-config does not answer: {wrong}."
            ) from None
        with self.sharing(kept):
            write_atomically(kept, json.dumps({"key": key, "config": without_secrets(config)}))
        return shown
