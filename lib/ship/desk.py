"""What every command works with: the project, Kaggle, the state, the ledger and the kernel."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from common import Problem, write_atomically
from ship.credentials import Credentials, refuse_secrets
from ship.project import DATASET_METADATA, KERNEL_METADATA, PLACEHOLDER, Project, sha256
from ship.remote import Lost, Pace, Remote, Unavailable
from ship.state import Ledger, State


def say(text: str) -> None:
    """Print a line for the user, at once."""
    print(text, flush=True)


@dataclass
class Desk:
    """One `ship` command at work in a project."""

    project: Project
    remote: Remote
    state: State
    ledger: Ledger
    dry_run: bool = False

    @classmethod
    def at(cls, project: Project, dry_run: bool = False) -> "Desk":
        """Open a project's state, with Kaggle as the environment names it."""
        runs = project.runs
        remote = Remote(runs / "uploads", Pace.from_environment())
        return cls(
            project, remote, State(runs / "state.json"), Ledger(runs / "ledger.jsonl"), dry_run
        )

    @property
    def pace(self) -> Pace:
        """How long to wait."""
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
        """Return the kernel's text with settings and a mark; Problem when it holds a secret."""
        text = self.project.script(settings, mark)
        refuse_secrets(self.project.code.name, text.encode(), self.remote.secrets)
        return text

    def shown_config(self, settings: Mapping[str, str]) -> dict[str, Any]:
        """Return the kernel's --show-config with settings, which must be ones that it knows.

        The last answer is kept in a file, for a real kernel takes seconds to give it.
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
        """Send what must not arrive twice: return Kaggle's answer, None when only `arrived` knows.

        When an answer is lost, Kaggle is asked before anything is sent again; where there was none
        in time, which may yet take effect, it is asked as long again, and nothing more is sent.
        `forget` is called when it is certain that nothing arrived, and Problem raised; a Problem of
        `arrived` leaves it open, for the next `ship` to ask.
        """
        for attempt in range(self.pace.retries):
            if attempt:
                self.remote.wait(self.pace.backoff * 2**attempt)
            try:
                return send()
            except Lost as error:
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
        """Ask Kaggle whether something arrived, for some seconds (`settle` unless told)."""
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
    """Read `field=value` arguments; raise Problem for what is none."""
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
    """Tell whether a person watches: the output is a terminal."""
    return sys.stderr.isatty()
