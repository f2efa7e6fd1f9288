"""A loopback Kaggle with one small competition, and a plain client of it, for its tests."""

import io
import json
import time
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from faulty import FaultyLoopback

COMPETITION = "some-cars"
SCRIPT = """
import os, sys
root = os.environ.get("KAGGLE_ROOT", "/kaggle")
for place, _, names in sorted(os.walk(root + "/input")):
    for name in sorted(names):
        print(os.path.join(place, name)[len(root) + 7:])
print("a warning", file=sys.stderr)
os.makedirs(root + "/working/figures")
open(root + "/working/figures/a b.png", "wb").write(bytes(range(256)))
open(root + "/working/submission.csv", "w").write("Id,Category\\na,0\\nb,0\\nc,2\\nd,3\\n")
"""


def make_competition(folder: Path) -> tuple[Path, Path]:
    """Write a competition whose solution lies among its files, and return both."""
    folder.mkdir()
    (folder / "train.csv").write_text("Id,Category\n1.jpg,0\n")
    (folder / "sample-submission.csv").write_text("Id,Category\na,0\nb,0\nc,0\nd,0\n")
    (folder / "solution.csv").write_text("Id,Category\na,0\nb,1\nc,2\nd,3\n")
    (folder / "train").mkdir()
    (folder / "train" / "1.jpg").write_bytes(b"photo")
    return folder, folder / "solution.csv"


def zipped(files: dict[str, str]) -> bytes:
    """Return a zip archive of some texts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def until(question, seconds: float = 20):
    """Ask a question until the answer is true, and return the answer."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return answer


@dataclass
class World:
    """A loopback Kaggle, and a client that shows every answer as it is."""

    kaggle: FaultyLoopback
    folder: Path

    def ask(self, method: str, auth=("alice", "any-key"), **request) -> requests.Response:
        """Call a method of the API."""
        service = {
            "StartBlobUpload": "blobs.BlobApiService",
            "IntrospectToken": "security.OAuthService",
        }.get(method)
        if service is None:
            kinds = {"Dataset": "datasets.Dataset", "Kernel": "kernels.Kernels"}
            kinds["Quota"] = "kernels.Kernels"
            found = [service for word, service in kinds.items() if word in method]
            service = (found or ["competitions.Competition"])[0] + "ApiService"
        url = f"{self.kaggle.url}/api/v1/{service}/{method}"
        with requests.Session() as session:
            session.trust_env = False
            return session.post(url, json=request, auth=auth, timeout=30, allow_redirects=False)

    def get(self, method: str, **request) -> dict:
        """Call a method of the API that succeeds, and return its answer."""
        answer = self.ask(method, **request)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, name: str, data: bytes) -> str:
        """Upload a file and return the token."""
        started = self.get("StartBlobUpload", type="DATASET", name=name, contentLength=len(data))
        answer = requests.put(started["createUrl"], data=data, timeout=30)
        assert answer.status_code == 200, answer.text
        return started["token"]

    def make_dataset(self, files: dict[str, bytes]) -> None:
        """Make the dataset alice/car-lib and wait until it is ready."""
        tokens = [{"token": self.upload(name, data)} for name, data in files.items()]
        made = self.get(
            "CreateDataset",
            ownerSlug="alice",
            slug="car-lib",
            title="car lib",
            licenseName="MIT",
            isPrivate=True,
            files=tokens,
        )
        assert made["status"] == "Ok", made
        until(lambda: self.dataset_status() == "READY")

    def dataset_status(self) -> str:
        """Return the status word of alice/car-lib."""
        return self.get("GetDatasetStatus", ownerSlug="alice", datasetSlug="car-lib")["status"]

    def push(self, text: str = SCRIPT, **changes) -> dict:
        """Push a script and return the answer."""
        request = {
            "slug": "alice/car-kernel",
            "newTitle": "car kernel",
            "text": text,
            "language": "python",
            "kernelType": "script",
            "isPrivate": True,
        }
        return self.get("SaveKernel", **{**request, **changes})

    def status(self, slug: str = "car-kernel", **more) -> dict:
        """Return a run's status and failure message."""
        return self.get("GetKernelSessionStatus", userName="alice", kernelSlug=slug, **more)

    def finish(self, **more) -> dict:
        """Wait until a run has ended and return its status."""
        going = ("QUEUED", "RUNNING")
        return until(lambda: s if (s := self.status(**more))["status"] not in going else None)

    def output(self, slug: str = "car-kernel", **more) -> dict:
        """Return a run's files and log."""
        return self.get("ListKernelSessionOutput", userName="alice", kernelSlug=slug, **more)

    def lines(self, **more) -> list[str]:
        """Return the lines that a run has printed on standard output."""
        log = json.loads(self.output(**more)["log"])
        return [entry["data"].rstrip("\n") for entry in log if entry["stream_name"] == "stdout"]

    def submit(self, text: str, message: str = "") -> dict:
        """Submit a file and return the answer."""
        data = text.encode()
        started = self.get(
            "StartSubmissionUpload",
            competitionName=COMPETITION,
            fileName="submission.csv",
            contentLength=len(data),
        )
        assert requests.put(started["createUrl"], data=data, timeout=30).ok
        return self.get(
            "CreateSubmission",
            competitionName=COMPETITION,
            blobFileTokens=started["token"],
            submissionDescription=message,
        )

    def submission(self, ref: int) -> dict:
        """Wait until a submission is scored or refused, and return it."""
        return until(lambda: s if (s := self.submission_now(ref))["status"] != "PENDING" else None)

    def submission_now(self, ref: int) -> dict:
        """Return a submission as Kaggle lists it now."""
        listed = self.get("ListSubmissions", competitionName=COMPETITION)["submissions"]
        return next(s for s in listed if s["ref"] == ref)


@contextmanager
def world_in(folder: Path, **settings):
    """Open a world whose files lie in a folder."""
    competition = make_competition(folder / "competition")
    quick = {"dataset_delay": 0.05, "queue_delay": 0.02, "scoring_delay": 0.02}
    with FaultyLoopback(
        folder / "kaggle", {COMPETITION: competition}, **{**quick, **settings}
    ) as kaggle:
        yield World(kaggle, folder)
