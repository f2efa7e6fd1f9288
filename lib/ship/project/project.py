"""A project on this machine: its folder, its two metadata files with Kaggle's rules, its kernel."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from slugify import slugify

from kernelkit.core.problem import Problem
from ship.kaggle.response_schemas import HANDLE, NAME, REF, loads, stays_inside
from ship.project.contents import all_files, code_files, content_hash, copy_files
from ship.project.script import Setting, declared_settings, with_overrides

PLACEHOLDER = "INSERT-YOUR-KAGGLE-USERNAME"
KERNEL_METADATA = "kernel-metadata.json"
DATASET_METADATA = "dataset-metadata.json"
SHOW_CONFIG_SECONDS = 300


@dataclass(frozen=True)
class Project:
    """A folder that holds kernel.py, the two metadata files and lib/."""

    root: Path
    home: Path | None = None  # the project of which `root` is a copy; it has the runs
    copied: str = ""  # when it was copied
    copied_commit: str = ""  # the commit of which the copy is

    @classmethod
    def find(cls, start: Path) -> "Project":
        """Return the project that the folder `start` lies in; Problem where there is none."""
        for folder in (start.resolve(), *start.resolve().parents):
            if (folder / KERNEL_METADATA).is_file():
                return cls(folder)
        raise Problem(
            f"there is no {KERNEL_METADATA} in {start} or above it: run ship in the project's "
            "folder, or name it with --project."
        )

    @property
    def lib(self) -> Path:
        """The folder whose packages, weights and wheels become the dataset."""
        return self.root / "lib"

    @property
    def runs(self) -> Path:
        """The folder in which ship keeps its state, its ledger and the output of the runs."""
        return (self.home or self.root) / "runs"

    @cached_property
    def kernel_metadata(self) -> dict[str, Any]:
        """The values of kernel-metadata.json, with the placeholder in the owner's place."""
        return self._read(KERNEL_METADATA)

    @cached_property
    def dataset_metadata(self) -> dict[str, Any]:
        """The values of dataset-metadata.json, with the placeholder in the owner's place."""
        return self._read(DATASET_METADATA)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            values = loads((self.root / name).read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise Problem(f"{name} is missing in {self.root}.") from None
        except (OSError, ValueError) as error:
            raise Problem(
                f"{name} in {self.root} can't be read ({error}): correct it, or bring it back with "
                f"`git checkout {name}`."
            ) from None
        if not isinstance(values, dict) or not isinstance(values.get("id"), str):
            raise Problem(f'{name} has no "id": write "id": "{PLACEHOLDER}/some-slug".')
        return values

    @property
    def code(self) -> Path:
        """The kernel's script; Problem where the metadata name no file of the project."""
        name = self.kernel_metadata.get("code_file") or "kernel.py"
        if isinstance(name, str) and stays_inside(name):
            file = self.root / name
            if file.is_file():
                return file
        raise Problem(f'"code_file" in {KERNEL_METADATA} names {name!r}, which is not there.')

    @property
    def slug(self) -> str:
        """The kernel's slug."""
        return self.kernel_metadata["id"].rpartition("/")[2]

    @property
    def competition(self) -> str:
        """The slug of the kernel's competition; Problem where the metadata name none."""
        sources = self.kernel_metadata.get("competition_sources") or []
        named = isinstance(sources, list) and len(sources) == 1 and isinstance(sources[0], str)
        slug = competition_slug(sources[0]) if named else ""
        if not slug:
            raise Problem(f'{KERNEL_METADATA} must name one competition in "competition_sources".')
        return slug

    def owned(self, values: Any, owner: str) -> Any:
        """Return metadata in which the owner has replaced the placeholder everywhere."""
        return json.loads(json.dumps(values).replace(PLACEHOLDER, owner))

    def ref(self, name: str, owner: str) -> str:
        """Return "owner/slug" of the kernel or the dataset, whose metadata file `name` is.

        Raises Problem where the id is no such pair, or belongs to another user.
        """
        values = self.kernel_metadata if name == KERNEL_METADATA else self.dataset_metadata
        ref = self.owned(values["id"], owner)
        if not REF.fullmatch(ref):
            raise Problem(f'"id" in {name} must be "{PLACEHOLDER}/slug", not {values["id"]!r}.')
        if (named := ref.split("/")[0]) != owner:
            raise Problem(
                f"{name} belongs to {named}, but the credentials are {owner}'s: put {PLACEHOLDER} "
                f"(or {owner}) before the slash of its id."
            )
        return ref

    def script(self, settings: Mapping[str, str], mark: str) -> str:
        """Return the kernel's text with settings and a mark; Problem without the block for them."""
        try:
            text = self.code.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise Problem(f"{self.code.name} can't be read: {error}.") from None
        return with_overrides(self.code.name, text, settings, mark)

    def settings(self) -> list[Setting]:
        """Return the settings that the kernel declares, [] where it can't be read."""
        try:
            return declared_settings(self.code.read_text(encoding="utf-8-sig"))
        except (Problem, OSError, ValueError):
            return []

    def lib_hash(self) -> str:
        """Return a hash of the lib's code, on which the kernel's settings may depend."""
        return content_hash(code_files(self.lib))

    def show_config(self, text: str) -> Any:
        """Return the JSON value that a script's --show-config prints, run as Kaggle would run it.

        The script sees the lib as a mounted dataset, and none of the environment's credentials.
        Raises Problem where it refuses its settings, takes too long, or prints no JSON.
        """
        command = f"{self.code.name} --show-config"
        with tempfile.TemporaryDirectory() as root:
            copy_files(code_files(self.lib), Path(root, "input", "lib"))
            script = Path(root, "src", "script.py")
            script.parent.mkdir()
            script.write_text(text, encoding="utf-8")
            environment = {k: v for k, v in os.environ.items() if not k.startswith("KAGGLE_")}
            environment |= {"KAGGLE_ROOT": root, "KAGGLE_KERNEL_RUN_TYPE": "Batch"}
            environment["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask PyPI for a newer version
            try:
                done = subprocess.run(
                    [sys.executable, "-P", str(script), "--show-config"],
                    capture_output=True,
                    text=True,
                    timeout=SHOW_CONFIG_SECONDS,
                    env=environment,
                    cwd=root,
                )
                if done.returncode == 0:
                    return loads(done.stdout)
            except subprocess.TimeoutExpired:
                raise Problem(f"{command} did not end in {SHOW_CONFIG_SECONDS} seconds.") from None
            except ValueError:
                raise Problem(f"{command} did not print JSON.") from None
        words = (done.stderr or done.stdout).strip().splitlines()
        reason = words[-1] if words else f"exit status {done.returncode}"
        reason = re.sub(r"^[\w.-]+: error: ", "", reason)
        raise Problem(f"{self.code.name} refuses its settings: {reason}")

    def presets(self) -> dict[str, dict[str, str]]:
        """Return handle and licence of each of the kernel's backbones that is a preset."""
        return self.show_config(self.script({}, "presets")).get("presets") or {}

    def preset_folder(self, handle: str) -> Path:
        """Return the folder in which a preset lies on this machine, or would."""
        return self.lib / "weights" / handle.split("/")[3]

    def commit(self) -> str:
        """Return the git commit that is checked out, with a "+" if files differ; "" without git."""
        if self.home:
            return self.copied_commit

        def git(*arguments: str) -> str:
            command = ["git", "-C", str(self.root), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
            return done.stdout.strip()

        try:
            commit = git("rev-parse", "--short=10", "HEAD")
            return f"{commit}+" if git("status", "--porcelain") else commit
        except (OSError, subprocess.SubprocessError):
            return ""


def sources(project: Project) -> dict[str, Path]:
    """Return what a person edits and a run is made of, by its path in a copy."""
    files = {project.code.relative_to(project.root).as_posix(): project.code}
    files |= {name: project.root / name for name in (KERNEL_METADATA, DATASET_METADATA)}
    return files | {f"lib/{name}": file for name, file in code_files(project.lib).items()}


def copy_project(project: Project, target: Path) -> Project:
    """Copy a project, whose runs the copy shares; weights and wheels are linked."""
    own = sources(project)
    for name, file in own.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target / name)
    files = {f"lib/{name}": file for name, file in all_files(project.lib).items()}
    copy_files({name: file for name, file in files.items() if name not in own}, target)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return Project(target, home=project.root, copied=now, copied_commit=project.commit())


def competition_slug(text: str) -> str:
    """Return the slug in a competition's address, or the slug itself; "" where there is none."""
    path = re.split(r"[?#]", text.strip())[0]
    path = re.sub(r"^(https?://)?([\w-]+\.)*kaggle\.com/", "", path, flags=re.IGNORECASE)
    parts = [part for part in path.split("/") if part]
    slug = next((part for part in parts if part not in ("c", "competitions")), "")
    return slug if NAME.fullmatch(slug) else ""


# --- what Kaggle, its client or a run there would refuse in the metadata ---

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
