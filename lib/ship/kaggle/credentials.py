"""Find Kaggle credentials without the client, as it would, and clean them of stray blanks."""

import base64
import codecs
import functools
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ship.kaggle.hiding import SHORTEST, mapped, redact
from ship.kaggle.shapes import loads

BLANK = "[\\s\ufeff\u200b\\0]"
"""Line ends, blanks and byte-order marks, which copying and editors leave around a token."""
VARIABLES = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY")
SEEN: set[str] = set()
"""All secrets that were found by this process."""
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Credentials:
    """The credentials that the client will use, and all secrets that are stored on this machine.

    `kind` is "API token", "user name and key", "OAuth login" or "" when there are none; `source` is
    the variable or file; `username` is None when only Kaggle knows it; `secrets` are sorted by
    length, longest first, with those that were found before and have been renewed since; `damaged`
    says what the client can't use, and why; `variables` are those of the client's environment that
    give it the credentials as they were found, without blanks around them.
    """

    kind: str
    source: str
    username: str | None
    secrets: tuple[str, ...]
    damaged: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> "Credentials":
        """Look where the client looks, in the same order: token, user name and key, OAuth login."""
        home = home_of(environment) or Path(os.devnull)
        files = _key_files(environment, home)
        found = [
            *_tokens(environment, home / ".kaggle"),
            *_keys(environment, files),
            *_logins(home / ".kaggle" / "credentials.json"),
        ]
        SEEN.update(value for one in found for value in one.secrets)
        SEEN.update(str(_json(file).get("key") or "") for file in files)
        variables = {name: clean(environment[name]) for name in VARIABLES if name in environment}
        for one in reversed(found):
            variables |= one.variables
        first = found[0] if found else _Found("", "", None, [], {})
        reason = unusable(first.source, *first.variables.values())
        return cls(
            "" if reason else first.kind,
            first.source,
            None if reason else first.username,
            tuple(sorted(filter(lambda text: len(text) >= SHORTEST, SEEN), key=len, reverse=True)),
            reason or next(filter(None, map(damage, files)), ""),
            variables,
        )

    def advice(self) -> str:
        """Return what to do when there are no credentials, or when they do not work."""
        new = "https://www.kaggle.com/settings/api"
        if self.kind == "API token":
            return (
                f"Kaggle says that the API token from {self.source} is not active: create another "
                f"one at {new} and put it there."
            )
        if self.damaged:
            return f"{self.damaged}: correct it, or download it again from {new}."
        return (
            "no Kaggle credentials that work were found: run `kaggle auth login`, or create a "
            f"token at {new} and set KAGGLE_API_TOKEN."
        )


def stored_secrets(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return `Credentials.secrets`, which are looked up once a second: a token may be renewed."""
    read = (*VARIABLES, "HOME", "USERPROFILE", "XDG_CONFIG_HOME", "KAGGLE_CONFIG_DIR")
    named = tuple((name, environment[name]) for name in read if name in environment)
    return _secrets_of(named, int(time.monotonic()))


@functools.lru_cache(8)
def _secrets_of(variables: tuple[tuple[str, str], ...], second: int) -> tuple[str, ...]:
    return Credentials.find(dict(variables)).secrets


def without_secrets(value: Any) -> Any:
    """Return a text or a JSON value in which this machine's credentials are replaced."""
    secrets = stored_secrets()
    return mapped(value, lambda text: redact(text, secrets))


class _Found(NamedTuple):
    """One way to log in that is there; the fields are those of `Credentials`."""

    kind: str
    source: str
    username: str | None
    secrets: list[str]
    variables: dict[str, str]


def home_of(environment: Mapping[str, str]) -> Path | None:
    """Return the user's home folder, None where neither a variable nor the system names one."""
    try:
        return Path(environment.get("HOME") or environment.get("USERPROFILE") or Path.home())
    except RuntimeError:
        return None


def clean(text: str) -> str:
    """Return a text without blanks, line ends and byte-order marks around it."""
    return re.sub(f"^{BLANK}+|{BLANK}+$", "", text)


def unusable(source: str, *texts: str) -> str:
    """Return why texts can't stand in a request's header, "" when they can."""
    for text in texts:
        if not text.isprintable() or text.encode("latin-1", "ignore").decode("latin-1") != text:
            return (
                f"what {source} holds has a line end or another character inside that no key of "
                "Kaggle has"
            )
    return ""


def _tokens(environment: Mapping[str, str], folder: Path) -> Iterator[_Found]:
    given = clean(environment.get("KAGGLE_API_TOKEN", ""))
    texts = {"KAGGLE_API_TOKEN": (given and _text(Path(given))) or given}
    names = ("access_token", "access_token.txt")
    texts |= {f"~/.kaggle/{name}": _text(folder / name) for name in names}
    for source, text in texts.items():
        if text:
            yield _Found("API token", source, None, [text], {"KAGGLE_API_TOKEN": text})


def _keys(environment: Mapping[str, str], files: list[Path]) -> Iterator[_Found]:
    file = next((file for file in files if _json(file)), None)
    saved = _json(file) if file else {}
    username, key = (
        clean(environment.get(name, "")) or clean(str(saved.get(field) or ""))
        for name, field in (("KAGGLE_USERNAME", "username"), ("KAGGLE_KEY", "key"))
    )
    given = bool(environment.get("KAGGLE_KEY"))
    if username and key and (not file or given or not damage(file)):
        both = base64.b64encode(f"{username}:{key}".encode()).decode()
        yield _Found(
            "user name and key",
            "KAGGLE_USERNAME and KAGGLE_KEY" if given else str(file),
            username,
            [key, both],
            {"KAGGLE_USERNAME": username, "KAGGLE_KEY": key},
        )


def _key_files(environment: Mapping[str, str], home: Path) -> list[Path]:
    """Return where the client looks for kaggle.json."""
    config = home / ".config" / "kaggle"
    if environment.get("XDG_CONFIG_HOME"):
        config = Path(environment["XDG_CONFIG_HOME"]) / "kaggle"
    folders = [home / ".kaggle", config]
    if environment.get("KAGGLE_CONFIG_DIR"):
        folders = [Path(environment["KAGGLE_CONFIG_DIR"])]
    return [folder / "kaggle.json" for folder in folders]


def damage(file: Path) -> str:
    """Return why the client can't use a kaggle.json, "" when it can or when there is none."""
    try:
        values = loads(file.read_bytes().decode()) if file.is_file() else {}
    except OSError as error:
        return f"{file} can't be read ({error.strerror})"
    except ValueError as error:
        mark = "BOM" in str(error)
        reason = "it begins with a byte-order mark; save it as UTF-8 without" if mark else error
        return f"{file} is no JSON that the kaggle client can read ({reason})"
    if not isinstance(values, dict):
        return f"{file} holds no JSON object"
    wrong = [name for name in ("username", "key") if not isinstance(values.get(name, ""), str)]
    return f"{wrong[0]!r} in {file} must be text in quotes" if wrong else ""


def _logins(file: Path) -> Iterator[_Found]:
    saved = _json(file)
    if saved.get("refresh_token"):
        tokens = (saved.get(name) for name in ("refresh_token", "access_token"))
        secrets = [str(token) for token in tokens if token]
        source, username = "~/.kaggle/credentials.json", saved.get("username")
        yield _Found("OAuth login", source, username, secrets, {})


def _text(file: Path) -> str:
    try:
        data = file.read_bytes() if file.is_file() else b""
        return clean(data.decode("utf-16" if data.startswith(UTF16) else "utf-8-sig"))
    except (OSError, ValueError):
        return ""


def _json(file: Path) -> dict:
    try:
        data = loads(_text(file) or "{}")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
