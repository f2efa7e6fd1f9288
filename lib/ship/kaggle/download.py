"""Download a file in as many requests as it takes; what has arrived is not downloaded again."""

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError as TransportError

CHUNK = 1 << 12  # bytes that are waited for at once: a slow line brings them within its timeout too
LOST = (requests.RequestException, ConnectionError, TransportError)

Get = Callable[..., requests.Response]  # requests.get, or a session's
Report = Callable[[int, int | None], None]  # gets the bytes that are done, and all where known


def download(get: Get, url: str, part: Path, report: Report, html: bool = False) -> Mapping:
    """Complete the file `part` from an address, and return the headers of the last answer.

    It goes on as long as each request brings some bytes. A web page is an error unless `html`.
    Raises requests.HTTPError where the server refuses it, another of LOST where a request brought
    nothing.
    """
    while True:
        start = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        try:
            with get(url, stream=True, headers=headers) as response:
                if response.status_code != 416:
                    complete = _save(response, part, report, start, html)
                elif (total := response.headers.get("Content-Range", "")) == f"bytes */{start}":
                    complete = True
                else:  # the server's file is another one
                    part.unlink()
                    raise ConnectionError(f"{start} bytes, but the server has {total or 'others'}")
            if not complete:
                _confirm(get, url, part)
            return response.headers
        except LOST as error:
            refused = getattr(error, "response", None) is not None
            if refused or not part.exists() or part.stat().st_size <= start:
                raise


def _save(
    response: requests.Response, part: Path, report: Report, start: int = 0, html: bool = False
) -> bool:
    """Append an answer's body to the first `start` bytes of `part`, or write it anew.

    Returns whether the answer told where the body ends.
    """
    response.raise_for_status()
    if "text/html" in response.headers.get("Content-Type", "") and not html:
        raise ConnectionError("a web page instead of the file")
    length = response.headers.get("Content-Length", "")
    coded = response.headers.get("Content-Encoding", "identity") != "identity"
    done = start if response.status_code == 206 else 0
    total = done + int(length) if length.isdigit() and not coded else None
    part.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab" if done else "wb") as out:
        for chunk in response.iter_content(CHUNK):
            done += out.write(chunk)
            report(done, total)
    if total is not None and done != total:
        raise ConnectionError(f"{done} of {total} bytes")
    return total is not None or "chunked" in response.headers.get("Transfer-Encoding", "")


def told_md5(headers: Mapping) -> str:
    """Return the MD5 of a file, in hexadecimal, as Google's storage tells it; "" where none is."""
    found = re.search(r"md5=([\w+/=]+)", headers.get("x-goog-hash", ""))
    return base64.b64decode(found[1]).hex() if found else ""


def _confirm(get: Get, url: str, part: Path) -> None:
    """Ask for what comes after a file, to see that it is whole; ConnectionError if not."""
    size = part.stat().st_size
    with get(url, stream=True, headers={"Range": f"bytes={size}-"}) as response:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        if response.status_code == 200:  # it knows no ranges: the whole must be as long again
            total = str(sum(map(len, response.iter_content(CHUNK))))
    if total not in ("", str(size)):
        raise ConnectionError(f"{size} of {total} bytes")
