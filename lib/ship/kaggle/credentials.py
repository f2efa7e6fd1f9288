"""Find the user's Kaggle credentials, and keep secrets out of what is sent, printed and written.

The credentials are found as the client finds them, and searched for in every form in which a
program may show them. Files that look like anybody's secrets are known by name and content.
"""

import base64
import codecs
import dataclasses
import functools
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from kernelkit.core.problem import Problem
from ship.kaggle.response_schemas import loads

# Line ends, blanks and byte-order marks, which copying and editors leave around a token.
BLANK = "[\\s\ufeff\u200b\\0]"
USABLE = re.compile(r"[\w.~+/-]+=*", re.ASCII)  # as RFC 6750 has a token
VARIABLES = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY")
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

HIDDEN = "[secret]"
SHORTEST = 4  # letters of a secret that is looked for
SHORTEST_CODED = 8  # letters of a piece of base64 that is taken for a part of a secret
CHUNK = 1 << 22  # bytes of a file that are searched at once
LOOKED_INTO = 1 << 20  # bytes at the beginning of a file that are searched for others' secrets
SEEN: set[str] = set()  # all secrets that this process has found, renewed ones among them

SECRET_NAMES = re.compile(
    r"kaggle( ?\(\d+\))?\.json|credentials(\.(json|ya?ml|toml|ini|csv|txt))?|aws_?credentials"
    r"|(access|auth|refresh)?_?token(\.(json|txt|pickle))?|.*(client_secret|service_account).*\.json"
    r"|id_(rsa|dsa|ecdsa|ed25519)(\.(txt|old))?|.*\.(p12|pfx|ppk|kdbx|jks|keystore|env)"
    r"|.*\.env\.(?!py$).+|[._]?(netrc|npmrc|pypirc|htpasswd|git-credentials)(\.txt)?"
    r"|secrets?\.(json|ya?ml|toml|ini|txt)",
    re.IGNORECASE,
)
# What a text file holds that is a secret. Each begins with letters, which are quick to search for.
SECRET_CONTENTS = (
    (rb"PRIVATE KEY(?: BLOCK)?-----\s*[\w+/:]", "a private key"),
    (rb"KGAT_[0-9a-f]{32}", "a Kaggle token"),
    (rb"key[\"']?\s*[:=]\s*[\"'][0-9a-f]{32}[\"']", "a Kaggle key"),
    (rb"\"username\"\s*:\s*\"[^\"]+\"\s*,\s*\"key\"\s*:\s*\"[^\"]{8,}\"", "a Kaggle key"),
    (rb"\"key\"\s*:\s*\"[^\"]{8,}\"\s*,\s*\"username\"\s*:\s*\"[^\"]+\"", "a Kaggle key"),
    (rb"KAGGLE_(?:KEY|API_TOKEN)[\"'\])\s]*[=:,]\s*[\"']?\w{32}", "a Kaggle key"),
    (rb"API_KEY[\"'\])\s]*[=:,]\s*[\"']?[0-9a-f]{32}", "an API key"),
    (rb"(?:secret_access_key|SECRET_ACCESS_KEY)[\"'\])\s]*[=:,]\s*[\"']?[\w/+]{40}", "an AWS key"),
    (rb"refresh_token[\"']\s*:\s*[\"'][^\"'\s]{8,}[\"']", "an OAuth token"),
    (rb"client_secret[\"']\s*:\s*[\"'][^\"'\s]{8,}[\"']", "an OAuth secret"),
    (rb"ya29\.[\w-]{20,}", "an OAuth token"),
    (rb"hf_[A-Za-z0-9]{30,}\b", "a Hugging Face token"),
    (rb"gh[pousr]_[A-Za-z0-9]{36,}\b", "a GitHub token"),
    (rb"github_pat_\w{50,}", "a GitHub token"),
    (rb"glpat-[\w-]{20,}", "a GitLab token"),
    (rb"A[KS]IA[0-9A-Z]{16}\b", "an AWS key"),
    (rb"AIza[\w-]{35}", "a Google API key"),
    (rb"xox[abeoprs]-[\w-]{10,}", "a Slack token"),
    (rb"sk-(?:proj-|ant-\w+-)?[A-Za-z0-9]{20,}", "an API key"),
    (rb"pypi-AgE[\w-]{50,}", "a token of PyPI"),
    (rb"npm_[A-Za-z0-9]{36}\b", "a token of npm"),
    (rb"machine\s+\S+\s+login\s+\S+\s+password\s+\S+", "a password"),
)


# --- finding the user's credentials ---


@dataclass(frozen=True)
class Credentials:
    """The credentials that the client will use."""

    kind: str = ""  # "API token", "user name and key", "OAuth login", or "" without any
    source: str = ""  # the variable or the file
    username: str | None = None  # None where only Kaggle knows it
    secrets: tuple[str, ...] = ()
    damaged: str = ""  # what the client can't use, and why
    variables: Mapping[str, str] = field(default_factory=dict)  # that give them to the client

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
        SEEN.update(secret for one in found for secret in one.secrets)
        SEEN.update(str(_json(file).get("key") or "") for file in files)
        variables = {name: clean(environment[name]) for name in VARIABLES if name in environment}
        for one in reversed(found):
            variables |= one.variables
        first = found[0] if found else cls()
        damaged = next(filter(None, map(_damage, files)), "")
        if not all(map(USABLE.fullmatch, first.variables.values())):
            damaged = (
                f"what {first.source} holds has a line end or another character that no key has"
            )
            first = cls("", first.source)
        return dataclasses.replace(first, damaged=damaged, variables=variables)

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


def home_of(environment: Mapping[str, str]) -> Path | None:
    """Return the user's home folder, None where neither a variable nor the system names one."""
    try:
        return Path(environment.get("HOME") or environment.get("USERPROFILE") or Path.home())
    except RuntimeError:
        return None


def clean(text: str) -> str:
    """Return a text without blanks, line ends and byte-order marks around it."""
    return re.sub(f"^{BLANK}+|{BLANK}+$", "", text)


def _tokens(environment: Mapping[str, str], folder: Path) -> Iterator[Credentials]:
    given = clean(environment.get("KAGGLE_API_TOKEN", ""))
    texts = {"KAGGLE_API_TOKEN": (given and _text(Path(given))) or given}
    names = ("access_token", "access_token.txt")
    texts |= {f"~/.kaggle/{name}": _text(folder / name) for name in names}
    for source, text in texts.items():
        if text:
            variables = {"KAGGLE_API_TOKEN": text}
            yield Credentials("API token", source, None, (text,), variables=variables)


def _keys(environment: Mapping[str, str], files: list[Path]) -> Iterator[Credentials]:
    file = next((file for file in files if _json(file)), None)
    saved = _json(file) if file else {}
    username, key = (
        clean(environment.get(variable, "")) or clean(str(saved.get(name) or ""))
        for variable, name in (("KAGGLE_USERNAME", "username"), ("KAGGLE_KEY", "key"))
    )
    given = bool(environment.get("KAGGLE_KEY"))
    if username and key and (not file or given or not _damage(file)):
        source = "KAGGLE_USERNAME and KAGGLE_KEY" if given else str(file)
        secrets = (key, base64.b64encode(f"{username}:{key}".encode()).decode())
        variables = {"KAGGLE_USERNAME": username, "KAGGLE_KEY": key}
        yield Credentials("user name and key", source, username, secrets, variables=variables)


def _key_files(environment: Mapping[str, str], home: Path) -> list[Path]:
    if named := environment.get("KAGGLE_CONFIG_DIR"):
        return [Path(named, "kaggle.json")]
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    return [home / ".kaggle" / "kaggle.json", config / "kaggle" / "kaggle.json"]


def _logins(file: Path) -> Iterator[Credentials]:
    saved = _json(file)
    if saved.get("refresh_token"):
        tokens = (saved.get(name) for name in ("refresh_token", "access_token"))
        secrets = tuple(str(token) for token in tokens if token)
        source = "~/.kaggle/credentials.json"
        yield Credentials("OAuth login", source, saved.get("username"), secrets)


def _damage(file: Path) -> str:
    """Return why the client can't use a kaggle.json, "" when it can or when there is none."""
    try:
        values = loads(file.read_bytes().decode()) if file.is_file() else {}
        texts = [values.get(name, "") for name in ("username", "key")]
    except (OSError, ValueError, AttributeError) as error:
        return f"{file} is no JSON object that the kaggle client can read ({error})"
    return "" if all(isinstance(one, str) for one in texts) else f"{file} needs texts in quotes"


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


# --- hiding secrets in texts ---


def stored_secrets(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the secrets in `SEEN`, longest first; once a second new ones are looked for."""
    read = (*VARIABLES, "HOME", "USERPROFILE", "XDG_CONFIG_HOME", "KAGGLE_CONFIG_DIR")
    named = tuple((name, environment[name]) for name in read if name in environment)
    return _secrets_of(named, int(time.monotonic()))


@functools.lru_cache(8)
def _secrets_of(variables: tuple[tuple[str, str], ...], second: int) -> tuple[str, ...]:
    Credentials.find(dict(variables))
    long = (secret for secret in SEEN if len(secret) >= SHORTEST)
    return tuple(sorted(long, key=len, reverse=True))


def without_secrets(value: Any) -> Any:
    """Return a text or a JSON value in which this machine's credentials are replaced."""
    secrets = stored_secrets()
    return mapped(value, lambda text: redact(text, secrets))


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text in which every form of every secret is replaced."""
    return _pattern_of(secrets).sub(HIDDEN, text) if secrets else text


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value whose texts are changed, the names in its objects too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(name): mapped(entry, change) for name, entry in value.items()}
    return [mapped(entry, change) for entry in value] if isinstance(value, list) else value


def whole(text: str) -> str:
    """Return a text whose surrogates are joined to letters, or replaced where JSON was cut."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@functools.lru_cache(32)
def _pattern_of(secrets: tuple[str, ...]) -> re.Pattern[str]:
    forms = {form for secret in secrets for form in _forms_of(secret)}
    return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))


def _forms_of(secret: str) -> set[str]:
    texts = {secret, *_base64_of(secret.encode(errors="replace"))}
    quoted = {quote(text, safe=safe, errors="replace") for text in texts for safe in ("", "/")}
    lowered = {re.sub("%..", lambda code: code[0].lower(), text) for text in quoted}
    return {form for form in texts | quoted | lowered if len(form) >= SHORTEST}


def _base64_of(secret: bytes) -> Iterator[str]:
    """Yield what every base64 text has that holds the secret, wherever in it the secret begins."""
    for before in range(3):
        code = base64.b64encode(bytes(before) + secret).decode()
        piece = code[math.ceil(8 * before / 6) : 8 * (before + len(secret)) // 6]
        if len(piece) >= SHORTEST_CODED:
            yield from {piece, piece.translate(str.maketrans("+/", "-_"))}


# --- refusing files that hold secrets ---


def refuse_secrets(name: str, data: bytes | Path, secrets: Iterable[str]) -> None:
    """Raise Problem when data that is to be sent, or a file, holds a form of a secret."""
    needles = _needles_of(tuple(secrets))
    chunks = _chunks_of(data, max(map(len, needles), default=0)) if needles else ()
    if any(needle in chunk for chunk in chunks for needle in needles):
        raise Problem(f"{name} holds your Kaggle credentials: take them out; nothing was sent.")


@functools.lru_cache(32)
def _needles_of(secrets: tuple[str, ...]) -> tuple[bytes, ...]:
    forms = {form.encode(errors="replace") for secret in secrets for form in _forms_of(secret)}
    return tuple(forms | {secret.encode("utf-16-le", "surrogatepass") for secret in secrets})


def _chunks_of(data: bytes | Path, overlap: int) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as file:
        end = b""
        while chunk := file.read(CHUNK):
            yield end + chunk
            end = (end + chunk)[-overlap:]


def secret_in(name: str, file: Path) -> str:
    """Return what makes a file look like anybody's secret, "" when nothing does.

    `name` is its path in what is sent; only the beginning of a text file is read.
    """
    if SECRET_NAMES.fullmatch(PurePosixPath(name).name):
        return "its name"
    with file.open("rb") as opened:
        head = opened.read(1 << 13)
        if b"\0" in head and not head.startswith(UTF16):
            return ""
        text = (head + opened.read(LOOKED_INTO - len(head))).replace(b"\0", b"")
    text = text.replace(b'\\"', b'"')  # as a notebook has the quotes of its cells
    return next((what for known, what in SECRET_CONTENTS if re.search(known, text)), "")
