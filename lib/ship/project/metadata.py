"""What Kaggle, its client or a run there would refuse in the values of the two metadata files."""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from slugify import slugify

from ship.kaggle.response_schemas import HANDLE
from ship.project.project import competition_slug

# In Kaggle's documentation of dataset-metadata.json, and the ones that its site has added.
LICENSES = """
AGPL-3.0 Apache-2.0 apache-2.0 BSD-3-Clause CC-BY-3.0 CC-BY-3.0-IGO CC-BY-4.0 CC-BY-NC-4.0
CC-BY-NC-ND-4.0 CC-BY-NC-SA-3.0-IGO CC-BY-NC-SA-4.0 CC-BY-ND-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0
CDLA-Permissive-1.0 CDLA-Sharing-1.0 copyright-authors DbCL-1.0 EU-ODP-Legal-Notice FDL-1.3 GPL-2.0
GPL-3.0 LGPL-3.0 MIT ODbL-1.0 ODC-BY-1.0 other PDDL unknown US-Government-Works
"""

Yes, No = Literal[True, "true"], Literal[False, "false"]


def _slug(text: str) -> str:
    if text != (slug := competition_slug(text)):
        raise ValueError(f"it must hold the competition's slug, {slug!r}")
    return text


def _handle(text: str) -> str:
    if not HANDLE.fullmatch(text):
        raise ValueError("it must hold owner/model/framework/variation/version")
    return text


ListOfOne = Field(min_length=1, max_length=1)


class KernelMetadata(BaseModel):
    """The values of kernel-metadata.json that a run of this project needs."""

    title: Annotated[str, Field(min_length=5, max_length=50)]
    code_file: str
    language: Literal["python"]
    kernel_type: Literal["script"]
    is_private: Yes
    enable_gpu: Yes
    enable_internet: No
    dataset_sources: list[str]
    competition_sources: Annotated[list[Annotated[str, AfterValidator(_slug)]], ListOfOne]
    kernel_sources: list[str] | None = None
    model_sources: list[Annotated[str, AfterValidator(_handle)]] | None = None


class License(BaseModel):
    """An entry of the list of licenses."""

    name: str


class DatasetMetadata(BaseModel):
    """The values of dataset-metadata.json that Kaggle checks."""

    title: Annotated[str, Field(min_length=6, max_length=50)]
    subtitle: Annotated[str, Field(min_length=20, max_length=80)] | None = None
    licenses: Annotated[list[License], ListOfOne]


def kernel_metadata_errors(values: dict[str, Any], dataset: str) -> list[str]:
    """Return what is wrong with kernel-metadata.json of a project whose dataset has this id."""
    title, slug = str(values.get("title") or ""), values["id"].rpartition("/")[2]
    errors = _errors(values, KernelMetadata)
    if slug != slugify(title):
        errors.append(
            f'the slug of "id" must be that of the title: {slugify(title)!r}, not {slug!r}'
        )
    if dataset not in (values.get("dataset_sources") or []):
        errors.append(f'"dataset_sources" must hold {dataset!r}')
    return errors


def dataset_metadata_errors(values: dict[str, Any]) -> list[str]:
    """Return what is wrong with dataset-metadata.json."""
    slug, errors = values["id"].rpartition("/")[2], _errors(values, DatasetMetadata)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{4,48}[a-z0-9]", slug):
        errors.append(f'the slug of "id" must be 6 to 50 of a-z, 0-9 and dashes, not {slug!r}')
    name = "MIT" if errors else values["licenses"][0]["name"]
    if name not in LICENSES.split():
        errors.append(f"Kaggle knows no license {name!r} (MIT, CC0-1.0, ... are known)")
    return errors


def _errors(values: dict[str, Any], schema: type[BaseModel]) -> list[str]:
    given = {name: value for name, value in values.items() if value not in ("", None)}
    try:
        schema.model_validate(given)
    except ValidationError as error:
        faults = [(fault["loc"][0], fault["msg"]) for fault in error.errors()]
        faults = [(name, reason.removeprefix("Value error, ")) for name, reason in faults]
        return [
            f'"{name}" is {json.dumps(values.get(name))}: {reason[0].lower()}{reason[1:]}'
            for name, reason in faults
        ]
    return []
