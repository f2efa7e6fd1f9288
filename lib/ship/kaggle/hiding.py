"""Keep secrets out of what is sent, printed and written.

The user's own Kaggle credentials are searched for in every form in which a program may show them;
files that look like anybody's secrets are recognized by their names and contents.
"""

import base64
import functools
import html
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, quote_plus

from kernelkit.core.problem import Problem

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
