"""Kaggle Models of the loopback Kaggle: models, their variations, and versions made of uploads.

A version is named by its handle `owner/model/framework/variation/version`. The user's own come from
uploads; those of others are folders on this machine, which `Settings.models` names.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .datasets import list_files, unpack
from .store import ApiError, Settings, Store, iso, now, page_of

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
        """Return the address of one file of a version."""
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
                "title": request["title"],
                "description": request.get("description") or "",
                "private": bool(request.get("isPrivate")),
                "variations": {},
            }
        return _made(ref)

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
            model["variations"][key] = {"versions": []}
            return self._add_version(request, key, body["files"], "Initial release")

    def CreateModelInstanceVersion(self, request: dict) -> dict:
        """Add a version that holds only the given files."""
        self._variation(request)
        body = request.get("body") or {}
        if not body.get("files"):
            return {"error": "A version needs at least one file"}
        with self._store.changing():
            notes = body.get("versionNotes") or ""
            return self._add_version(request, _key(request), body["files"], notes)

    def GetModel(self, request: dict) -> dict:
        """Describe one of the user's models."""
        model = self._own(request)
        about = {name: model[name] for name in ("title", "description")}
        return {**_made(_ref(request)), **about, "isPrivate": model["private"]}

    def GetModelInstance(self, request: dict) -> dict:
        """Tell the newest version of a variation of one of the user's models."""
        ready = self._ready(self._variation(request))
        newest = max((version["number"] for version in ready), default=0)
        return {"slug": request["instanceSlug"], "versionNumber": newest}

    def mounted(self, handle: str) -> Path | None:
        """Return the folder of a version's files; None where the user can't attach it."""
        try:
            return self._folder(_normal(handle)) if handle.count("/") == 4 else None
        except ApiError:
            return None

    def file(self, name: str) -> Path:
        """Return a file of a version; ApiError 404 for any other."""
        parts = name.split("/")
        handle, inner = "/".join(parts[:5]), "/".join(parts[5:])
        folder = self._folder(handle)
        path = (folder / inner).resolve()
        if not path.is_file() or not path.is_relative_to(folder):
            raise ApiError(404, f"{handle} has no file {inner}")
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
        variation = self._own(request)["variations"].get(_key(request))
        if variation is None:
            raise ApiError(404, f"Model {_ref(request)} has no variation {_key(request)}")
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
        versions.append({"number": number, "created": now(), "notes": notes})
        return _made(f"{ref}/{key}/{number}")


def _made(ref: str) -> dict:
    return {"ref": ref, "url": f"https://www.kaggle.com/models/{ref}"}


def _framework(name: str) -> str:
    """Return a framework's name as a handle has it, in lower case."""
    return name.removeprefix(PREFIX).replace("_", "").lower()


def _ref(request: dict) -> str:
    return f"{request.get('ownerSlug')}/{request.get('modelSlug')}"


def _key(request: dict) -> str:
    """Return the "framework/slug" of the variation that a request names."""
    return f"{_framework(request.get('framework') or '')}/{request.get('instanceSlug')}"


def _handle(request: dict) -> str:
    """Return the handle of the version that a request names."""
    return f"{_ref(request)}/{_key(request)}/{request.get('versionNumber') or ''}"


def _normal(handle: str) -> str:
    """Return a handle with its framework in lower case, as models are mounted."""
    parts = handle.split("/")
    return "/".join([*parts[:2], *map(_framework, parts[2:3]), *parts[3:]])
