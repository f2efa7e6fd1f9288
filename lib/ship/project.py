"""A project's own side: its files, its metadata with Kaggle's rules, its kernel's config."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slugify import slugify

from common import Problem, write_atomically

PLACEHOLDER = "INSERT-YOUR-KAGGLE-USERNAME"
KERNEL_METADATA = "kernel-metadata.json"
DATASET_METADATA = "dataset-metadata.json"
OVERRIDES = re.compile(
    r"(?ms)^# --- overrides \(ship push --set writes here; leave empty\) ---\n"
    r".*?"
    r"^# --- end of overrides ---\n"
)
LICENSES = (
    *("AGPL-3.0", "Apache-2.0", "apache-2.0", "BSD-3-Clause", "CC-BY-3.0", "CC-BY-3.0-IGO"),
    *("CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-3.0-IGO", "CC-BY-NC-SA-4.0"),
    *("CC-BY-ND-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC0-1.0", "CDLA-Permissive-1.0"),
    *("CDLA-Sharing-1.0", "copyright-authors", "DbCL-1.0", "EU-ODP-Legal-Notice", "FDL-1.3"),
    *("GPL-2.0", "GPL-3.0", "LGPL-3.0", "MIT", "ODbL-1.0", "ODC-BY-1.0", "other", "PDDL"),
    *("unknown", "US-Government-Works"),
)
"""Licence names in Kaggle's documentation of dataset-metadata.json, and the ones its site added."""


def sha256(data: bytes | Path) -> str:
    """Return the SHA-256 of bytes or of a file, in hexadecimal."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with open(data, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Project:
    """A folder with kernel.py, the two metadata files and lib/."""

    root: Path

    @classmethod
    def find(cls, start: Path) -> "Project":
        """Return the project that a folder lies in; raise Problem when there is none."""
        for folder in (start.resolve(), *start.resolve().parents):
            if (folder / KERNEL_METADATA).is_file():
                return cls(folder)
        raise Problem(
            f"there is no {KERNEL_METADATA} in {start} or above it: run ship in the project's "
            "folder, or name it with --project."
        )

    @property
    def lib(self) -> Path:
        """What becomes the dataset."""
        return self.root / "lib"

    @property
    def runs(self) -> Path:
        """What ship keeps."""
        return self.root / "runs"

    @cached_property
    def kernel_metadata(self) -> dict[str, Any]:
        """kernel-metadata.json as it is."""
        return self._read(KERNEL_METADATA)

    @cached_property
    def dataset_metadata(self) -> dict[str, Any]:
        """dataset-metadata.json as it is."""
        return self._read(DATASET_METADATA)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            values = json.loads((self.root / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Problem(f"{name} is missing in {self.root}.") from None
        except (OSError, ValueError) as error:
            raise Problem(f"{name} can't be read: {error}.") from None
        if not isinstance(values, dict) or not isinstance(values.get("id"), str):
            raise Problem(f'{name} has no "id": write "id": "{PLACEHOLDER}/some-slug".')
        return values

    @property
    def code(self) -> Path:
        """The kernel's script."""
        return self.root / str(self.kernel_metadata.get("code_file") or "kernel.py")

    @property
    def competition(self) -> str:
        """The slug of the competition that the kernel takes part in."""
        sources = self.kernel_metadata.get("competition_sources") or []
        if len(sources) != 1:
            raise Problem(f'{KERNEL_METADATA} must name one competition in "competition_sources".')
        return sources[0]

    def owned(self, values: Any, owner: str) -> Any:
        """Return metadata with the owner in the placeholder's place, everywhere."""
        return json.loads(json.dumps(values).replace(PLACEHOLDER, owner))

    def ref(self, name: str, owner: str) -> str:
        """Return "owner/slug" of the kernel or the dataset; raise Problem for another's."""
        values = self.kernel_metadata if name == KERNEL_METADATA else self.dataset_metadata
        ref = self.owned(values["id"], owner)
        if not re.fullmatch(r"[^/]+/[^/]+", ref):
            raise Problem(f'"id" in {name} must be "{PLACEHOLDER}/slug", not {values["id"]!r}.')
        if ref.split("/")[0] != owner:
            raise Problem(
                f"{name} belongs to {ref.split('/')[0]}, but the credentials are {owner}'s: put "
                f"{PLACEHOLDER} (or {owner}) before the slash of its id."
            )
        return ref

    def script(self, settings: Mapping[str, str], mark: str) -> str:
        """Return the kernel's text with the settings, and a comment `mark`, in its marked block."""
        try:
            text = self.code.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise Problem(f"{self.code.name} can't be read: {error}.") from None
        lines = "".join(f"    {name!r}: {value!r},\n" for name, value in settings.items())
        block = (
            "# --- overrides (ship push --set writes here; leave empty) ---\n"
            + f"# ship: {mark}\n"
            + f"OVERRIDES: dict[str, str] = {{{chr(10) if lines else ''}{lines}}}\n"
            + "# --- end of overrides ---\n"
        )
        text, blocks = OVERRIDES.subn(lambda _: block, text)
        if blocks != 1:
            raise Problem(
                f"{self.code.name} must hold the marked block of overrides exactly once "
                f"(it does {blocks} times): `# --- overrides (ship push --set writes here; leave "
                "empty) ---`, the assignment of OVERRIDES, `# --- end of overrides ---`."
            )
        return text

    def lib_hash(self) -> str:
        """Return a hash of the lib's Python files, on which the kernel's settings may depend."""
        files = (f for f in sorted(self.lib.rglob("*.py")) if self.lib / "ship" not in f.parents)
        return sha256("".join(f"{file} {sha256(file)}" for file in files).encode())

    def show_config(self, text: str) -> dict[str, Any]:
        """Return what a kernel's --show-config prints, run as Kaggle would run it.

        It sees the lib as a mounted dataset, and none of the environment's credentials. Raise
        Problem with its words when it refuses its settings.
        """
        kept_out = shutil.ignore_patterns(
            "ship", "sample", "wheels", "__pycache__", ".*", "*.h5", "*.part"
        )
        with tempfile.TemporaryDirectory() as root:
            shutil.copytree(self.lib, Path(root, "input", "lib"), ignore=kept_out)
            script = Path(root, "src", "script.py")
            write_atomically(script, text)
            environment = {k: v for k, v in os.environ.items() if not k.startswith("KAGGLE_")}
            environment |= {"KAGGLE_ROOT": root, "KAGGLE_KERNEL_RUN_TYPE": "Batch"}
            environment["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the internet for news
            command = [sys.executable, "-P", str(script), "--show-config"]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=300, env=environment, cwd=root
                )
                if done.returncode == 0:
                    return json.loads(done.stdout)
            except subprocess.TimeoutExpired:
                raise Problem(f"{self.code.name} --show-config did not end in 5 minutes.") from None
            except ValueError:
                raise Problem(f"{self.code.name} --show-config did not print JSON.") from None
        words = (done.stderr or done.stdout).strip().splitlines()
        reason = words[-1] if words else f"exit status {done.returncode}"
        raise Problem(f"{self.code.name} refuses its settings: {reason}")

    def commit(self) -> str:
        """Return the git commit that is checked out, with "+" after it when files differ."""

        def git(*arguments: str) -> str:
            command = ["git", "-C", str(self.root), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
            return done.stdout.strip()

        try:
            return git("rev-parse", "--short=10", "HEAD") + "+" * bool(git("status", "--porcelain"))
        except (OSError, subprocess.SubprocessError):
            return ""


def kernel_faults(values: dict[str, Any], project: Project) -> list[str]:
    """Return what Kaggle, or a run on it, would refuse in kernel-metadata.json."""
    faults = []
    title, slug = str(values.get("title") or ""), values["id"].rpartition("/")[2]
    if not 5 <= len(title) <= 50:
        faults.append(f'"title" must have 5 to 50 characters, {title!r} has {len(title)}')
    if not 5 <= len(slug) <= 50:
        faults.append(f'the slug of "id" must have 5 to 50 characters, {slug!r} has {len(slug)}')
    if slug != slugify(title):
        faults.append(
            f'the slug of "id" must be that of the title: {slugify(title)!r}, not {slug!r}'
        )
    if not (project.root / str(values.get("code_file") or "")).is_file():
        faults.append(f'"code_file" names {values.get("code_file")!r}, which is not there')
    required = {
        "language": ("python",),
        "kernel_type": ("script",),
        "is_private": (True, "true"),
        "enable_gpu": (True, "true"),
        "enable_internet": (False, "false"),
    }
    for name, allowed in required.items():
        if values.get(name) not in allowed:
            faults.append(f'"{name}" must be {json.dumps(allowed[0])}, not {values.get(name)!r}')
    if len(values.get("competition_sources") or []) != 1:
        faults.append('"competition_sources" must name one competition')
    if project.dataset_metadata["id"] not in (values.get("dataset_sources") or []):
        faults.append(f'"dataset_sources" must hold {project.dataset_metadata["id"]!r}')
    return faults


def dataset_faults(values: dict[str, Any]) -> list[str]:
    """Return what `kaggle datasets create` or Kaggle would refuse in dataset-metadata.json."""
    faults = []
    title, slug = str(values.get("title") or ""), values["id"].rpartition("/")[2]
    if not 6 <= len(title) <= 50:
        faults.append(f'"title" must have 6 to 50 characters, {title!r} has {len(title)}')
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{4,48}[a-z0-9]", slug):
        faults.append(f'the slug of "id" must be 6 to 50 of a-z, 0-9 and dashes, not {slug!r}')
    licenses = values.get("licenses")
    names = [entry.get("name") for entry in licenses] if isinstance(licenses, list) else []
    if len(names) != 1:
        faults.append(f'"licenses" must hold exactly one license, not {len(names)}')
    elif names[0] not in LICENSES:
        faults.append(f"Kaggle knows no license {names[0]!r} (MIT, CC0-1.0, ... are known)")
    subtitle = values.get("subtitle")
    if subtitle and not 20 <= len(subtitle) <= 80:
        faults.append(f'"subtitle" must have 20 to 80 characters, not {len(subtitle)}')
    return faults


def code_faults(text: str) -> list[str]:
    """Return why a script does not compile."""
    try:
        ast.parse(text)
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    return []
