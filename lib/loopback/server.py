"""The loopback Kaggle as one object: its server, its services, and who may use them."""

import base64
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .competitions import Competitions
from .datasets import Datasets
from .kernels import Kernels
from .models import Models
from .store import ApiError, Settings, Store
from .wire import Call, Handler, Server


class Loopback:
    """A Kaggle on 127.0.0.1 (see the package's docstring for what it offers)."""

    handler = Handler  # of each connection

    def __init__(
        self,
        folder: Path | str,
        competitions: Mapping[str, tuple[Path | str, Path | str]] | None = None,
        **settings: Any,
    ):
        self.folder = Path(folder).resolve()
        self.settings = Settings(**settings)
        self.requests: list[Call] = []
        self.connects: list[str] = []
        self.closing = threading.Event()
        self._http = Server(self.settings.port, self, self.handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.store = Store(self.folder)
        shared = (self.store, self.settings)
        self.datasets = Datasets(*shared)
        self.competitions = Competitions(*shared, competitions or {}, self.file_url)
        self.models = Models(*shared, self.file_url)
        services = self.datasets, self.competitions, self.models
        self.kernels = Kernels(*shared, *services, self.file_url)
        self.competitions.kernels = self.kernels
        self._services = {
            "datasets.DatasetApiService": self.datasets,
            "kernels.KernelsApiService": self.kernels,
            "competitions.CompetitionApiService": self.competitions,
            "models.ModelApiService": self.models,
            "blobs.BlobApiService": self,
            "security.OAuthService": self,
        }

    def __enter__(self) -> "Loopback":
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.closing.set()
        self.kernels.stop()
        self._http.shutdown()
        self._http.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that, laid over `os.environ`, point the real client here."""
        home, temporary = self.folder / "home", self.folder / "tmp"
        for path in (home, temporary):
            path.mkdir(exist_ok=True)
        proxies = dict.fromkeys(
            ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), self.url
        )
        unset = ("no_proxy", "NO_PROXY", "ALL_PROXY", "all_proxy", "KAGGLE_API_TOKEN")
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_USERNAME": self.settings.user,
            "KAGGLE_KEY": self.settings.key or "loopback-key",
            "HOME": str(home),
            "USERPROFILE": str(home),
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "TMPDIR": str(temporary),
            **proxies,
            **dict.fromkeys(unset, ""),
        }

    @property
    def counts(self) -> dict[str, int]:
        """How many datasets, versions, runs and submissions there are, by name."""
        state = self.store.state
        kernels = [version for k in state["kernels"].values() for version in k["versions"]]
        return {
            "datasets": len(state["datasets"]),
            "dataset_versions": sum(len(d["versions"]) for d in state["datasets"].values()),
            "kernel_versions": len(kernels),
            "kernel_runs": len(kernels),
            "submissions": len(state["submissions"]),
        }

    def file_url(self, kind: str, name: str) -> str:
        """Return the address at which a file can be fetched or sent without credentials."""
        return f"{self.url}/files/{kind}/{quote(name)}"

    def StartBlobUpload(self, request: dict) -> dict:
        """Return a token and an address for an upload."""
        token = self.store.new_blob(request.get("name"), request.get("contentLength", 0))
        return {"token": token, "createUrl": self.file_url("upload", token)}

    def IntrospectToken(self, request: dict) -> dict:
        """Return whose token it is."""
        token = request.get("token")
        known = bool(token) and self.settings.token in (None, token)
        return {"active": True, "username": self.settings.user} if known else {"active": False}

    def allows(self, authorization: str) -> bool:
        """Tell whether an Authorization header holds the user's key or token."""
        kind, _, value = authorization.partition(" ")
        if kind == "Bearer":
            return self.IntrospectToken({"token": value})["active"]
        if kind != "Basic":
            return False
        name, _, key = base64.b64decode(value).decode(errors="replace").partition(":")
        return name == self.settings.user and bool(key) and self.settings.key in (None, key)

    def method(self, service: str, name: str) -> Callable[[dict], Any] | None:
        """Return the function that answers a method of the API, None for an unknown method."""
        owner = self._services.get(service)
        return getattr(owner, name, None) if owner and name[:1].isupper() else None

    def file(self, kind: str, name: str) -> Path:
        """Return the path of a file that may be fetched; ApiError 404 for any other."""
        if kind == "data":
            return self.competitions.data_file(*name.split("/", 1))
        if kind == "model":
            return self.models.file(name)
        if kind != "output" or name.count("/") < 3:
            raise ApiError(404, "Not found")
        owner, slug, number, inner = name.split("/", 3)
        folder = self.kernels.output_of(self.kernels.find(owner, slug, int(number)))
        path = (folder / inner).resolve()
        if not path.is_file() or not path.is_relative_to(folder):
            raise ApiError(404, "Not found")
        return path
