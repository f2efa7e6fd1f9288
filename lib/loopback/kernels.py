"""Kernels of the loopback Kaggle: a push makes a version, which runs in the sandbox."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from .competitions import Competitions
from .datasets import Datasets, list_files
from .models import Models
from .sandbox import mount_path, run_script
from .store import ApiError, Settings, Store, iso, now, page_of

SESSION_SECONDS = 12 * 3600
QUOTA_SECONDS = 30 * 3600
WEEK = 7 * 24 * 3600
UNFINISHED = ("QUEUED", "RUNNING")
FIRST_SESSION = 700_000_001  # the number of the first session; each further one is one more


class Kernels:
    """The methods of `KernelsApiService`, and the runs that they start."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        datasets: Datasets,
        competitions: Competitions,
        models: Models,
        file_url: Callable[[str, str], str],
    ):
        self._store, self._settings, self._file_url = store, settings, file_url
        self._datasets, self._competitions, self._models = datasets, competitions, models
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._cancelled: dict[int, threading.Event] = {}  # by the session's number

    def stop(self) -> None:
        """Kill all runs and wait until they are gone."""
        self._stop.set()
        for cancelled in list(self._cancelled.values()):
            cancelled.set()
        for thread in self._threads:
            thread.join()

    def SaveKernel(self, request: dict) -> dict:
        """Make a new version and run it without the unknown sources, which the answer names."""
        problem = self._problem_with(request)
        if problem:
            return {"error": problem}
        with self._store.changing() as state:
            kernel = self._kernel_for(state["kernels"], request)
            sources, invalid = self._sources(request)
            version = {
                "number": len(kernel["versions"]) + 1,
                "ref": kernel["ref"],
                "created": now(),
                "status": "QUEUED",
                "failure": "",
                "started": None,
                "ended": None,
                "limit": request.get("sessionTimeoutSeconds") or SESSION_SECONDS,
                "gpu": bool(request.get("enableGpu")),
                "sources": sources,
                "mounted": {},  # the dataset's versions, which are chosen when the run starts
                "settings": {k: v for k, v in request.items() if k not in ("text", "slug")},
                "session": FIRST_SESSION + len(self._versions()),
            }
            self._cancelled[version["session"]] = threading.Event()
            script = self._folder(version) / "script.py"
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(request["text"], encoding="utf-8", newline="")
            kernel["versions"].append(version)
        thread = threading.Thread(target=self._run, args=(version,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return {"ref": f"/code/{kernel['ref']}", "versionNumber": version["number"], **invalid}

    def ListKernels(self, request: dict) -> dict:
        """List a user's kernels, the newest first."""
        kernels = list(self._store.state["kernels"].values())[::-1]
        kernels = [kernel for kernel in kernels if self._shown(kernel)]
        mine = [k for k in kernels if k["ref"].split("/")[0] == request.get("user")]
        page, next_page = page_of(mine, request)
        listed = [{"ref": k["ref"], "title": k["title"]} for k in page]
        return {"kernels": listed, **next_page}

    def CancelKernelSession(self, request: dict) -> dict:
        """End a running session by its number, which only the session itself knows."""
        cancelled = self._cancelled.get(request.get("kernelSessionId") or 0)
        if cancelled is None:
            raise ApiError(404, "Kernel session not found")
        cancelled.set()
        return {}

    def GetKernelSessionStatus(self, request: dict) -> dict:
        """Return the status of a version's run, by default the newest version's."""
        version = self._version(request)
        failure = {"failureMessage": version["failure"]} if version["failure"] else {}
        return {"status": version["status"], **failure}

    def ListKernelSessionOutput(self, request: dict) -> dict:
        """Return a page of a finished run's output files, and the log so far."""
        version = self._version(request)
        finished = version["status"] not in UNFINISHED
        names = [file["name"] for file in list_files(self.output_of(version))] if finished else []
        page, next_page = page_of(names, request)
        place = f"{version['ref']}/{version['number']}"
        files = [
            {"fileName": name, "url": self._file_url("output", f"{place}/{name}")} for name in page
        ]
        return {"files": files, "log": json.dumps(self.log_of(version)), **next_page}

    def GetKernel(self, request: dict) -> dict:
        """Return the text and the settings of a version."""
        version = self._version(request)
        script = (self._folder(version) / "script.py").read_text(encoding="utf-8")
        kernel = self._store.state["kernels"][version["ref"]]
        metadata = {
            **version["settings"],
            "ref": kernel["ref"],
            "title": kernel["title"],
            "currentVersionNumber": len(self._shown(kernel)),
        }
        return {"metadata": metadata, "blob": {"source": script}}

    def GetAcceleratorQuotaStatistics(self, request: dict) -> dict:
        """Return how much of the week's accelerator time is used."""
        reserved = sum(
            v["limit"] for v in self._versions() if v["gpu"] and v["status"] in UNFINISHED
        )
        gpu = {"timeUsed": f"{self._gpu_seconds():.3f}s", "timeReserved": f"{reserved}s"}
        gpu["totalTimeAllowed"] = f"{QUOTA_SECONDS}s"
        return {"quotaRefreshTime": iso(now() + WEEK), "gpuQuota": gpu}

    def output_of(self, version: dict) -> Path:
        """Return the folder that was /kaggle/working in the run of a version."""
        return self._folder(version) / "working"

    def log_of(self, version: dict) -> list[dict]:
        """Return the log so far: entries of stream_name, time in seconds since the start, data."""
        path = self._folder(version) / "log.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def find(self, owner: str, slug: str, label: str | int | None = None) -> dict[str, Any]:
        """Return the record of a version by its label ("v3") or number, by default the newest one.

        As at Kaggle, the ApiError is 403 for an unknown kernel, and 404 for an unknown version or a
        label that is a bare number.
        """
        kernel = self._store.state["kernels"].get(f"{owner}/{slug}")
        versions = self._shown(kernel) if kernel else []
        if not versions:
            raise ApiError(403, "Permission 'kernels.get' was denied")
        if not label:
            return versions[-1]
        if isinstance(label, str):
            label = int(label[1:]) if re.fullmatch(r"v\d+", label) else 0
        if not 1 <= label <= len(versions):
            raise ApiError(404, f"Kernel {owner}/{slug} has no such version")
        return versions[label - 1]

    def _shown(self, kernel: dict) -> list[dict]:
        return [v for v in kernel["versions"] if now() - v["created"] >= self._settings.lag]

    def _version(self, request: dict) -> dict[str, Any]:
        label = request.get("versionLabel")
        return self.find(request.get("userName"), request.get("kernelSlug"), label)

    def _versions(self) -> list[dict[str, Any]]:
        return [v for kernel in self._store.state["kernels"].values() for v in kernel["versions"]]

    def _folder(self, version: dict) -> Path:
        return self._store.path("kernels", *version["ref"].split("/"), version["number"])

    def _problem_with(self, request: dict) -> str | None:
        owner = (request.get("slug") or "").split("/")[0]
        if owner != self._settings.user:
            raise ApiError(403, "Permission 'kernels.create' was denied")
        if len(request.get("newTitle") or "") < 5:
            return "The kernel title must be at least five characters"
        if not request.get("text"):
            return "The kernel has no source code"
        if (request.get("language"), request.get("kernelType")) != ("python", "script"):
            return "The loopback Kaggle runs Python scripts only"
        if request.get("enableGpu"):
            if self._gpu_seconds() >= QUOTA_SECONDS:
                return "You have used up your weekly GPU quota"
            running = [v for v in self._versions() if v["gpu"] and v["status"] in UNFINISHED]
            if len(running) >= self._settings.gpu_sessions:
                return f"Maximum batch GPU session count of {self._settings.gpu_sessions} reached."
        return None

    def _kernel_for(self, kernels: dict, request: dict) -> dict[str, Any]:
        ref, title = request["slug"], request["newTitle"]
        if ref not in kernels:
            slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
            ref = f"{self._settings.user}/{slug}"
        kernel = kernels.setdefault(ref, {"ref": ref, "versions": []})
        kernel["title"] = title
        return kernel

    def _sources(self, request: dict) -> tuple[list[list[str]], dict[str, list[str]]]:
        known = {
            "dataset": lambda ref: self._datasets.mounted(ref) is not None,
            "competition": self._competitions.exists,
            "kernel": lambda ref: self._newest_output(ref) is not None,
            "model": lambda ref: self._models.mounted(ref) is not None,
        }
        good, invalid = [], {}
        for kind, exists in known.items():
            named = request.get(f"{kind}DataSources") or []
            good += [[kind, ref] for ref in named if exists(ref)]
            if unknown := [ref for ref in named if not exists(ref)]:
                invalid[f"invalid{kind.capitalize()}Sources"] = unknown
        return good, invalid

    def _newest_output(self, ref: str) -> Path | None:
        kernel = self._store.state["kernels"].get(ref, {"versions": []})
        done = [version for version in kernel["versions"] if version["status"] == "COMPLETE"]
        return self.output_of(done[-1]) if done else None

    def _inputs(self, version: dict, scored: str = "") -> dict[str, Path]:
        """Return what the run sees below /kaggle/input; of a `scored` competition the hidden set.

        A run that is scored gets the versions of datasets that the public run got.
        """
        inputs: dict[str, Path] = {}
        for kind, ref in version["sources"]:
            owner, slug = ("", ref) if kind == "competition" else ref.split("/", 1)
            place = mount_path(self._settings.mount, kind, owner, slug)
            if kind == "competition" and ref == scored:
                inputs[place] = self._settings.hidden[ref][0]
            elif kind == "competition":
                inputs.update(self._competitions.mounted(ref, place))
            elif kind == "dataset":
                number = version["mounted"].get(ref) if scored else self._datasets.mounted(ref)
                version["mounted"][ref] = number
                inputs[place] = self._datasets.folder_of(ref, number)
            elif kind == "model":
                inputs[place] = self._models.mounted(ref)
            else:
                inputs[place] = self._newest_output(ref)
        return inputs

    def _gpu_seconds(self) -> float:
        recent = [
            v for v in self._versions() if v["gpu"] and v["started"] and now() - v["started"] < WEEK
        ]
        return sum((v["ended"] or now()) - v["started"] for v in recent)

    def _run(self, version: dict) -> None:
        """Run a version in the box, and note its status from QUEUED to the end."""
        cancelled = self._cancelled[version["session"]]
        cancelled.wait(self._settings.queue_delay)
        inputs = self._inputs(version)
        with self._store.changing():
            version.update(status="RUNNING", started=now())
        folder = self._folder(version)
        with (folder / "log.jsonl").open("w", encoding="utf-8") as log:
            try:
                status = run_script(
                    folder / "script.py",
                    inputs,
                    self.output_of(version),
                    _log_writer(log, "stdout", version["started"]),
                    version["limit"],
                    {"KAGGLE_CONTAINER_NAME": f"kaggle_loopback-{version['session']}-webtier"},
                    on_error_line=_log_writer(log, "stderr", version["started"]),
                    stop=cancelled,
                )
            except TimeoutError:
                self._end(version, "CANCEL_ACKNOWLEDGED", "The session ran into its time limit")
                return
            except OSError as error:
                self._end(version, "ERROR", f"The session could not start: {error}")
                return
        if cancelled.is_set():
            self._end(version, "CANCEL_ACKNOWLEDGED", "The user has cancelled the session")
        elif status:
            self._end(version, "ERROR", f"The script ended with exit status {status}")
        else:
            self._end(version, "COMPLETE")

    def run_scored(self, version: dict, competition: str) -> tuple[Path, str]:
        """Run a version again on a competition's hidden test set, as its submission does.

        Returns the output folder, and Kaggle's message where the run did not end well.
        """
        inputs = self._inputs(version, competition)
        number = len(list(self._folder(version).glob("scored-*")))
        output = self._folder(version) / f"scored-{number}"
        try:
            status = run_script(
                self._folder(version) / "script.py",
                inputs,
                output,
                None,  # nobody sees the log of this run
                self._settings.scored_seconds,
                {"KAGGLE_IS_COMPETITION_RERUN": "1"},
                stop=self._stop,
            )
        except TimeoutError:
            return output, "Notebook Timeout"
        except OSError:
            return output, "Kaggle Error"
        return output, "Notebook Threw Exception" if status else ""

    def _end(self, version: dict, status: str, failure: str = "") -> None:
        with self._store.changing():
            version.update(status=status, failure=failure, ended=now())


def _log_writer(log: TextIO, stream: str, started: float) -> Callable[[str], None]:
    """Return a function that appends a line of "stdout" or "stderr" to the log of a run."""

    def write(line: str) -> None:
        seconds = round(now() - started, 6)
        entry = {"stream_name": stream, "time": seconds, "data": line + "\n"}
        log.write(json.dumps(entry) + "\n")
        log.flush()

    return write
