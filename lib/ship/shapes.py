"""The shapes of Kaggle's answers, checked in this one place.

A shape is a type, a list of one shape, or a dict of the fields that `ship` reads. A field may be
missing or null, because Kaggle leaves out what is unset.
"""

from typing import Any

TEXT_OR_NUMBER = (str, int, float)

SHAPES: dict[str, Any] = {
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
    "ListKernels": {"kernels": [{"ref": str}], "nextPageToken": str},
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


def misfit(value: Any, shape: Any, place: str = "it") -> str:
    """Return what is wrong with the shape of an answer, "" when nothing is."""
    if value is None and place != "it":
        return ""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{place} is {word(value)} instead of an object"
        wrong = (misfit(value.get(name), part, name) for name, part in shape.items())
        return next(filter(None, wrong), "")
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place} is {word(value)} instead of a list"
        wrong = (misfit(entry, shape[0], f"an entry of {place}") for entry in value)
        return next(filter(None, wrong), "")
    kinds = shape if isinstance(shape, tuple) else (shape,)
    if isinstance(value, kinds) and not isinstance(value, bool):
        return ""
    return f"{place} is {word(value)} instead of {WORDS[kinds[0]]}"


def word(value: Any) -> str:
    """Return what a JSON value is, in words."""
    return "nothing" if value is None else WORDS.get(type(value), str(value).lower())
