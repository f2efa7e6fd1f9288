"""The shapes of Kaggle's answers and of what `ship` keeps in files, checked in this one place.

A shape is a type, a pattern that a text must have, a list of one shape, or a dict of the fields
that `ship` reads. A field may be missing or null, because Kaggle leaves out what is unset.
"""

import json
import math
import re
from pathlib import PureWindowsPath
from typing import Any

TEXT_OR_NUMBER = (str, int, float)
LARGEST = 1 << 53
"""No count is larger; beyond it readers of JSON do not agree on a number either."""
DEEPEST = 40
"""Levels of the deepest JSON that makes sense."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""What Kaggle calls a user, a kernel, a dataset or a competition in an address."""
REF = re.compile(f"{NAME.pattern}/{NAME.pattern}")
RUN = re.compile(
    r"(?!\.)[^/\\:*?\"<>|\x00-\x1f\x7f\ud800-\udfff]{1,180}"
    r"-(v[0-9]{1,9}|[0-9a-f]{8}(-[A-Za-z0-9_-]{1,100})?)"
)
"""A run's name, which is also that of its folder in runs/."""

SCHEMAS: dict[str, Any] = {
    "GetDataset": {
        "currentVersionNumber": int,
        "versions": [{"versionNumber": int, "versionNotes": str}],
    },
    "GetDatasetStatus": {"status": str},
    "ListDatasetFiles": {
        "datasetFiles": [{"name": str, "totalBytes": int}],
        "nextPageToken": str,
    },
    "GetKernel": {
        "metadata": {"currentVersionNumber": int, "competitionDataSources": [str]},
        "blob": {"source": str},
    },
    "ListKernels": {"kernels": [{"ref": REF}], "nextPageToken": str},
    "GetKernelSessionStatus": {"status": str, "failureMessage": str},
    "ListKernelSessionOutput": {
        "files": [{"fileName": str, "url": str}],
        "log": str,
        "nextPageToken": str,
    },
    "CancelKernelSession": {"errorMessage": str},
    "GetAcceleratorQuotaStatistics": {
        "gpuQuota": {
            "timeUsed": TEXT_OR_NUMBER,
            "timeReserved": TEXT_OR_NUMBER,
            "totalTimeAllowed": TEXT_OR_NUMBER,
        },
        "quotaRefreshTime": str,
    },
    "ListSubmissions": {
        "submissions": [
            {
                "ref": int,
                "fileName": str,
                "description": str,
                "status": str,
                "publicScore": TEXT_OR_NUMBER,
                "errorDescription": str,
            }
        ],
        "nextPageToken": str,
    },
    "GetSubmissionLimits": {"numToday": int, "numTotal": int, "numAllowedNow": int},
    "GetCompetition": {"evaluationMetric": str},
    "ListDataFiles": {"files": [{"name": str, "totalBytes": int}], "nextPageToken": str},
}
"""The shape of the answer of each method that is asked for its raw JSON."""

WORDS = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}


def schema_error(value: Any, shape: Any, place: str = "it") -> str:
    """Return what is wrong with the shape of an answer, "" when nothing is."""
    if value is None and place != "it":
        return ""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{place} is {word(value)} instead of an object"
        wrong = (schema_error(value.get(name), part, name) for name, part in shape.items())
        return next(filter(None, wrong), "")
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place} is {word(value)} instead of a list"
        wrong = (schema_error(entry, shape[0], f"an entry of {place}") for entry in value)
        return next(filter(None, wrong), "")
    if isinstance(shape, re.Pattern):
        fits = isinstance(value, str) and shape.fullmatch(value)
        return "" if fits else f"{place} is {str(value)[:100]!r}, which is no such name"
    kinds = shape if isinstance(shape, tuple) else (shape,)
    if not isinstance(value, kinds) or isinstance(value, bool):
        return f"{place} is {word(value)} instead of {WORDS[kinds[0]]}"
    if isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:
        return f"{place} is too large a number"
    return ""


def word(value: Any) -> str:
    """Return what a JSON value is, in words."""
    return "nothing" if value is None else WORDS.get(type(value), str(value).lower())


def inward(name: str) -> bool:
    """Tell whether a relative path stays in its folder on every system."""
    path = PureWindowsPath(name)  # whose separators are those of every system
    return not (path.anchor or ".." in path.parts or "\0" in name)


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON text; numbers that are none, or too large, become None.

    Raises:
        ValueError: it is no JSON, or is nested too deeply.
    """
    try:
        value = json.loads(
            text,
            parse_int=lambda digits: int(digits) if len(digits) <= len(str(LARGEST)) else None,
            parse_float=lambda digits: number if math.isfinite(number := float(digits)) else None,
            parse_constant=lambda name: None,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if deeper(value, DEEPEST):
        raise ValueError("it is nested too deeply")
    return value


def deeper(value: Any, levels: int) -> bool:
    """Tell whether a JSON value has more levels of objects and lists."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return not levels or any(deeper(one, levels - 1) for one in inner)
