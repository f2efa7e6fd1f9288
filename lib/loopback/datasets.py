"""Datasets of the loopback Kaggle: versions made of uploads, which are unpacked as at Kaggle."""

import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from .store import ApiError, Settings, Store, page_of

# The status words that a version passes through, in order.
STATUSES = ("BLOBS_RECEIVED", "BLOBS_DECOMPRESSED", "BLOBS_COPIED_TO_SDS", "READY")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


class Datasets:
    """The methods of `DatasetApiService`; the capitalized methods are those of the API."""

    def __init__(self, store: Store, settings: Settings):
        self._store, self._settings = store, settings

    def GetDatasetStatus(self, request: dict) -> dict:
        """Return the newest version's status."""
        return {"status": self._dataset(request)["versions"][-1]["status"]}

    def GetDataset(self, request: dict) -> dict:
        """Describe a dataset and its newest version."""
        dataset = self._dataset(request)
        versions = dataset["versions"]
        shown = [{"versionNumber": v["number"], "versionNotes": v["notes"]} for v in versions]
        return {
            "ref": dataset["ref"],
            "title": dataset["title"],
            "isPrivate": dataset["private"],
            "currentVersionNumber": versions[-1]["number"],
            "versions": shown,
        }

    def ListDatasetFiles(self, request: dict) -> dict:
        """List the files of a version, as unpacked, by their path in the dataset."""
        dataset = self._dataset(request)
        number = request.get("datasetVersionNumber") or dataset["versions"][-1]["number"]
        version = next((v for v in dataset["versions"] if v["number"] == number), None)
        if version is None:
            raise ApiError(404, f"{dataset['ref']} has no version {number}")
        files, next_page = page_of(version["files"], request)
        listed = [{"name": file["name"], "totalBytes": file["size"]} for file in files]
        return {"datasetFiles": listed, **next_page}

    def CreateDataset(self, request: dict) -> dict:
        """Make a dataset and its first version, or answer with an error."""
        slug, title = request.get("slug") or "", request.get("title") or ""
        ref = f"{request.get('ownerSlug') or self._settings.user}/{slug}"
        problem = self._problem_with_new(ref, slug, title, request)
        if problem:
            return {"status": "error", "error": problem}
        tokens = self._finished(request["files"])
        with self._store.changing() as state:
            private = bool(request.get("isPrivate"))
            new = {"ref": ref, "title": title, "private": private, "versions": []}
            state["datasets"][ref] = new
            return self._add_version(ref, tokens, "Initial release")

    def CreateDatasetVersion(self, request: dict) -> dict:
        """Add a version that holds only the given files."""
        ref, body = self._dataset(request)["ref"], request.get("body") or {}
        if not body.get("files"):
            return {"status": "error", "error": "A dataset version needs at least one file"}
        tokens = self._finished(body["files"])
        with self._store.changing():
            return self._add_version(ref, tokens, body.get("versionNotes") or "")

    def _problem_with_new(self, ref: str, slug: str, title: str, request: dict) -> str | None:
        if ref.split("/")[0] != self._settings.user:
            raise ApiError(403, "Permission 'datasets.create' was denied")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,48}[a-z0-9]", slug):
            return f"The slug {slug!r} is not 3 to 50 letters, digits and dashes"
        if not 6 <= len(title) <= 50:
            return "The dataset title must be between 6 and 50 characters"
        if not request.get("licenseName"):
            return "A dataset needs a license"
        if ref in self._store.state["datasets"]:
            return f'The requested title "{title}" is already in use by a dataset.'
        if not request.get("files"):
            return "A dataset needs at least one file"
        return None

    def _dataset(self, request: dict) -> dict[str, Any]:
        ref = f"{request.get('ownerSlug')}/{request.get('datasetSlug')}"
        dataset = self._store.state["datasets"].get(ref)
        if dataset is None:
            raise ApiError(404, f"Dataset {ref} not found")
        return dataset

    def _finished(self, files: list[dict]) -> list[str]:
        tokens = [file.get("token") or "" for file in files]
        for token in tokens:
            self._store.finished_blob(token)
        return tokens

    def _add_version(self, ref: str, tokens: list[str], notes: str) -> dict:
        versions = self._store.state["datasets"][ref]["versions"]
        version = {"number": len(versions) + 1, "notes": notes, "tokens": tokens, "files": []}
        version["status"] = "NOT_YET_PERSISTED"
        versions.append(version)
        threading.Thread(target=self._process, args=(ref, version), daemon=True).start()
        return {"ref": ref, "status": "Ok"}

    def _process(self, ref: str, version: dict) -> None:
        folder = self.folder_of(ref, version["number"])
        try:
            for status in STATUSES:
                time.sleep(self._settings.dataset_delay / len(STATUSES))
                if status == "BLOBS_DECOMPRESSED":
                    unpack(self._store, version["tokens"], folder)
                with self._store.changing():
                    version["files"] = list_files(folder)
                    version["status"] = status
        except Exception as error:  # a damaged archive can raise almost any error
            with self._store.changing():
                version.update(status="FAILED", problem=str(error))

    def folder_of(self, ref: str, number: int) -> Path:
        """Return where the unpacked files of a version lie."""
        return self._store.path("datasets", *ref.split("/"), number)

    def mounted(self, ref: str) -> int | None:
        """Return the number of the newest READY version, None when there is none."""
        versions = self._store.state["datasets"].get(ref, {"versions": []})["versions"]
        return max((v["number"] for v in versions if v["status"] == "READY"), default=None)


def unpack(store: Store, tokens: list[str], folder: Path) -> None:
    """Make a folder of the uploads with these tokens, archives unpacked into folders."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for token in tokens:
        name, blob = store.finished_blob(token)
        ending = next((e for e in ARCHIVES if name.lower().endswith(e)), None)
        if ending is None:
            shutil.copyfile(blob, folder / name)
            continue
        kind = {".zip": "zip", ".tar": "tar"}.get(ending, "gztar")
        extra = {} if kind == "zip" else {"filter": "data"}
        shutil.unpack_archive(blob, folder / name[: -len(ending)], kind, **extra)


def list_files(folder: Path) -> list[dict]:
    """Return the path below `folder` and the size of every file, sorted by path."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    files = [{"name": p.relative_to(folder).as_posix(), "size": p.stat().st_size} for p in paths]
    return sorted(files, key=lambda file: file["name"])
