"""The first process inside the box: it builds the new root folder and starts the script.

It runs as a program of its own (`python -I sandbox_init.py`) and imports nothing of this project.
Its standard input brings one line of JSON, the orders. When the caller closes it or dies,
everything that was started here is killed.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

# <linux/mount.h>; statvfs reports a mount's nosuid, nodev and noexec under these same bits.
READ_ONLY, REMOUNT, BIND, RECURSIVE = 1, 32, 4096, 16384
KEPT_FLAGS = 2 | 4 | 8
KILLED = 128 + 9


def _mount(source: str, target: str, kind: str | None = None, flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    if libc.mount(*encoded, ctypes.c_ulong(flags), None):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target}: {os.strerror(number)}")


def _bind(source: str, target: str, read_only: bool) -> None:
    """Show the file, or the folder with everything that is mounted below it, at `target`."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
    _mount(source, target, flags=BIND | RECURSIVE)
    if read_only:
        # A user namespace may not drop flags that its parent has set, so they are repeated.
        kept = os.statvfs(target).f_flag & KEPT_FLAGS
        _mount("none", target, flags=REMOUNT | BIND | READ_ONLY | kept)


def _build_root(root: str, links: dict, binds: list, hidden: list) -> None:
    """Make `root` the root folder: a read-only tmpfs with the given links and bind mounts.

    An empty file system covers each of the `hidden` folders.
    """
    _mount("tmpfs", root, "tmpfs")
    for name, target in links.items():
        os.symlink(target, root + name)
    for source, target, read_only in binds:
        _bind(source, root + target, read_only)
    for folder in hidden:
        if os.path.isdir(root + folder):
            _mount("tmpfs", root + folder, "tmpfs", READ_ONLY)
    os.mkdir(root + "/proc")
    try:
        _mount("proc", root + "/proc", "proc")
    except OSError:  # a container that hides parts of /proc does not allow a new one
        _bind("/proc", root + "/proc", read_only=False)
    _mount("none", root, flags=REMOUNT | BIND | READ_ONLY)
    os.chroot(root)


def _kill_all(process: subprocess.Popen, namespace: bool) -> None:
    if namespace:  # this process is the first of its namespace, where -1 means all the others
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        return
    import psutil

    family = []
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    for member in [*family, process]:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            member.kill()


def main() -> None:
    """Carry out the orders and exit with the script's status, or 128 + N if signal N killed it."""
    lifeline = sys.stdin.buffer
    orders = json.loads(lifeline.readline())
    namespace = bool(orders["root"])
    scratch = os.open(orders["scratch"], os.O_RDONLY) if namespace else None
    if namespace:
        _build_root(orders["root"], orders["links"], orders["binds"], orders["hidden"])
    process = subprocess.Popen(
        orders["command"], cwd=orders["cwd"], env=orders["environment"], stdin=subprocess.DEVNULL
    )

    abandoned = threading.Event()

    def end_with_caller() -> None:
        lifeline.read()
        abandoned.set()
        _kill_all(process, namespace)
        # A caller that was killed can't remove what the script has unpacked, perhaps gigabytes.
        for folder in ("tmp", "home") if namespace else (orders["scratch"],):
            shutil.rmtree(folder, ignore_errors=True, dir_fd=scratch)
        os._exit(KILLED)

    watch = threading.Thread(target=end_with_caller, daemon=True)
    watch.start()
    status = process.wait()
    if abandoned.is_set():
        watch.join()
    _kill_all(process, namespace)
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
