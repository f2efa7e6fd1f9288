"""The box: runs one script as Kaggle would, with `/kaggle`, without network and this project.

On Linux the script runs in mount, network and pid namespaces under a new root folder, which shows
the system and Python but neither the home folders nor the repository. An ordinary user gets these
namespaces through a user namespace. On other systems the script is a plain process whose `/kaggle`
is a temporary folder, named by `KAGGLE_ROOT`; `guarantees()` names what is then missing.
"""

import functools
import importlib.metadata
import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

KINDS = ("dataset", "competition", "kernel", "model")
LAYOUTS: dict[str, tuple[str, ...]] = {
    "official": ("{slug}", "{slug}", "{slug}", "models/{owner}/{slug}"),
    "conflict": ("{owner}/{slug}", "{slug}", "{owner}/{slug}", "{slug}"),
    "typed": (
        *("datasets/{owner}/{slug}", "competitions/{slug}"),
        *("notebooks/{owner}/{slug}", "models/{owner}/{slug}"),
    ),
}
"""The paths below /kaggle/input of the KINDS of sources, by mount layout. The slug of a model is
`<model>/<framework>/<variation>/<version>`; "conflict" mounts it in the older place."""

INSIDE = Path(__file__).with_name("sandbox_init.py")  # the first process inside the box
SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "dev", "sys")
SYSTEM += ("nix", "gnu", "run")
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT")
PASSED_ON += ("NUMBER_OF_PROCESSORS",)
PASSED_ON_PREFIXES = ("OMP_", "TF_", "CUDA_", "NVIDIA_", "XLA_")
CLOSED_PORT = "http://127.0.0.1:9"  # a proxy that answers nothing
MISSING = [
    "the network is not cut off (only proxies that answer nothing are set)",
    "/kaggle is a temporary folder, named by KAGGLE_ROOT",
    "/kaggle/input is made of links or copies, whose files may be writable",
    "packages of this project that are installed here can be imported without the dataset",
    "processes that the script has detached from itself may outlive it",
]


def mount_path(layout: str, kind: str, owner: str, slug: str) -> str:
    """Return the path below /kaggle/input of a dataset, competition, kernel or model."""
    if kind == "model":  # Kaggle mounts its framework in lower case
        model, framework, rest = slug.split("/", 2)
        slug = f"{model}/{framework.lower()}/{rest}"
    return LAYOUTS[layout][KINDS.index(kind)].format(owner=owner, slug=slug)


def guarantees() -> list[str]:
    """Return sentences on what the box can't guarantee on this machine; none with namespaces."""
    return [] if unshare_command() else list(MISSING)


def run_script(
    script: Path | str,
    inputs: Mapping[str, Path | str],
    working: Path | str,
    on_line: Callable[[str], None] | None = None,
    timeout: float | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    on_error_line: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Run a script as Kaggle runs a pushed one and return its exit status (128 + N: signal N).

    Args:
        script: the file whose text becomes /kaggle/src/script.py.
        inputs: mount path below /kaggle/input -> folder (or file) shown there, read-only.
        working: the folder that is /kaggle/working; made when it is missing.
        on_line: gets each line of output without its end; without it the output is dropped.
        timeout: seconds until everything is killed, which raises TimeoutError.
        environment: variables added to the clean environment of the script.
        on_error_line: gets the lines of standard error; by default `on_line` gets those too.
        stop: when set, everything is killed and the status is that of a kill (137).
    """
    script, working = Path(script).resolve(strict=True), Path(working).resolve()
    folders = {path: Path(folder).resolve(strict=True) for path, folder in inputs.items()}
    working.mkdir(parents=True, exist_ok=True)
    unshare = unshare_command()
    prepare = _namespace_orders if unshare else _plain_orders
    on_line = on_line or len  # which drops it
    with (
        _new_scratch(script.read_bytes()) as scratch,
        prepare(scratch, folders, working, environment or {}) as orders,
    ):
        receivers = (on_line, on_error_line or on_line)
        return _supervise(unshare, orders, *receivers, timeout, stop or threading.Event())


@contextmanager
def _new_scratch(script: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="box-", ignore_cleanup_errors=True) as name:
        scratch = Path(name).resolve()
        for folder in ("root", "src", "tmp", "home"):
            (scratch / folder).mkdir()
        (scratch / "src" / "script.py").write_bytes(script)
        yield scratch


@functools.cache
def unshare_command() -> list[str]:
    """Return the command that opens the namespaces, empty when this machine has none.

    `SHIP_BOX=plain` in the environment asks for the box without namespaces.
    """
    if sys.platform != "linux" or os.environ.get("SHIP_BOX") == "plain":
        return []
    spaces = ["--mount", "--net", "--pid", "--fork", "--kill-child"]
    commands = [["unshare", "--user", "--map-root-user", *spaces]]
    if os.geteuid() == 0:
        commands.insert(0, ["unshare", *spaces])
    return next((command for command in commands if _opens(command)), [])


def _opens(unshare: list[str]) -> bool:
    try:
        with (
            _new_scratch(b"raise SystemExit(42)") as scratch,
            _namespace_orders(scratch, {}, scratch / "tmp", {}) as orders,
        ):
            return _supervise(unshare, orders, len, len, 30, threading.Event()) == 42
    except OSError:  # there is no unshare, or the box did not start in time
        return False


def _clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a script gets: `more`, and of this process's only PASSED_ON."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    if site.ENABLE_USER_SITE:
        passed["PYTHONUSERBASE"] = site.getuserbase()
    return {**passed, "KAGGLE_KERNEL_RUN_TYPE": "Batch", "PYTHONUNBUFFERED": "1", **more}


@contextmanager
def _namespace_orders(
    scratch: Path, inputs: Mapping[str, Path], working: Path, environment: Mapping[str, str]
) -> Iterator[dict]:
    """Return the orders for a new root folder with the system, Python, /kaggle, /tmp and a home."""
    binds = [(str(scratch / "tmp"), "/tmp", False), (str(scratch / "home"), "/root", False)]
    links = {}
    for name in SYSTEM:
        folder = Path("/", name)
        if folder.is_symlink():
            links[str(folder)] = os.readlink(folder)
        elif folder.is_dir():
            binds.append((str(folder), str(folder), name != "dev"))
    shown = [Path(target) for target in links] + [Path(target) for _, target, _ in binds[2:]]
    for folder in _python_folders():
        if not any(folder.is_relative_to(parent) for parent in shown):
            binds.append((str(folder), str(folder), True))
            shown.append(folder)
    binds.append((str(scratch / "src"), "/kaggle/src", True))
    for path, folder in sorted(inputs.items()):
        binds.append((str(folder), f"/kaggle/input/{path}", True))
    binds.append((str(working), "/kaggle/working", False))
    yield {
        "scratch": str(scratch),
        "root": str(scratch / "root"),
        "links": links,
        "binds": binds,
        "hidden": [str(folder) for folder in _own_packages()],
        "command": [sys.executable, "/kaggle/src/script.py"],
        "cwd": "/",
        "environment": _clean_environment({"HOME": "/root", "TMPDIR": "/tmp", **environment}),
    }


def _python_folders() -> list[Path]:
    folders = {Path(sys.prefix), Path(sys.exec_prefix)}
    folders |= {Path(sys.base_prefix), Path(sys.base_exec_prefix)}
    if site.ENABLE_USER_SITE:
        folders.add(Path(site.getuserbase()))
    program = Path(sys.executable)
    while program.is_symlink():  # each hop from the virtual environment to the real program
        folders.add(program.parent)
        program = program.parent / program.readlink()
    folders.add(program.parent)
    there = {Path(os.path.normpath(folder)) for folder in folders if os.path.isdir(folder)}
    return sorted(there | {folder.resolve() for folder in there})


def _own_packages() -> list[Path]:
    """Return the folders of this project's packages, which a script must get from its dataset."""
    home = Path(__file__).resolve().parents[1]
    if home != Path(sysconfig.get_path("purelib")).resolve():
        return [home]
    owners = importlib.metadata.packages_distributions()
    ours = set(owners.get("ship", []))
    return [home / name for name, distributions in owners.items() if ours & set(distributions)]


@contextmanager
def _plain_orders(
    scratch: Path, inputs: Mapping[str, Path], working: Path, environment: Mapping[str, str]
) -> Iterator[dict]:
    """Return the orders for a plain process whose /kaggle lies in the scratch folder.

    At the end the output is copied to `working`, where it could not be linked.
    """
    root, start = scratch / "kaggle", scratch / "elsewhere"
    start.mkdir()
    (root / "input").mkdir(parents=True)
    for path, source in inputs.items():
        target = root / "input" / path
        if source.is_dir():
            shutil.copytree(source, target, copy_function=_link_or_copy, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(str(source), str(target))
    shutil.move(scratch / "src", root / "src")
    for locked in ("input", "src"):
        for path in [root / locked, *(root / locked).rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)
    try:
        (root / "working").symlink_to(working, target_is_directory=True)
        linked = True
    except OSError:
        shutil.copytree(working, root / "working")
        linked = False
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), CLOSED_PORT)
    homes = dict.fromkeys(("HOME", "USERPROFILE"), str(scratch / "home"))
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch / "tmp"))
    moved = {"KAGGLE_ROOT": str(root), **proxies, **homes, **temporary}
    try:
        yield {
            "scratch": str(scratch),
            "root": None,
            "command": [sys.executable, str(root / "src" / "script.py")],
            "cwd": str(start),
            "environment": _clean_environment({**moved, **environment}),
        }
    finally:
        if not linked:
            shutil.copytree(root / "working", working, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.symlink(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _supervise(
    unshare: list[str],
    orders: dict,
    on_line: Callable[[str], None],
    on_error_line: Callable[[str], None],
    timeout: float | None,
    stop: threading.Event,
) -> int:
    """Start the box, pass its lines on, and return its exit status; nothing of it outlives this.

    Whatever `on_line` or `on_error_line` raises kills the script and is raised here.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [*unshare, sys.executable, "-I", str(INSIDE)]
    process = subprocess.Popen(command, **pipes, env=_clean_environment({}), start_new_session=True)
    failures: list[BaseException] = []
    pumps = [
        threading.Thread(target=_pump, args=(pipe, call, failures), daemon=True)
        for pipe, call in ((process.stdout, on_line), (process.stderr, on_error_line))
    ]
    for thread in pumps:
        thread.start()
    deadline = None if timeout is None else time.monotonic() + timeout
    late = False
    try:
        process.stdin.write(json.dumps(orders).encode() + b"\n")
        process.stdin.flush()
        while process.poll() is None and not (stop.is_set() or failures or late):
            time.sleep(0.02)
            late = deadline is not None and time.monotonic() > deadline
    except BrokenPipeError:  # it died before it read its orders; its exit status tells that
        pass
    finally:
        _end(process)
        for thread in pumps:
            thread.join(timeout=10)
    if failures:
        raise failures[0]
    if late:
        raise TimeoutError(f"the script was still running after {timeout:g} seconds")
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _end(process: subprocess.Popen) -> None:
    """Close the box's standard input, which ends everything inside, and wait for the end."""
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _pump(pipe: IO[bytes], call: Callable[[str], None], failures: list[BaseException]) -> None:
    """Pass each line of a pipe on, and keep what the receiver raises for the caller."""
    with pipe:
        for line in pipe:
            if failures:
                continue
            try:
                call(line.rstrip(b"\r\n").decode(errors="replace"))
            except BaseException as failure:
                failures.append(failure)
