"""Find Kaggle credentials without the client, and keep them out of what is sent or printed."""

import base64
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common import Problem

HIDDEN = "[secret]"


@dataclass(frozen=True)
class Credentials:
    """The credentials that the client will use, and all secrets that are stored on this machine.

    `kind` is "API token", "user name and key", "OAuth login" or "" when there are none; `source` is
    the variable or file; `username` is None when only Kaggle knows it; `secrets` are sorted by
    length, longest first; `damaged` says which file the client can't read, and why.
    """

    kind: str
    source: str
    username: str | None
    secrets: tuple[str, ...]
    damaged: str = ""

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> "Credentials":
        """Look where the client looks, in the same order: token, user name and key, OAuth login."""
        home = Path(environment.get("HOME") or environment.get("USERPROFILE") or Path.home())
        found = [
            *_tokens(environment, home / ".kaggle"),
            *_keys(environment, home),
            *_logins(home / ".kaggle" / "credentials.json"),
        ]
        secrets = {secret for *_, values in found for secret in values if len(secret) >= 4}
        kind, source, username, _ = found[0] if found else ("", "", None, ())
        saved = (_json(file).get("key") for file in _key_files(environment, home))
        secrets |= {str(key) for key in saved if key and len(str(key)) >= 4}
        damaged = next(filter(None, map(damage, _key_files(environment, home))), "")
        secrets = tuple(sorted(secrets, key=len, reverse=True))
        return cls(kind, source, username, secrets, damaged)

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


def _tokens(environment: Mapping[str, str], folder: Path) -> Iterable[tuple]:
    token = environment.get("KAGGLE_API_TOKEN", "")
    if token:
        text = _text(Path(token)) if len(token) < 1024 else ""
        yield "API token", "KAGGLE_API_TOKEN", None, [text or token]
    for name in ("access_token", "access_token.txt"):
        if text := _text(folder / name):
            yield "API token", f"~/.kaggle/{name}", None, [text]


def _keys(environment: Mapping[str, str], home: Path) -> Iterable[tuple]:
    files = _key_files(environment, home)
    file = next((file for file in files if _json(file)), None)
    saved = _json(file) if file else {}
    username = environment.get("KAGGLE_USERNAME") or saved.get("username")
    key = environment.get("KAGGLE_KEY") or saved.get("key")
    if username and key and (not file or "KAGGLE_KEY" in environment or not damage(file)):
        both = base64.b64encode(f"{username}:{key}".encode()).decode()
        from_environment = "KAGGLE_KEY" in environment
        yield (
            "user name and key",
            "KAGGLE_USERNAME and KAGGLE_KEY" if from_environment else str(file),
            username,
            [str(key), both, *([str(saved["key"])] if saved.get("key") else [])],
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
        values = json.loads(file.read_bytes().decode()) if file.is_file() else {}
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


def _logins(file: Path) -> Iterable[tuple]:
    saved = _json(file)
    if saved.get("refresh_token"):
        tokens = (saved.get(name) for name in ("refresh_token", "access_token"))
        secrets = [str(token) for token in tokens if token]
        yield "OAuth login", "~/.kaggle/credentials.json", saved.get("username"), secrets


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").strip() if file.is_file() else ""
    except (OSError, ValueError):
        return ""


def _json(file: Path) -> dict:
    try:
        data = json.loads(_text(file) or "{}")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def refuse_secrets(name: str, data: bytes, secrets: Iterable[str]) -> None:
    """Raise Problem when data that is to be sent holds a secret."""
    if any(secret.encode() in data for secret in secrets):
        raise Problem(f"{name} holds your Kaggle credentials: take them out; nothing was sent.")


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text with every secret replaced."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text
