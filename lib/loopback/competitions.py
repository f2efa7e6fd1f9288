"""Competitions of the loopback Kaggle: their files, submissions and scores."""

import shutil
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .scoring import score_file
from .store import ApiError, Settings, Store, iso, now, page_of

REFUSED = "Submission not allowed: your team has used its daily submission allowance ({} a day)."


class Competitions:
    """The methods of `CompetitionApiService`; the solutions never leave this class."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        competitions: Mapping[str, tuple[Path | str, Path | str]],
        file_url: Callable[[str, str], str],
    ):
        self._store, self._settings, self._file_url = store, settings, file_url
        self._competitions = {
            slug: (Path(folder).resolve(strict=True), Path(solution).resolve(strict=True))
            for slug, (folder, solution) in competitions.items()
        }
        self.kernels: Any = None  # whose versions are submitted; they mount competitions

    def GetCompetition(self, request: dict) -> dict:
        """Tell what is known of a competition: here only how it is evaluated."""
        slug = self._slug(request)
        _, evaluation = self._settings.metrics.get(slug, ("accuracy", "Categorization Accuracy"))
        code = slug in self._settings.hidden
        return {"ref": slug, "evaluationMetric": evaluation, "isKernelsSubmissionsOnly": code}

    def ListDataFiles(self, request: dict) -> dict:
        """List the files of a competition, but never its solution."""
        slug = self._entered(request)
        page, next_page = page_of(self._data_files(slug), request)
        folder = self._competitions[slug][0]
        files = [
            {"name": path.relative_to(folder).as_posix(), "totalBytes": path.stat().st_size}
            for path in page
        ]
        return {"files": files, **next_page}

    def DownloadDataFile(self, request: dict) -> str:
        """Return the address of one file of a competition."""
        slug, name = self._entered(request), request.get("fileName") or ""
        self.data_file(slug, name)
        return self._file_url("data", f"{slug}/{name}")

    def StartSubmissionUpload(self, request: dict) -> dict:
        """Return a token and an address for the upload of a submission file."""
        self._entered(request)
        token = self._store.new_blob(request.get("fileName"), request.get("contentLength", 0))
        return {"token": token, "createUrl": self._file_url("upload", token)}

    def CreateSubmission(self, request: dict) -> dict:
        """Take an uploaded file as a submission; beyond the daily limit, refuse it with ref 0."""
        slug = self._entered(request)
        if slug in self._settings.hidden:
            raise ApiError(400, "This competition only accepts submissions from notebooks")
        name, blob = self._store.finished_blob(request.get("blobFileTokens") or "")
        return self._submit(slug, name, blob, request.get("submissionDescription") or "")

    def CreateCodeSubmission(self, request: dict) -> dict:
        """Take an output file of a finished kernel version as a submission."""
        slug, name = self._entered(request), request.get("fileName") or "submission.csv"
        owner, kernel = request.get("kernelOwner"), request.get("kernelSlug")
        version = self.kernels.find(owner, kernel, request.get("kernelVersion"))
        if version["status"] != "COMPLETE":
            raise ApiError(400, "The kernel version has not completed")
        output = self.kernels.output_of(version)
        path = output / name
        if not path.is_file() or not path.resolve().is_relative_to(output):
            raise ApiError(400, f"The kernel version has no output file {name}")
        answer = self._submit(slug, name, path, request.get("submissionDescription") or "")
        if slug in self._settings.hidden and answer["ref"]:
            arguments = version, slug, answer["ref"], name
            threading.Thread(target=self._score_hidden, args=arguments, daemon=True).start()
        return answer

    def GetSubmissionLimits(self, request: dict) -> dict:
        """Return how many submissions are left today."""
        submissions = self._of(self._slug(request))
        used = sum(day(s["date"]) == day(now()) for s in submissions)
        left = max(0, self._settings.daily_submissions - used)
        return {"numToday": used, "numTotal": len(submissions), "numAllowedNow": left}

    def ListSubmissions(self, request: dict) -> dict:
        """List the submissions to a competition, newest first."""
        submissions = self._of(self._slug(request))[::-1]
        submissions = [s for s in submissions if now() - s["date"] >= self._settings.lag]
        page, next_page = page_of(submissions, request)
        return {"submissions": [self._public(s) for s in page], **next_page}

    def exists(self, slug: str) -> bool:
        """Tell whether there is such a competition, whose rules the user has accepted."""
        return slug in self._competitions and self._settings.accepted

    def data_file(self, slug: str, name: str) -> Path:
        """Return the path of a file of a competition's data; ApiError 404 for any other."""
        folder = self._competitions[slug][0] if slug in self._competitions else None
        path = (folder / name).resolve() if folder else None
        if path is None or path not in self._data_files(slug):
            raise ApiError(404, f"Competition {slug} has no file {name}")
        return path

    def mounted(self, slug: str, place: str) -> dict[str, Path]:
        """Return what to mount to show a competition without its solution at `place`."""
        folder, solution = self._competitions[slug]
        if not solution.is_relative_to(folder):
            return {place: folder}
        shown = {}
        for path in folder.iterdir():
            if path != solution and not solution.is_relative_to(path):
                shown[f"{place}/{path.name}"] = path
        return shown

    def _slug(self, request: dict) -> str:
        slug = request.get("competitionName")
        if slug not in self._competitions:
            raise ApiError(404, f"Competition {slug} not found")
        return slug

    def _entered(self, request: dict) -> str:
        slug = self._slug(request)
        if not self._settings.accepted:
            raise ApiError(403, "You must accept this competition's rules before you can continue")
        return slug

    def _data_files(self, slug: str) -> list[Path]:
        folder, solution = self._competitions[slug]
        shown = (path for path in folder.rglob("*") if path.is_file() and path != solution)
        return sorted(shown, key=lambda path: path.relative_to(folder).as_posix())

    def _of(self, slug: str) -> list[dict[str, Any]]:
        return [s for s in self._store.state["submissions"] if s["competition"] == slug]

    def _submit(self, slug: str, name: str, path: Path, description: str) -> dict:
        with self._store.changing() as state:
            if self.GetSubmissionLimits({"competitionName": slug})["numAllowedNow"] == 0:
                return {"message": REFUSED.format(self._settings.daily_submissions), "ref": 0}
            ref = 40_000_001 + len(state["submissions"])
            kept = self._store.path("submissions", f"{ref}-{name}")
            shutil.copyfile(path, kept)
            score, problem = None, ""  # of a code competition until it has run again
            if slug not in self._settings.hidden:
                score, problem = self._score(kept, slug, self._competitions[slug][1])
            submission = {"ref": ref, "competition": slug, "date": now(), "fileName": name}
            submission |= {"description": description, "score": score, "problem": problem}
            state["submissions"].append(submission)
        return {"message": f"Successfully submitted to {slug}", "ref": ref}

    def _score(self, file: Path, slug: str, solution: Path) -> tuple[float, str]:
        metric, _ = self._settings.metrics.get(slug, ("accuracy", ""))
        return score_file(file, solution, metric)

    def _score_hidden(self, version: dict, slug: str, ref: int, name: str) -> None:
        """Run a submitted version on the hidden test set, and note its score or the message."""
        output, problem = self.kernels.run_scored(version, slug)
        score = 0.0
        if not problem and not (output / name).is_file():
            problem = "Submission CSV Not Found"
        if not problem:
            score, wrong = self._score(output / name, slug, self._settings.hidden[slug][1])
            problem = wrong and f"Submission Scoring Error: {wrong}"
        with self._store.changing() as state:
            (submission,) = (one for one in state["submissions"] if one["ref"] == ref)
            submission.update(score=score, problem=problem)

    def _public(self, submission: dict) -> dict:
        shown = {name: submission[name] for name in ("ref", "fileName", "description")}
        shown["date"] = iso(submission["date"])
        unscored = submission["score"] is None
        if unscored or now() - submission["date"] < self._settings.scoring_delay:
            return {**shown, "status": "PENDING"}
        if submission["problem"]:
            return {**shown, "status": "ERROR", "errorDescription": submission["problem"]}
        return {**shown, "status": "COMPLETE", "publicScore": f"{submission['score']:.5f}"}


def day(seconds: float) -> str:
    """Return the day in UTC of a time in seconds; submissions are counted by it."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
