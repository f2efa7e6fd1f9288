"""The box gives a script Kaggle's surroundings, keeps it inside, and leaves nothing behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from loopback import sandbox as box

LIB = Path(box.__file__).resolve().parents[1]
SPACES = ["--mount", "--net", "--pid", "--fork", "--kill-child"]
USER = ["unshare", "--user", "--map-root-user", *SPACES]

PROBE = """
import importlib.util, json, os, socket, sys
def attempt(path):
    try:
        with open(path, "a"):
            return "written"
    except OSError as error:
        return error.strerror
def reach(address):
    try:
        socket.create_connection(address, timeout=5).close()
        return True
    except OSError:
        return False
root = os.environ.get("KAGGLE_ROOT", "/kaggle")
host = json.loads(os.environ["PROBE"])
print(json.dumps({
    "arguments": sys.argv[1:], "file": __file__, "folder": os.getcwd(),
    "root": root, "source": os.listdir(root + "/src"),
    "input": sorted(os.path.join(place, name)[len(root) + 7:]
                    for place, _, names in os.walk(root + "/input") for name in names),
    "written": {name: attempt(os.path.join(root, name))
                for name in ("src/x", "input/x", "input/a/b/x", "input/a/b/data.csv", "working/x")},
    "start": attempt("x"), "host": host["port"] and reach(("127.0.0.1", host["port"])),
    "repo": os.path.exists(os.path.join(host["lib"], "loopback", "sandbox.py")),
    "ship": importlib.util.find_spec("ship") is not None,
    "environment": dict(os.environ), "prefix": sys.prefix,
}))
"""


@pytest.fixture
def folders(tmp_path):
    """A folder with a source folder in it, for scripts and output."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.csv").write_text("Id\n")
    return tmp_path


@pytest.fixture(params=["own", "user", "plain"])
def kind(request, monkeypatch):
    """The kind of box: as this user gets it, through a user namespace, without namespaces."""
    if request.param == "plain":
        choose(monkeypatch, [])
    else:
        need_namespaces(["unshare", *SPACES] if request.param == "own" else USER)
        if request.param == "user":
            choose(monkeypatch, USER)
        assert box.unshare_command(), "namespaces work here, but the box does not start"
    return request.param


def choose(monkeypatch, unshare):
    monkeypatch.setattr(box, "unshare_command", lambda: unshare)


def need_namespaces(unshare):
    """Skip the test on a system that refuses namespaces, and only there."""
    if os.environ.get("SHIP_BOX") == "plain":
        pytest.skip("SHIP_BOX=plain asks for the box without namespaces")
    if sys.platform != "linux" or not (works(unshare) or works(USER)):
        pytest.skip("this system gives no namespaces to this user")


def works(unshare):
    done = subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def script(folder, text):
    path = folder / "any-name.py"
    path.write_text(text)
    return path


def run(folder, text, inputs=None, **options):
    """Run a script's text and return its status and the lines of its output."""
    lines = []
    path = script(folder, text)
    status = box.run_script(path, inputs or {}, folder / "out", lines.append, 60, **options)
    return status, lines


def alive(marker):
    """Return the processes of this machine with a word in their command line."""
    return [
        p for p in psutil.process_iter(["cmdline"]) if marker in " ".join(p.info["cmdline"] or [])
    ]


def seen(marker, seconds=5):
    """Tell whether there is such a process, which may have no command line for a moment."""
    deadline = time.monotonic() + seconds
    while not alive(marker) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(alive(marker))


def gone(marker, seconds=5):
    deadline = time.monotonic() + seconds
    while alive(marker) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(marker)


def sleeper(marker):
    """Return a script whose child process leads a session of its own."""
    child = f"import time; time.sleep(600)  # {marker}"
    return (
        "import subprocess, sys, tempfile, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        "open(tempfile.gettempdir() + '/unpacked', 'w').close()\n"
        "print('up', flush=True)\ntime.sleep(600)\n"
    )


def test_script_sees_kaggle_and_nothing_else(folders, kind, monkeypatch):
    secrets = {"KAGGLE_KEY": "s3cret", "KAGGLE_USERNAME": "s3cret", "KAGGLE_API_TOKEN": "s3cret"}
    for name, value in {**secrets, "https_proxy": "http://s3cret", "AWS_KEY": "s3cret"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(LIB))
    with socket.create_server(("127.0.0.1", 0)) as server:
        probe = json.dumps({"port": server.getsockname()[1], "lib": str(LIB)})
        status, lines = run(
            folders, PROBE, {"a/b": folders / "data"}, environment={"PROBE": probe, "MORE": "1"}
        )
    assert status == 0
    seen = json.loads(lines[0])
    namespaces = kind != "plain"
    assert seen["arguments"] == []
    assert seen["file"] == f"{seen['root']}/src/script.py"
    assert seen["source"] == ["script.py"]
    assert seen["input"] == ["a/b/data.csv"]
    assert seen["folder"] not in (str(folders), os.getcwd(), f"{seen['root']}/working")
    assert seen["written"]["working/x"] == "written"
    assert (folders / "out" / "x").is_file()
    assert (seen["root"] == "/kaggle") is namespaces
    assert seen["prefix"] == sys.prefix
    environment = seen["environment"]
    assert environment["KAGGLE_KERNEL_RUN_TYPE"] == "Batch"
    assert environment["MORE"] == "1"
    assert "s3cret" not in json.dumps(environment)
    assert "PYTHONPATH" not in environment
    if namespaces:
        others = {name: state for name, state in seen["written"].items() if name != "working/x"}
        assert set(others.values()) == {"Read-only file system"}
        assert seen["start"] == "Read-only file system"
        assert seen["host"] is False, "the host's loopback can be reached"
        assert seen["repo"] is False, "the repository can be seen"
        assert seen["ship"] is False, "a package of this project can be imported"
    assert (folders / "data" / "data.csv").read_text() == "Id\n"
    assert not Path("/kaggle").exists()


@pytest.mark.parametrize("layout", list(box.LAYOUTS))
def test_every_mount_layout_has_its_own_places(folders, layout):
    places = {
        "lib": box.mount_path(layout, "dataset", "alice", "car-lib"),
        "competition": box.mount_path(layout, "competition", "", "some-cars"),
    }
    inputs = dict.fromkeys(places.values(), folders / "data")
    text = (
        "import os\nroot = os.environ.get('KAGGLE_ROOT', '/kaggle')\n"
        f"for place in {list(inputs)}: print(os.listdir(root + '/input/' + place))"
    )
    assert run(folders, text, inputs) == (0, ["['data.csv']"] * 2)
    expected = {
        "official": {"lib": "car-lib", "competition": "some-cars"},
        "conflict": {"lib": "alice/car-lib", "competition": "some-cars"},
        "typed": {"lib": "datasets/alice/car-lib", "competition": "competitions/some-cars"},
    }
    assert places == expected[layout]


def test_single_files_can_be_shown(folders, kind):
    text = (
        "import os\nprint(open(os.environ.get('KAGGLE_ROOT', '/kaggle') + '/input/c/t.csv').read())"
    )
    assert run(folders, text, {"c/t.csv": folders / "data" / "data.csv"})[1][0] == "Id"


@pytest.mark.parametrize("editable", [True, False])
def test_installed_packages_do_not_leak_into_the_run(folders, editable):
    need_namespaces(["unshare", *SPACES])
    python = install(folders / "venv", editable)
    (folders / "lib" / "photos").mkdir(parents=True)
    (folders / "lib" / "photos" / "__init__.py").write_text("WHERE = 'mounted'")
    text = (
        "import importlib.util, sys\nsys.path.insert(0, '/kaggle/input/lib')\nimport photos\n"
        "try:\n    import ship.loopback\nexcept ImportError:\n    print(photos.WHERE)"
    )
    call = (
        "import sys\nfrom loopback.sandbox import run_script\n"
        f"status = run_script({str(script(folders, text))!r}, {{'lib': {str(folders / 'lib')!r}}}, "
        f"{str(folders / 'out')!r}, print, 60)\nsys.exit(status)"
    )
    done = subprocess.run([python, "-c", call], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "mounted\n"), done.stderr


def install(folder, editable):
    """Make a virtual environment into which this project is installed, as `pip` would do it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    places = "import sysconfig; print(sysconfig.get_path('purelib'))"
    python = folder / "bin" / "python"
    done = subprocess.run([python, "-c", places], capture_output=True, text=True, check=True)
    packages = Path(done.stdout.strip())
    if editable:
        (packages / "project.pth").write_text(f"{LIB}\n")
        return python
    for name in ("loopback", "kernelkit"):
        shutil.copytree(LIB / name, packages / name)
    record = packages / "project-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: project\nVersion: 1.0\n")
    (record / "top_level.txt").write_text("ship\ncommon\n")
    return python


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("print('fine')", 0),
        ("raise SystemExit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143),
        ("raise RuntimeError", 1),
    ],
)
def test_exit_status_is_the_scripts(folders, text, expected):
    assert run(folders, text)[0] == expected


def test_lines_arrive_while_it_runs_and_by_stream(folders, kind):
    text = (
        "import sys, time\nprint('first'); time.sleep(1); print('later')\n"
        "sys.stdout.buffer.write(b'\\xff raw\\r\\n'); print('problem', file=sys.stderr)\n"
    )
    times, out, errors = [], [], []

    def on_line(line):
        times.append(time.monotonic())
        out.append(line)

    path = script(folders, text)
    box.run_script(path, {}, folders / "out", on_line, 60, on_error_line=errors.append)
    assert out == ["first", "later", "\ufffd raw"]
    assert errors == ["problem"]
    assert times[1] - times[0] > 0.5


def test_time_limit_kills_the_whole_tree(folders, kind):
    marker = f"limit-{kind}-{os.getpid()}"
    path = script(folders, sleeper(marker))
    with pytest.raises(TimeoutError, match="after 2 seconds"):
        box.run_script(path, {}, folders / "out", timeout=2)
    assert gone(marker)


def test_a_receiver_that_fails_ends_the_run(folders):
    marker = f"receiver-{os.getpid()}"

    def receive(line):
        raise RuntimeError(f"no {line}")

    path = script(folders, sleeper(marker))
    with pytest.raises(RuntimeError, match="no up"):
        box.run_script(path, {}, folders / "out", receive, 60)
    assert gone(marker)


def test_stop_event_kills_the_run(folders):
    marker, stop = f"stop-{os.getpid()}", threading.Event()
    path = script(folders, sleeper(marker))
    status = box.run_script(path, {}, folders / "out", lambda line: stop.set(), 60, stop=stop)
    assert status == 137
    assert gone(marker)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("plain", [False, True])
def test_nothing_outlives_a_caller_that_dies(folders, number, plain):
    marker = f"caller-{number}-{plain}-{os.getpid()}"
    scratch = folders / "scratch"
    scratch.mkdir()
    call = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.path.insert(0, {str(LIB)!r})\nfrom loopback.sandbox import run_script\n"
        f"run_script({str(script(folders, sleeper(marker)))!r}, {{}}, {str(folders / 'out')!r}, "
        "lambda line: print(line, flush=True))"
    )
    more = {"TMPDIR": str(scratch), **({"SHIP_BOX": "plain"} if plain else {})}
    caller = subprocess.Popen(
        [sys.executable, "-c", call],
        env={**os.environ, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with caller:
        try:
            assert caller.stdout.readline() == b"up\n"
            assert seen(marker)
            caller.send_signal(number)
        except BaseException:
            caller.kill()  # or leaving the block would wait for it
            raise
    assert gone(marker)
    assert gone(str(scratch))
    unpacked = [path for path in scratch.rglob("unpacked") if path.is_file()]
    assert unpacked == [], "what the script has unpacked was left behind"


def test_nothing_is_left_on_the_host(folders, kind, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(folders / "scratch"))
    (folders / "scratch").mkdir()
    mounts = Path("/proc/self/mounts")
    before = mounts.read_text() if mounts.exists() else ""
    run(folders, "open('/tmp/x', 'w')", {"a": folders / "data"})
    assert list((folders / "scratch").iterdir()) == []
    assert (mounts.read_text() if mounts.exists() else "") == before
    assert not Path("/kaggle").exists()


def test_an_ordinary_user_gets_the_same_box(folders):
    """A test that runs as root becomes the user nobody, with a Python that nobody may run."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("tried by the other tests, which run as an ordinary user")
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-i"]
    if not works([*become, *USER]):
        pytest.skip("this kernel gives no user namespaces to an ordinary user")
    with tempfile.TemporaryDirectory() as name:
        public = Path(name)
        public.chmod(0o777)
        shutil.copytree(LIB / "loopback", public / "loopback")
        shutil.copytree(LIB / "kernelkit", public / "kernelkit")
        (public / "any.py").write_text(
            "import os\ntry:\n    open('/kaggle/src/x', 'w')\nexcept OSError as error:\n"
            "    print(error.strerror)\nopen('/kaggle/working/made', 'w')"
        )
        call = (
            "import os, sys; sys.path.insert(0, '.'); from loopback import sandbox as box\n"
            "print(os.geteuid(), box.guarantees())\n"
            "sys.exit(box.run_script('any.py', {}, 'out', print, 60))"
        )
        for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
            if not works([*become, python, "-c", "import sys; assert sys.version_info >= (3, 11)"]):
                continue
            command = [*become, python, "-c", call]
            done = subprocess.run(command, cwd=public, capture_output=True, text=True, check=False)
            assert done.stdout.splitlines() == ["65534 []", "Read-only file system"], done.stderr
            assert done.returncode == 0
            assert (public / "out" / "made").stat().st_uid == 65534
            return
    pytest.skip("no Python of 3.11 or newer that an ordinary user can run")


def test_without_namespaces_it_says_what_is_missing(folders, monkeypatch):
    choose(monkeypatch, [])
    assert any("network" in line for line in box.guarantees())
    text = (
        "import os, urllib.request\nroot = os.environ['KAGGLE_ROOT']\n"
        "print(*(os.stat(root + place).st_mode & 0o222 for place in ('/src', '/input/a')))\n"
        "try: urllib.request.urlopen('http://example.com', timeout=5)\n"
        "except OSError: print('no download')\n"
    )
    assert run(folders, text, {"a": folders / "data"}) == (0, ["0 0", "no download"])
    assert run(folders, "", {}) == (0, [])


def test_a_repository_that_lies_in_the_system_is_hidden(folders, monkeypatch):
    """Folders such as /opt and /usr/src are shown to the script."""
    need_namespaces(["unshare", *SPACES])
    monkeypatch.setattr(box, "SYSTEM", (*box.SYSTEM, LIB.parts[1]))
    text = f"import os\nprint(os.path.exists({str(LIB.parent)!r}), os.listdir({str(LIB)!r}))"
    status, lines = run(folders, text)
    assert status == 0
    assert lines == ["True []"]


def test_the_callers_variables_come_last(folders, kind):
    text = "import os\nprint(os.environ['HOME'], os.environ['KAGGLE_KERNEL_RUN_TYPE'])"
    chosen = {"HOME": "/nowhere", "KAGGLE_KERNEL_RUN_TYPE": "Interactive"}
    assert run(folders, text, environment=chosen)[1][0] == "/nowhere Interactive"


def test_namespaces_promise_everything():
    need_namespaces(["unshare", *SPACES])
    assert box.guarantees() == []


def test_a_missing_script_or_folder_is_named(folders):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        box.run_script(folders / "nothing-here.py", {}, folders / "out")
    with pytest.raises(FileNotFoundError, match="no-folder"):
        box.run_script(script(folders, ""), {"a": folders / "no-folder"}, folders / "out")
