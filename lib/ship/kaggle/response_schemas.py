"""The schemas of Kaggle's answers, and how JSON and names from outside are read safely.

`ship` checks each answer, and each file that it keeps, once where it is read. A field of an answer
may be missing or null, because Kaggle leaves out what is unset.
"""

import functools
import json
import math
import re
from pathlib import PureWindowsPath
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    Field,
    StrictBool,
    StrictInt,
    TypeAdapter,
    ValidationError,
    create_model,
)

LONGEST_NUMBER = 16  # digits of a whole number on which readers of JSON agree
NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")  # of a user, kernel, dataset or competition
REF = re.compile(f"{NAME.pattern}/{NAME.pattern}")  # "owner/slug"
HANDLE = re.compile(  # of a model's version: "owner/model/framework/variation/version"
    r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/[A-Za-z0-9]+/[A-Za-z0-9_.-]+/[0-9]{1,9}"
)
RUN = re.compile(  # a run's name, which is also that of its folder in runs/
    r"(?!\.)[^/\\:*?\"<>|\x00-\x1f\x7f\ud800-\udfff]{1,180}"
    r"-(v[0-9]{1,9}|[0-9a-f]{8}(-[A-Za-z0-9_-]{1,100})?)"
)

TextOrNumber = str | StrictInt | float


def _object(**fields: Any) -> type[BaseModel]:
    optional: dict[str, Any] = {name: (kind | None, None) for name, kind in fields.items()}
    return create_model("Object", **optional)


_VERSION = _object(versionNumber=StrictInt, versionNotes=str)
_DATA_FILE = _object(name=str, totalBytes=StrictInt)
_MODEL_FILE = _object(name=str, size=StrictInt)
_KERNEL = _object(ref=Annotated[str, Field(pattern=f"^{REF.pattern}$")])
_KERNEL_METADATA = _object(currentVersionNumber=StrictInt, competitionDataSources=list[str])
_QUOTA = _object(timeUsed=TextOrNumber, timeReserved=TextOrNumber, totalTimeAllowed=TextOrNumber)
_SUBMISSION = _object(
    ref=StrictInt,
    fileName=str,
    description=str,
    status=str,
    publicScore=TextOrNumber,
    errorDescription=str,
)

SCHEMAS: dict[str, dict[str, type[BaseModel]]] = {
    "datasets.DatasetApiService": {
        "GetDataset": _object(currentVersionNumber=StrictInt, versions=list[_VERSION]),
        "GetDatasetStatus": _object(status=str),
        "ListDatasetFiles": _object(datasetFiles=list[_DATA_FILE], nextPageToken=str),
    },
    "models.ModelApiService": {
        "GetModel": _object(ref=str),
        "GetModelInstance": _object(versionNumber=StrictInt),
        "ListModelInstanceVersionFiles": _object(files=list[_MODEL_FILE], nextPageToken=str),
    },
    "kernels.KernelsApiService": {
        "GetKernel": _object(metadata=_KERNEL_METADATA, blob=_object(source=str)),
        "ListKernels": _object(kernels=list[_KERNEL], nextPageToken=str),
        "GetKernelSessionStatus": _object(status=str, failureMessage=str),
        "ListKernelSessionOutput": _object(
            files=list[_object(fileName=str, url=str)], log=str, nextPageToken=str
        ),
        "CancelKernelSession": _object(errorMessage=str),
        "GetAcceleratorQuotaStatistics": _object(gpuQuota=_QUOTA, quotaRefreshTime=str),
    },
    "competitions.CompetitionApiService": {
        "ListSubmissions": _object(submissions=list[_SUBMISSION], nextPageToken=str),
        "GetSubmissionLimits": _object(
            numToday=StrictInt, numTotal=StrictInt, numAllowedNow=StrictInt
        ),
        "GetCompetition": _object(
            evaluationMetric=str,
            isKernelsSubmissionsOnly=StrictBool,
            submissionsDisabled=StrictBool,
        ),
        "ListDataFiles": _object(files=list[_DATA_FILE], nextPageToken=str),
    },
}
"""The schema of the answer of each method whose JSON is read, by service and method."""

SERVICE_OF = {method: service for service, methods in SCHEMAS.items() for method in methods}


def schema_error(value: Any, schema: Any) -> str:
    """Return the first thing in a value that is not of a schema (any type), "" without any."""
    try:
        adapter_of(schema).validate_python(value)
        return ""
    except ValidationError as error:
        return error_text(error)


@functools.cache
def adapter_of(schema: Any) -> TypeAdapter:
    """Return what checks values against a schema."""
    return TypeAdapter(schema)


def error_text(error: ValidationError) -> str:
    """Return the place and the reason of the first fault that a validation has found."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "all of it"
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}"


def stays_inside(name: str) -> bool:
    """Tell whether a relative path stays in its folder on every system."""
    path = PureWindowsPath(name)  # whose separators are those of every system
    return not (path.anchor or ".." in path.parts or "\0" in name)


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON text, None for NaN and infinity; ValueError if it is none."""
    try:
        return json.loads(
            text,
            parse_int=lambda digits: int(digits) if len(digits) <= LONGEST_NUMBER else None,
            parse_float=lambda digits: number if math.isfinite(number := float(digits)) else None,
            parse_constant=lambda name: None,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
