"""Find Kaggle credentials without the client, as it would, and clean them of stray blanks."""

import base64
import codecs
import functools
import html
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

from kernelkit.core.problem import Problem
from ship.kaggle.response_schemas import loads

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


HIDDEN = "[secret]"
SHORTEST = 4
"""Letters of the shortest secret that is looked for."""
SHORTEST_CODED = 8
"""Letters of the shortest piece of base64 that is taken for a part of a secret."""
CHUNK = 1 << 22
"""Bytes of a file that are searched at once."""
LOOKED_INTO = 1 << 20
"""Bytes at the beginning of a text file that are searched for other people's secrets."""

SECRET_NAMES = re.compile(
    r"kaggle( ?\(\d+\))?\.json|credentials(\.(json|ya?ml|toml|ini|csv|txt))?|aws_?credentials"
    r"|(access|auth|refresh)?_?token(\.(json|txt|pickle))?|.*(client_secret|service_account).*\.json"
    r"|id_(rsa|dsa|ecdsa|ed25519)(\.(txt|old))?|.*\.(p12|pfx|ppk|kdbx|jks|keystore|env)"
    r"|.*\.env\.(?!py$).+|[._]?(netrc|npmrc|pypirc|htpasswd|git-credentials)(\.txt)?"
    r"|secrets?\.(json|ya?ml|toml|ini|txt)",
    re.IGNORECASE,
)
"""Names of files that hold secrets."""

SECRET_CONTENTS = (
    (rb"PRIVATE KEY(?: BLOCK)?-----\s*[\w+/:]", "a private key"),
    (rb"KGAT_[0-9a-f]{32}", "a Kaggle token"),
    (rb"key[\"']?\s*[:=]\s*[\"'][0-9a-f]{32}[\"']", "a Kaggle key"),
    (rb"\"username\"\s*:\s*\"[^\"]+\"\s*,\s*\"key\"\s*:\s*\"[^\"]{8,}\"", "a Kaggle key"),
    (rb"\"key\"\s*:\s*\"[^\"]{8,}\"\s*,\s*\"username\"\s*:\s*\"[^\"]+\"", "a Kaggle key"),
    (rb"KAGGLE_(?:KEY|API_TOKEN)[\"']?\s*[=:]\s*[\"']?\w{32}", "a Kaggle key"),
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
"""What a text file holds that is a secret. Each expression begins with letters, which are quick to
search for."""


def forms_of(secret: str) -> set[str]:
    """Return a secret as programs show it: as it is, escaped, URL-encoded, or within base64."""
    forms = {secret} | {form for one in escaped(secret) for form in escaped(one)}
    forms |= {form for piece in base64_of(secret) for form in escaped(piece)}
    return {form for form in forms if len(form) >= SHORTEST}


def escaped(text: str) -> set[str]:
    """Return a text as Python, JSON, HTML and addresses escape it, within a longer one too."""
    forms = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    forms |= {html.escape(text), html.escape(text, quote=False), ascii(text)[1:-1]}
    for shown in (text, *encoded(text)):
        both = "'\"" if isinstance(shown, str) else b"'\""
        start = 1 if isinstance(shown, str) else 2
        forms |= {repr(shown)[start:-1], repr(shown + both)[start:-4]}  # as its neighbours decide
    for data in encoded(text):
        quoted = {quote(data, safe=""), quote(data), quote_plus(data)}
        quoted.add(quote(data, safe="!#$%&'()*+,/:;=?@[]~"))
        forms |= quoted | {re.sub("%..", lambda code: code[0].lower(), form) for form in quoted}
    return forms


def encoded(text: str) -> set[bytes]:
    """Return a text's bytes: in UTF-8, and in Latin-1 as in headers, where that has its letters."""
    latin = text.encode("latin-1", "ignore")
    forms = {latin} if latin.decode("latin-1") == text else set()
    try:
        return {*forms, text.encode(errors="surrogateescape")}  # a variable that is no UTF-8
    except UnicodeEncodeError:
        return {*forms, text.encode(errors="replace")}


def base64_of(secret: str) -> Iterator[str]:
    """Yield what every base64 text has that holds the secret, wherever in it the secret begins."""
    for data in encoded(secret):
        for before in range(3):
            code = base64.b64encode(bytes(before) + data).decode()
            piece = code[math.ceil(8 * before / 6) : 8 * (before + len(data)) // 6]
            if len(piece) >= SHORTEST_CODED:
                yield from {piece, piece.translate(str.maketrans("+/", "-_"))}


@functools.lru_cache(32)
def pattern_of(secrets: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches every form of the secrets, the longest first."""
    forms = {form for secret in secrets for form in forms_of(secret)}
    return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text in which every secret is replaced."""
    return pattern_of(secrets).sub(HIDDEN, text) if secrets else text


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value whose texts are changed, the names in its objects too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(name): mapped(entry, change) for name, entry in value.items()}
    return [mapped(entry, change) for entry in value] if isinstance(value, list) else value


def whole(text: str) -> str:
    """Return a text whose surrogates are joined to letters, or replaced where one half is missing.

    Half of a letter comes from a JSON text that was cut in two; no file can hold it.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@functools.lru_cache(32)
def needles_of(secrets: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return every form of the secrets as the bytes of a file."""
    forms = {form for secret in secrets for form in forms_of(secret)}
    needles = {data for form in forms for data in encoded(form)}
    return tuple(needles | {secret.encode("utf-16-le", "surrogatepass") for secret in secrets})


def refuse_secrets(name: str, data: bytes | Path, secrets: Iterable[str]) -> None:
    """Raise Problem when data that is to be sent, or a file, holds a form of a secret."""
    needles = needles_of(tuple(secrets))
    chunks = chunks_of(data, max(map(len, needles), default=0)) if needles else ()
    if any(needle in chunk for chunk in chunks for needle in needles):
        raise Problem(f"{name} holds your Kaggle credentials: take them out; nothing was sent.")


def chunks_of(data: bytes | Path, overlap: int) -> Iterator[bytes]:
    """Yield data in pieces, each of which repeats the end of the one before."""
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as file:
        end = b""
        while chunk := file.read(CHUNK):
            yield end + chunk
            end = (end + chunk)[-overlap:]


def secret_in(name: str, file: Path) -> str:
    """Return what makes a file look like a secret, "" when nothing does.

    Args:
        name: its path in what is sent, with slashes.
        file: where it is here; only the beginning of a text file is read.
    """
    if SECRET_NAMES.fullmatch(PurePosixPath(name).name):
        return "its name"
    with file.open("rb") as opened:
        head = opened.read(1 << 13)
        if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
            return ""
        text = (head + opened.read(LOOKED_INTO - len(head))).replace(b"\0", b"")
    return next((what for known, what in SECRET_CONTENTS if re.search(known, text)), "")
