"""Kaggle Models of the loopback Kaggle: models, their variations, and versions made of uploads.

A version is named by its handle `owner/model/framework/variation/version`. The user's own come from
uploads; those of others are folders on this machine, which `Settings.models` names.
"""

import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .datasets import list_files, unpack
from .settings import Settings
from .store import ApiError, Store, iso, now, page_of

PREFIX = "MODEL_FRAMEWORK_"
"""Of a framework in requests and answers: MODEL_FRAMEWORK_PY_TORCH is pytorch in a handle."""
SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class Models:
    """The methods of `ModelApiService`; the capitalized methods are those of the API."""

    def __init__(self, store: Store, settings: Settings, file_url: Callable[[str, str], str]):
        self._store, self._settings, self._file_url = store, settings, file_url
        self._models = store.state.setdefault("models", {})
        self._published = {
            _normal(handle): Path(folder).resolve(strict=True)
            for handle, folder in settings.models.items()
        }

    def ListModelInstanceVersionFiles(self, request: dict) -> dict:
        """List the files of a version, where none is named of the user's newest one."""
        folder = self._folder(_handle(request))
        files, next_page = page_of(list_files(folder), request)
        created = iso(folder.stat().st_mtime)
        return {"files": [{**file, "creationDate": created} for file in files], **next_page}

    def DownloadModelInstanceVersion(self, request: dict) -> str:
        """Return the address of one file of a version, or of a .tar.gz with all of them."""
        name = "/".join([_handle(request), request.get("path") or ""])
        self.file(name)
        return self._file_url("model", name)

    def CreateModel(self, request: dict) -> dict:
        """Make a model without variations, or answer with an error."""
        owner, slug = request.get("ownerSlug"), request.get("slug") or ""
        self._refuse_others(owner)
        if not SLUG.fullmatch(slug):
            return {"error": f"The model slug {slug!r} is invalid"}
        if not request.get("title"):
            return {"error": "A model needs a title"}
        ref = f"{owner}/{slug}"
        if ref in self._models:
            return {"error": f"The model slug {slug} is already in use"}
        with self._store.changing():
            self._models[ref] = {
                "id": len(self._models) + 1,
                "title": request["title"],
                "subtitle": request.get("subtitle") or "",
                "description": request.get("description") or "",
                "private": bool(request.get("isPrivate")),
                "variations": {},
            }
        return self._made(ref, self._models[ref]["id"])

    def CreateModelInstance(self, request: dict) -> dict:
        """Make a variation of a model and its first version, or answer with an error."""
        model, body = self._own(request), request.get("body") or {}
        framework, slug = body.get("framework") or "", body.get("instanceSlug") or ""
        key = f"{_framework(framework)}/{slug}"
        if not _framework(framework) or not SLUG.fullmatch(slug):
            return {"error": f"The variation {key!r} is invalid"}
        if key in model["variations"]:
            return {"error": f"The variation {key} is already there"}
        if not body.get("licenseName") or not body.get("files"):
            return {"error": "A variation needs a license and at least one file"}
        with self._store.changing():
            model["variations"][key] = {
                "framework": framework,
                "license": body["licenseName"],
                "versions": [],
            }
            return self._add_version(request, key, body["files"], "Initial release")

    def CreateModelInstanceVersion(self, request: dict) -> dict:
        """Add a version that holds only the given files."""
        variation, body = self._variation(request), request.get("body") or {}
        if not body.get("files"):
            return {"error": "A version needs at least one file"}
        with self._store.changing():
            key = f"{_framework(variation['framework'])}/{request['instanceSlug']}"
            return self._add_version(request, key, body["files"], body.get("versionNotes") or "")

    def GetModel(self, request: dict) -> dict:
        """Describe one of the user's models."""
        return self._describe(_ref(request), self._own(request))

    def GetModelInstance(self, request: dict) -> dict:
        """Describe a variation of one of the user's models, and its newest version."""
        return self._describe_variation(request["instanceSlug"], self._variation(request))

    def ListModelInstanceVersions(self, request: dict) -> dict:
        """List the versions of a variation, the newest first."""
        variation = self._variation(request)
        page, next_page = page_of(self._ready(variation)[::-1], request)
        listed = [
            {
                "id": version["id"],
                "versionNumber": version["number"],
                "variationSlug": request["instanceSlug"],
                "framework": variation["framework"],
                "ownerSlug": request["ownerSlug"],
                "modelSlug": request["modelSlug"],
            }
            for version in page
        ]
        return {"versionList": {"versions": listed}, **next_page}

    def mounted(self, handle: str) -> Path | None:
        """Return the folder of a version's files; None where the user can't attach it."""
        try:
            return self._folder(_normal(handle)) if handle.count("/") == 4 else None
        except ApiError:
            return None

    def file(self, name: str) -> Path:
        """Return a file of a version, or an archive of all of them; ApiError 404 for others."""
        parts = name.split("/")
        handle, inner = "/".join(parts[:5]), "/".join(parts[5:])
        folder = self._folder(handle)
        if not inner:
            return self._archive(handle, folder)
        path = (folder / inner).resolve()
        if not path.is_file() or not path.is_relative_to(folder):
            raise ApiError(404, f"{handle} has no file {inner}")
        return path

    def _archive(self, handle: str, folder: Path) -> Path:
        path = self._store.path("archives", f"{handle.replace('/', '-')}.tar.gz")
        if not path.exists():
            with tarfile.open(path, "w:gz", compresslevel=1) as archive:
                for file in list_files(folder):
                    archive.add(folder / file["name"], file["name"])
        return path

    def _refuse_others(self, owner: str | None) -> None:
        if owner != self._settings.user:
            raise ApiError(403, "Permission on the model was denied")

    def _own(self, request: dict) -> dict[str, Any]:
        """Return a model of the user; refuse one that is another's or does not exist."""
        if _ref(request) not in self._models:
            self._refuse_others(request.get("ownerSlug"))
            raise ApiError(404, f"Model {_ref(request)} not found")
        return self._models[_ref(request)]

    def _variation(self, request: dict) -> dict[str, Any]:
        key = f"{_framework(request.get('framework') or '')}/{request.get('instanceSlug')}"
        variation = self._own(request)["variations"].get(key)
        if variation is None:
            raise ApiError(404, f"Model {_ref(request)} has no variation {key}")
        return variation

    def _ready(self, variation: dict) -> list[dict]:
        """Return the versions of a variation that Kaggle has processed."""
        delay = self._settings.dataset_delay
        return [v for v in variation["versions"] if now() - v["created"] >= delay]

    def _folder(self, handle: str) -> Path:
        """Return the folder of a version's files.

        Raises:
            ApiError: 403 without the consent that a model needs, 404 for an unknown version.
        """
        owner, model, framework, slug, number = [*handle.split("/"), *[""] * 5][:5]
        if f"{owner}/{model}" in self._settings.gated:
            raise ApiError(403, "You must accept the license of this model before you can use it")
        if handle in self._published:
            return self._published[handle]
        variations = self._models.get(f"{owner}/{model}", {"variations": {}})["variations"]
        ready = self._ready(variations.get(f"{framework}/{slug}", {"versions": []}))
        wanted = number or str(max((v["number"] for v in ready), default=""))
        if wanted not in [str(version["number"]) for version in ready]:
            raise ApiError(404, f"Model version {handle} not found")
        return self._store.path("models", owner, model, framework, slug, wanted)

    def _add_version(self, request: dict, key: str, files: list[dict], notes: str) -> dict:
        """Unpack the uploads as the next version of a variation, while the state is changing."""
        ref = _ref(request)
        versions = self._models[ref]["variations"][key]["versions"]
        number = len(versions) + 1
        folder = self._store.path("models", *ref.split("/"), *key.split("/"), number)
        unpack(self._store, [file.get("token") or "" for file in files], folder)
        identity = 1 + sum(len(v["versions"]) for v in self._variations())
        made = {"number": number, "id": identity, "created": now(), "notes": notes}
        versions.append(made)
        return self._made(f"{ref}/{key}/{number}", identity)

    def _variations(self) -> list[dict[str, Any]]:
        return [v for model in self._models.values() for v in model["variations"].values()]

    def _made(self, ref: str, identity: int) -> dict:
        return {"id": identity, "ref": ref, "url": f"https://www.kaggle.com/models/{ref}"}

    def _describe(self, ref: str, model: dict) -> dict:
        variations = model["variations"].items()
        return {
            **self._made(ref, model["id"]),
            "slug": ref.split("/")[1],
            "author": self._settings.user,
            "isPrivate": model["private"],
            "instances": [self._describe_variation(k.split("/")[1], v) for k, v in variations],
            **{name: model[name] for name in ("title", "subtitle", "description")},
        }

    def _describe_variation(self, slug: str, variation: dict) -> dict:
        newest = max((v["number"] for v in self._ready(variation)), default=0)
        shown = {"framework": variation["framework"], "licenseName": variation["license"]}
        identity = self._variations().index(variation) + 1
        return {"id": identity, "slug": slug, "versionNumber": newest, **shown}


def _framework(name: str) -> str:
    """Return a framework's name as a handle has it, in lower case."""
    return name.removeprefix(PREFIX).replace("_", "").lower()


def _ref(request: dict) -> str:
    return f"{request.get('ownerSlug')}/{request.get('modelSlug')}"


def _handle(request: dict) -> str:
    """Return the handle of the version that a request names."""
    framework, number = _framework(request.get("framework") or ""), request.get("versionNumber")
    return f"{_ref(request)}/{framework}/{request.get('instanceSlug')}/{number or ''}"


def _normal(handle: str) -> str:
    """Return a handle with its framework in lower case, as models are mounted."""
    parts = handle.split("/")
    return "/".join([*parts[:2], *map(_framework, parts[2:3]), *parts[3:]])
