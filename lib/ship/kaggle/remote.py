"""What `ship` asks Kaggle, and what the answers mean."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kernelkit.core.problem import Problem
from ship.kaggle.client_process import ClientProcess, Refused
from ship.kaggle.credentials import Credentials
from ship.kaggle.response_schemas import NAME, SCHEMAS, SERVICE_OF, loads, schema_error

PAGE = 100  # entries of a list that are asked for at once
HIDDEN = (403, 404)  # HTTP statuses of what is not there, not there yet, or somebody else's


class Remote(ClientProcess):
    """Kaggle: each method is a question, or something to be done there.

    Each raises Refused, Unavailable and Problem as `call` does.
    """

    def post(self, method: str, what: str, **fields: Any) -> dict:
        """Call a method of the API by its name, and return the JSON object of its answer."""
        service = SERVICE_OF[method]
        schema = SCHEMAS[service][method]
        request = {"service": service, "method": method, "fields": fields}
        return self.call("post", what, lambda answer: schema_error(answer, schema), **request)

    def entries(self, method: str, key: str, what: str, **fields: Any) -> Iterator[dict]:
        """Yield the entries of a list, which lie at `key` of each of its pages."""
        for page in self.pages(method, what, **fields):
            yield from page.get(key) or []

    def pages(self, method: str, what: str, **fields: Any) -> Iterator[dict]:
        """Yield all pages of a list; Problem where Kaggle repeats a page."""
        seen, token = set(), ""
        while True:
            after = {"pageToken": token} if token else {}
            page = self.post(method, what, **fields, pageSize=PAGE, **after)
            yield page
            token = page.get("nextPageToken") or ""
            if token in seen:
                raise Problem(
                    f"Kaggle lists the same page of {what} over and over; try again later."
                )
            if not token:
                return
            seen.add(token)

    def username(self) -> str:
        """Return the name of the user to whom the credentials belong."""
        name = self.call("login", "your user name")["username"]
        if not name:
            found = Credentials.find(self.environment)
            if found.kind in ("", "API token"):
                raise Problem(found.advice())
            raise Problem(
                "your credentials have no user name: renew them with `kaggle auth login`."
            )
        if not NAME.fullmatch(name):
            raise Problem(f"the credentials are of {name!r}, which is no user name of Kaggle's.")
        return name

    def dataset(self, ref: str) -> tuple[int, dict[int, str]] | None:
        """Return a dataset's current version and the notes of each; None when there is none."""
        try:
            found = self.post("GetDataset", f"dataset {ref}", **_dataset_fields(ref))
        except Refused as refusal:
            if refusal.status != 404:
                raise
            return None
        versions = found.get("versions") or []
        notes = {v.get("versionNumber") or 0: v.get("versionNotes") or "" for v in versions}
        return found.get("currentVersionNumber") or 1, notes

    def dataset_status(self, ref: str) -> str:
        """Return a dataset's status word, "" when Kaggle gave none."""
        answer = self.post("GetDatasetStatus", f"dataset {ref}", **_dataset_fields(ref))
        return (answer.get("status") or "").upper()

    def dataset_files(self, ref: str, version: int) -> list[tuple[str, int]]:
        """Return the names and the sizes in bytes of the files of a dataset's version."""
        fields = _dataset_fields(ref) | {"datasetVersionNumber": version}
        files = self.entries("ListDatasetFiles", "datasetFiles", f"the files of {ref}", **fields)
        return [_name_and_size(file) for file in files]

    def kernel(self, ref: str) -> tuple[int, str] | None:
        """Return a kernel's newest version and its source; None when Kaggle does not show it.

        Kaggle answers 403 for a kernel that is not there, also to its would-be owner.
        """
        return unless_hidden(lambda: self.kernel_version(ref, 0)[:2], None)

    def source(self, ref: str, version: int) -> str:
        """Return the source of a kernel's version."""
        return self.kernel_version(ref, version)[1]

    def kernel_version(self, ref: str, version: int) -> tuple[int, str, list[str]]:
        """Return the newest version's number, and source and competitions of a version, 0 for it.

        Raises Refused where Kaggle does not show it.
        """
        what = f"version {version} of kernel {ref}" if version else f"kernel {ref}"
        found = self.post("GetKernel", what, **_run_fields(ref, version))
        metadata, blob = found.get("metadata") or {}, found.get("blob") or {}
        competitions = metadata.get("competitionDataSources") or []
        return metadata.get("currentVersionNumber") or 0, blob.get("source") or "", competitions

    def own_kernels(self, owner: str) -> list[str]:
        """Return a user's kernels as "owner/slug", the newest first."""
        fields = {"user": owner, "group": "PROFILE", "sortBy": "DATE_CREATED"}
        kernels = self.entries("ListKernels", "kernels", "your kernels", **fields)
        return [kernel.get("ref") or "" for kernel in kernels]

    def cancel(self, session: int) -> str:
        """Ask Kaggle to end a session; return why it does not, "" when it will."""
        what = f"the end of session {session}"
        answer = self.post("CancelKernelSession", what, kernelSessionId=session)
        return answer.get("errorMessage") or ""

    def run_status(self, ref: str, version: int) -> tuple[str, str]:
        """Return a run's status word ("" when Kaggle gave none) and its failure message."""
        what = f"the status of {ref} version {version}"
        answer = self.post("GetKernelSessionStatus", what, **_run_fields(ref, version))
        failure = " ".join((answer.get("failureMessage") or "").split())
        return (answer.get("status") or "").upper(), failure

    def run_output(self, ref: str, version: int) -> tuple[list[tuple[str, str]], list[dict]]:
        """Return a run's output files as (name, URL), and the entries of its log."""
        what = f"the output of {ref} version {version}"
        files, log = [], ""
        for page in self.pages("ListKernelSessionOutput", what, **_run_fields(ref, version)):
            listed = page.get("files") or []
            files += [(file.get("fileName") or "", file.get("url") or "") for file in listed]
            log = log or page.get("log") or ""
        return files, log_entries(log)

    def submissions(self, competition: str) -> Iterator[dict]:
        """Yield the submissions to a competition, newest first."""
        fields = {"sortBy": "SUBMISSION_SORT_BY_DATE", "group": "SUBMISSION_GROUP_ALL"}
        fields["competitionName"] = competition
        return self.entries("ListSubmissions", "submissions", "your submissions", **fields)

    def submissions_left(self, competition: str) -> dict:
        """Return numToday, numTotal and numAllowedNow of a competition."""
        what = "your submission limits"
        return self.post("GetSubmissionLimits", what, competitionName=competition)

    def data_files(self, competition: str, most: int | None = None) -> list[tuple[str, int]]:
        """Return names and sizes in bytes of a competition's data files, or of the first."""
        what = f"the data of {competition}"
        files = self.entries("ListDataFiles", "files", what, competitionName=competition)
        return [_name_and_size(file) for file in itertools.islice(files, most)]

    def model(self, ref: str) -> dict:
        """Return what Kaggle tells of the model "owner/slug"."""
        owner, slug = ref.split("/")
        return self.post("GetModel", f"model {ref}", ownerSlug=owner, modelSlug=slug)

    def model_variation(self, handle: str) -> dict:
        """Return versionNumber, the newest, of a variation "owner/model/framework/variation"."""
        fields = _model_fields(f"{handle}/0")
        del fields["versionNumber"]
        return self.post("GetModelInstance", f"model {handle}", **fields)

    def model_files(self, handle: str) -> list[tuple[str, int]]:
        """Return names and sizes in bytes of a model's files; Refused without access."""
        method, what = "ListModelInstanceVersionFiles", f"the model {handle}"
        files = self.entries(method, "files", what, **_model_fields(handle))
        return [(file.get("name") or "", file.get("size") or 0) for file in files]

    def download_model(self, handle: str, name: str, path: Path) -> str:
        """Download a file of a model's version; return its MD5, "" where Kaggle tells none.

        It goes on from what is there at `path`.
        """
        fields = _model_fields(handle) | {"path": name}
        what = f"{name} of {handle}"
        return self.call("download_model", what, fields=fields, path=str(path))

    def competition(self, competition: str) -> dict:
        """Return what Kaggle tells of a competition: evaluationMetric, and more."""
        return self.post("GetCompetition", competition, competitionName=competition)

    def quota(self) -> dict:
        """Return quotaRefreshTime and gpuQuota {timeUsed, timeReserved, totalTimeAllowed}."""
        return self.post("GetAcceleratorQuotaStatistics", "your GPU quota")


def unless_hidden(ask: Callable[[], Any], otherwise: Any) -> Any:
    """Ask Kaggle something; return `otherwise` where it answers 403 or 404."""
    try:
        return ask()
    except Refused as refusal:
        if refusal.status not in HIDDEN:
            raise
        return otherwise


def _dataset_fields(ref: str) -> dict[str, Any]:
    owner, slug = ref.split("/")
    return {"ownerSlug": owner, "datasetSlug": slug}


def _run_fields(ref: str, version: int) -> dict[str, str]:
    """Return the fields that name a kernel's version in a request, the newest one for 0."""
    owner, slug = ref.split("/")
    fields = {"userName": owner, "kernelSlug": slug}
    # Kaggle answers 404 for a version label that is a bare number.
    return fields | ({"versionLabel": f"v{version}"} if version else {})


def _model_fields(handle: str) -> dict[str, Any]:
    owner, model, framework, variation, version = handle.split("/")
    fields = {"ownerSlug": owner, "modelSlug": model, "instanceSlug": variation}
    enum = f"MODEL_FRAMEWORK_{framework.upper()}"  # as the API writes "keras", "jax", "onnx", ...
    return fields | {"framework": enum, "versionNumber": int(version)}


def _name_and_size(file: dict) -> tuple[str, int]:
    return file.get("name") or "", file.get("totalBytes") or 0


def log_entries(log: str) -> list[dict]:
    """Return the entries {stream_name, time, data} of a run's log.

    A log that is no JSON is taken as plain text, whose entries have only `data`.
    """
    try:
        entries = loads(log)
    except ValueError:
        return [{"data": line + "\n"} for line in log.splitlines()]
    listed = entries if isinstance(entries, list) else []
    return [entry for entry in listed if isinstance(entry, dict)]
