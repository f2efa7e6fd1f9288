"""What `ship` asks Kaggle, and what the answers mean."""

from collections.abc import Iterator

from kernelkit.core.problem import Problem
from ship.kaggle.client_process import ClientProcess, Refused
from ship.kaggle.credentials import Credentials
from ship.kaggle.response_schemas import NAME, SCHEMAS, loads, schema_error

KERNELS = "kernels.KernelsApiService"
DATASETS = "datasets.DatasetApiService"
COMPETITIONS = "competitions.CompetitionApiService"
PAGE = 100
"""How many entries of a list are asked for at once."""


class Remote(ClientProcess):
    """Kaggle: each method is a question, or something to be done there."""

    def post(self, service: str, method: str, what: str, **fields) -> dict:
        """Call a method of the API by its name, and return the JSON object of its answer.

        Raises:
            Unavailable: there is no answer of the shape that Kaggle gives to such calls.
            Problem: the reasons of `call`.
        """
        return self.call(
            "post",
            what,
            lambda answer: schema_error(answer, SCHEMAS[method]),
            service=service,
            method=method,
            fields=fields,
        )

    def pages(self, service: str, method: str, what: str, **fields) -> Iterator[dict]:
        """Yield all pages of a list.

        Raises:
            Problem: Kaggle repeats a page.
        """
        seen = set()
        token = ""
        while True:
            page = self.post(
                service, method, what, **fields, **({"pageToken": token} if token else {})
            )
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

    def dataset(self, ref: str) -> tuple[int, list[dict]] | None:
        """Return a dataset's current version and its list of versions; None when there is none."""
        owner, slug = ref.split("/")
        try:
            found = self.post(
                DATASETS, "GetDataset", f"dataset {ref}", ownerSlug=owner, datasetSlug=slug
            )
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise
        return found.get("currentVersionNumber") or 1, found.get("versions") or []

    def dataset_status(self, ref: str) -> str:
        """Return a dataset's status word, "" when Kaggle gave none."""
        owner, slug = ref.split("/")
        answer = self.post(
            DATASETS, "GetDatasetStatus", f"dataset {ref}", ownerSlug=owner, datasetSlug=slug
        )
        return str(answer.get("status") or "").upper()

    def dataset_files(self, ref: str, version: int) -> list[tuple[str, int]]:
        """Return the names and the sizes in bytes of the files of a dataset's version."""
        owner, slug = ref.split("/")
        fields = {"ownerSlug": owner, "datasetSlug": slug, "datasetVersionNumber": version}
        pages = self.pages(
            DATASETS, "ListDatasetFiles", f"the files of {ref}", pageSize=PAGE, **fields
        )
        return [
            (file.get("name") or "", file.get("totalBytes") or 0)
            for page in pages
            for file in page.get("datasetFiles") or []
        ]

    def kernel(self, ref: str) -> tuple[int, str] | None:
        """Return a kernel's newest version and its source; None when Kaggle does not show it.

        Kaggle answers 403 for a kernel that is not there, also to its would-be owner.
        """
        try:
            return self._kernel(ref)[:2]
        except Refused as refusal:
            if refusal.status in (403, 404):
                return None
            raise

    def source(self, ref: str, version: int) -> str:
        """Return the source of a kernel's version.

        Raises:
            Refused: Kaggle does not show it.
        """
        return self._kernel(ref, version)[1]

    def competition_of(self, ref: str, version: int) -> str:
        """Return the slug of the one competition that a kernel's version has attached, or ""."""
        attached = self._kernel(ref, version)[2]
        return attached[0] if len(attached) == 1 else ""

    def _kernel(self, ref: str, version: int = 0) -> tuple[int, str, list[str]]:
        owner, slug = ref.split("/")
        what = f"version {version} of kernel {ref}" if version else f"kernel {ref}"
        fields = run_fields(ref, version) if version else {"userName": owner, "kernelSlug": slug}
        found = self.post(KERNELS, "GetKernel", what, **fields)
        metadata, blob = found.get("metadata") or {}, found.get("blob") or {}
        competitions = metadata.get("competitionDataSources") or []
        number = metadata.get("currentVersionNumber") or 0
        return number, blob.get("source") or "", competitions

    def own_kernels(self, owner: str) -> list[str]:
        """Return a user's kernels as "owner/slug", the newest first."""
        pages = self.pages(
            KERNELS,
            "ListKernels",
            "your kernels",
            user=owner,
            group="PROFILE",
            sortBy="DATE_CREATED",
            pageSize=PAGE,
        )
        return [kernel.get("ref") or "" for page in pages for kernel in page.get("kernels") or []]

    def cancel(self, session: int) -> str:
        """Ask Kaggle to end a session; return why it does not, "" when it will."""
        what = f"the end of session {session}"
        answer = self.post(KERNELS, "CancelKernelSession", what, kernelSessionId=session)
        return answer.get("errorMessage") or ""

    def run_status(self, ref: str, version: int) -> tuple[str, str]:
        """Return a run's status word ("" when Kaggle gave none) and its failure message."""
        what = f"the status of {ref} version {version}"
        answer = self.post(KERNELS, "GetKernelSessionStatus", what, **run_fields(ref, version))
        failure = " ".join((answer.get("failureMessage") or "").split())
        return str(answer.get("status") or "").upper(), failure

    def run_output(self, ref: str, version: int) -> tuple[list[tuple[str, str]], list[dict]]:
        """Return a run's output files as (name, URL), and the entries of its log."""
        what = f"the output of {ref} version {version}"
        fields = run_fields(ref, version) | {"pageSize": PAGE}
        pages = self.pages(KERNELS, "ListKernelSessionOutput", what, **fields)
        files, log = [], ""
        for page in pages:
            files += [
                (file.get("fileName") or "", file.get("url") or "")
                for file in page.get("files") or []
            ]
            log = log or page.get("log") or ""
        return files, log_entries(log)

    def submissions(self, competition: str) -> Iterator[dict]:
        """Yield the submissions to a competition, newest first."""
        pages = self.pages(
            COMPETITIONS,
            "ListSubmissions",
            "your submissions",
            competitionName=competition,
            sortBy="SUBMISSION_SORT_BY_DATE",
            group="SUBMISSION_GROUP_ALL",
            pageSize=PAGE,
        )
        for page in pages:
            yield from page.get("submissions") or []

    def submissions_left(self, competition: str) -> dict:
        """Return numToday, numTotal and numAllowedNow of a competition."""
        return self.post(
            COMPETITIONS,
            "GetSubmissionLimits",
            "your submission limits",
            competitionName=competition,
        )

    def data_files(self, competition: str) -> list[str]:
        """Return the names of a competition's data files.

        Raises:
            Refused: there is no such competition, or its rules are not accepted.
        """
        pages = self.pages(
            COMPETITIONS,
            "ListDataFiles",
            f"the data of {competition}",
            competitionName=competition,
            pageSize=PAGE,
        )
        return [file.get("name") or "" for page in pages for file in page.get("files") or []]

    def some_data_files(self, competition: str, most: int) -> tuple[list[tuple[str, int]], bool]:
        """Return the first names and sizes in bytes of a competition's data files.

        Args:
            competition: its slug.
            most: names after which no further page is asked for.

        Returns:
            Them, and whether these are all.

        Raises:
            Refused: there is no such competition, or its rules are not accepted.
        """
        what, files = f"the data of {competition}", []
        fields = {"competitionName": competition, "pageSize": PAGE}
        for page in self.pages(COMPETITIONS, "ListDataFiles", what, **fields):
            if len(files) >= most:
                return files, False
            listed = page.get("files") or []
            files += [(file.get("name") or "", file.get("totalBytes") or 0) for file in listed]
        return files, True

    def competition(self, competition: str) -> dict:
        """Return what Kaggle tells of a competition: evaluationMetric, and more."""
        return self.post(COMPETITIONS, "GetCompetition", competition, competitionName=competition)

    def quota(self) -> dict:
        """Return quotaRefreshTime and gpuQuota {timeUsed, timeReserved, totalTimeAllowed}."""
        return self.post(KERNELS, "GetAcceleratorQuotaStatistics", "your GPU quota")


def run_fields(ref: str, version: int) -> dict[str, str]:
    """Return the fields that name the run of a kernel's version in a request."""
    owner, slug = ref.split("/")
    # Kaggle answers 404 for a version label that is a bare number.
    return {"userName": owner, "kernelSlug": slug, "versionLabel": f"v{version}"}


def log_entries(log: str) -> list[dict]:
    """Return the entries {stream_name, time, data} of a run's log.

    A log that is no JSON is taken as plain text, whose entries have only `data`.
    """
    try:
        entries = loads(log)
    except ValueError:
        return [{"data": line + "\n"} for line in log.splitlines()]
    return (
        [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    )
