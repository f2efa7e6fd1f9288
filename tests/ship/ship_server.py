"""A process that has imported what `ship` and the kaggle client need, and forks to run them.

`python ship_server.py SOCKET`. To start Python and to import takes most of the time of a short
`ship`, and the tests run hundreds of them. Each one gets a process of its own here all the same,
and so does its client; what the client reads of its environment at import is imported anew.

A connection sends one line of JSON, {"arguments", "environment", "folder"}, with two files for
stdout and stderr. It gets the process's number in a line, and at the end its exit status; when it
is closed before, the process is killed.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
from types import SimpleNamespace

import ship.__main__
import ship.kaggle.client
import ship.kaggle.client_process
from ship.kaggle.response_schemas import SCHEMAS, adapter_of
from ship.ledger import Run, State

CLIENT = ("kagglesdk", "bleach", "google.protobuf.field_mask_pb2", "slugify")
for name in (*CLIENT, "kernelkit.core.tables", "scipy.stats"):
    with contextlib.suppress(ImportError):  # other versions of the client need other packages
        importlib.import_module(name)
for schema in (Run, State, dict, *(each for of in SCHEMAS.values() for each in of.values())):
    adapter_of(schema)  # which each fork would make anew
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(sys.stderr):
    ship.__main__.parse(["--version"])  # compiles the patterns of the parsers


class Forked:
    """The client's process, in the place of the `subprocess.Popen` that starts Python anew."""

    def __init__(self, command: list[str], stdin, stdout, stderr, env: dict[str, str]):
        assert command[-2:] == ["-m", "ship.kaggle.client"], command
        (read_requests, write_requests), (read_answers, write_answers) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            become((read_requests, write_answers, stderr.fileno()), env)
            os.close(write_requests)  # or the end of `ship` would not be noticed
            os.close(read_answers)
            sys.stdin = open(0)  # noqa: SIM115 - the process lives as long as it is open
            with exiting():
                ship.kaggle.client.serve()
        os.close(read_requests)
        os.close(write_answers)
        self.stdin, self.stdout = os.fdopen(write_requests, "wb"), os.fdopen(read_answers, "rb")

    def kill(self) -> None:
        """Kill it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait until it has ended."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


@contextlib.contextmanager
def exiting():
    """End this process with the status of what is done in it."""
    status = 1
    try:
        yield
    except SystemExit as error:
        status = error.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def become(files: tuple[int, int, int], environment: dict[str, str]) -> None:
    """Give this process other standard files and another environment."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # which is read from the environment once in a process


def answer(connection: socket.socket) -> None:
    """Run the `ship` that a connection asks for, in a process of its own, and tell how it ends."""
    text, files, *_ = socket.recv_fds(connection, 1 << 16, 2)
    while not text.endswith(b"\n"):
        text += connection.recv(1 << 16)
    request = json.loads(text)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        connection.close()
        become((os.open(os.devnull, os.O_RDONLY), *files), request["environment"])
        os.chdir(request["folder"])
        with exiting():
            sys.exit(ship.__main__.main(request["arguments"]))
    connection.sendall(f"{pid}\n".encode())
    ended, status = 0, 0
    while not ended:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended and select.select([connection], [], [], 0.01)[0]:  # nobody waits any longer
            os.kill(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def serve(path: str) -> None:
    """Answer connections until stdin is closed."""
    ship.kaggle.client_process.subprocess = SimpleNamespace(Popen=Forked, PIPE=None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody has to wait for the forks
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                with exiting():
                    answer(connection)
            connection.close()


if __name__ == "__main__":
    serve(sys.argv[1])
