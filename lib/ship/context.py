"""What every command works with: the project, Kaggle, the state and the ledger."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from common import Boundary, Problem, write_atomically
from ship.contents import sha256
from ship.credentials import Credentials, refuse_secrets
from ship.pace import Pace
from ship.project import DATASET_METADATA, KERNEL_METADATA, PLACEHOLDER, Project
from ship.remote import AnswerLost, Remote, Unavailable
from ship.state import Ledger, State


def say(text: str) -> None:
    """Print a line for the user without delay."""
    print(text, flush=True)


@dataclass
class Context:
    """The project, Kaggle, the state and the ledger of one `ship` command."""

    project: Project
    remote: Remote
    state: State
    ledger: Ledger
    boundary: Boundary
    dry_run: bool = False

    @classmethod
    def of(cls, project: Project, boundary: Boundary, dry_run: bool = False) -> "Context":
        """Open a project's state and ledger, and reach Kaggle as the environment says."""
        runs = project.runs
        return cls(
            project,
            Remote(runs / "uploads", Pace.from_environment()),
            State(runs / "state.json"),
            Ledger(runs / "ledger.jsonl"),
            boundary,
            dry_run,
        )

    def doing(self, what: str) -> None:
        """Note what is done from now on: the sentence about an error names it after "while"."""
        self.boundary.doing = what

    @property
    def pace(self) -> Pace:
        """How long to wait for Kaggle."""
        return self.remote.pace

    @cached_property
    def owner(self) -> str:
        """The user's name; in a dry run only what is known without asking Kaggle."""
        if self.dry_run:
            return Credentials.find().username or PLACEHOLDER
        return self.remote.username()

    @property
    def dataset_ref(self) -> str:
        """The lib dataset as "owner/slug"."""
        return self.project.ref(DATASET_METADATA, self.owner)

    @property
    def kernel_ref(self) -> str:
        """The kernel as "owner/slug"."""
        return self.project.ref(KERNEL_METADATA, self.owner)

    def script(self, settings: Mapping[str, str], mark: str) -> str:
        """Return the kernel's text with settings and a mark, as `Project.script` does.

        Raises:
            Problem: the text holds a secret, or the reasons of `Project.script`.
        """
        text = self.project.script(settings, mark)
        refuse_secrets(self.project.code.name, text.encode(), self.remote.secrets)
        return text

    def shown_config(self, settings: Mapping[str, str]) -> dict[str, Any]:
        """Return what the kernel's --show-config answers to these settings.

        The last answer is kept in runs/config.json, because several steps ask for it.

        Raises:
            Problem: the kernel refuses the settings, or its answer lacks something.
        """
        text = self.script(settings, "config")
        key = sha256(text.encode()) + self.project.lib_hash()
        kept = self.project.runs / "config.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            shown = json.loads(kept.read_text(encoding="utf-8"))
            if shown["key"] == key:
                return shown["config"]
        config = self.project.show_config(text)
        missing = {"recipe", "backbone", "weights_files", "competition"} - config.keys()
        if missing:
            raise Problem(
                f"kernel.py --show-config does not name its {', '.join(sorted(missing))}."
            )
        write_atomically(kept, json.dumps({"key": key, "config": config}))
        return config

    def send_once(
        self,
        what: str,
        send: Callable[[], dict],
        arrived: Callable[[], bool],
        forget: Callable[[], None],
    ) -> dict | None:
        """Send something that must not arrive twice.

        When the answer is lost, Kaggle is asked whether it arrived before anything is sent again.
        A call whose answer was late may still take effect: it is never sent again.

        Args:
            what: names in messages what is sent.
            send: makes the one call; raises AnswerLost when nobody knows whether it took effect.
            arrived: asks Kaggle whether it has what was sent; a Problem leaves the question open.
            forget: called before Problem is raised when it is certain that nothing arrived.

        Returns:
            Kaggle's answer; None when it was lost but what was sent has arrived.

        Raises:
            Problem: Kaggle refused, or gave no usable answer and has not got what was sent.
        """
        for attempt in range(self.pace.retries):
            if attempt:
                self.remote.wait(self.pace.backoff * 2**attempt)
            try:
                return send()
            except AnswerLost as error:
                lost = error
            except Problem:
                forget()
                raise
            say(f"the answer to {what} was lost ({lost}); asking Kaggle whether it arrived")
            if self.shows_up(arrived, self.pace.timeout if lost.late else self.pace.settle):
                return None
            if lost.late:
                break
        forget()
        raise Unavailable(
            f"Kaggle gave no usable answer to {what} (the last: {lost}) and did not get it: run "
            "the same command again later."
        )

    def shows_up(self, arrived: Callable[[], bool], seconds: float | None = None) -> bool:
        """Ask Kaggle whether something arrived, again and again for some seconds.

        Without `seconds` that is `pace.settle`.
        """
        seconds = self.pace.settle if seconds is None else seconds
        until = time.monotonic() + seconds
        while not arrived():
            if time.monotonic() >= until:
                return False
            self.remote.wait(min(self.pace.settle, seconds))
        return True

    def settings(self, arguments: argparse.Namespace) -> dict[str, str]:
        """Return the settings to push: those given with --set, or else those of the last push."""
        if arguments.set:
            return parse_settings(arguments.set)
        settings = {} if arguments.defaults else dict(self.state.run.get("settings") or {})
        if settings:
            shown = " ".join(f"{name}={value}" for name, value in settings.items())
            say(f"settings of the last push: {shown} (--defaults drops them)")
        return settings


def parse_settings(given: list[str]) -> dict[str, str]:
    """Return the settings in arguments of the form `field=value`.

    Raises:
        Problem: an argument has another form.
    """
    settings = {}
    for argument in given:
        name, equals, value = argument.partition("=")
        if not equals or not name.strip().isidentifier():
            raise Problem(
                f"--set takes field=value, for example backbone=Xception, not {argument!r}."
            )
        settings[name.strip()] = value.strip()
    return settings


def interactive() -> bool:
    """Tell whether the output goes to a terminal."""
    return sys.stderr.isatty()
