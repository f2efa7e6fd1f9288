"""The ground floor: files that survive a crash, locks, and errors that become one sentence."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernelkit.core.boundary import Boundary
from kernelkit.core.files import scratch_folder, temporary_name, write_atomically
from kernelkit.core.locks import only_one
from kernelkit.core.problem import Problem
from kernelkit.core.tables import read_csv

LIB = Path(__file__).parents[2] / "lib"


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")

    def fail(beside):
        beside.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_bytes_and_writers_make_files_in_missing_folders(tmp_path):
    for name, content in {
        "a": "é",
        "b": "é".encode(),
        "c": lambda p: p.write_text("é", "utf-8"),
    }.items():
        write_atomically(tmp_path / "deep" / name, content)
        assert (tmp_path / "deep" / name).read_text(encoding="utf-8") == "é"


@pytest.mark.parametrize("name", ["n" * 250 + ".json", "é" * 127, "a." + "s" * 250])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, name):
    assert len(os.fsencode(name)) > 250
    write_atomically(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_temporary_file_is_hidden_and_keeps_the_suffix(tmp_path):
    seen = []
    write_atomically(tmp_path / "a.npz", lambda beside: seen.append(beside) or beside.touch())
    assert seen[0].name.startswith(".")
    assert seen[0].suffix == ".npz"


def test_a_size_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    def never(beside):
        pytest.fail("the writer was called")

    with pytest.raises(OSError, match=r"File too large|No space left"):
        write_atomically(tmp_path / "large", never, size=1 << 60)
    assert list(tmp_path.iterdir()) == []


def test_scratch_belongs_to_the_output_folder(tmp_path):
    one, other = (scratch_folder("test", tmp_path / name) for name in "ab")
    assert one.is_dir()
    assert one != other
    assert scratch_folder("test", tmp_path / "a") == one
    (one / "unpacked").touch()
    assert list(scratch_folder("test", tmp_path / "a").iterdir())
    assert not list(scratch_folder("test", tmp_path / "a", fresh=True).iterdir())
    one.rmdir()
    other.rmdir()


class TestLock:
    """Whoever comes second is told who is first."""

    def test_a_holder_is_named_and_a_dead_one_keeps_nothing(self, tmp_path):
        lock = tmp_path / "runs" / ".lock"
        code = (
            "import sys; from pathlib import Path; from kernelkit.core.locks import only_one\n"
            "with only_one(Path(sys.argv[1]), ''):\n"
            "    print('held', flush=True); sys.stdin.read()\n"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", code, str(lock)]
        holder = subprocess.Popen(command, env=environment, **pipes)
        assert holder.stdout.readline() == "held\n"
        named = f"^a{{b}} is in use by process {holder.pid}, since"
        with pytest.raises(Problem, match=named), only_one(lock, "a{b} is in use by {holder}"):
            pytest.fail("two hold the lock")
        holder.kill()
        holder.communicate()
        with only_one(lock, "in use"):
            pass

    def test_its_files_can_be_removed_at_the_end(self, tmp_path):
        with only_one(tmp_path / ".lock", "in use", remove=True):
            assert (tmp_path / ".lock").exists()
        assert list(tmp_path.iterdir()) == []


class TestBoundary:
    """One sentence on standard error, and an exit status."""

    @pytest.fixture
    def boundary(self, tmp_path):
        file = tmp_path / "runs" / "traceback.txt"
        hide = lambda text: text.replace("s3cret", "[secret]")  # noqa: E731
        return Boundary("tool", file, "What was done is safe.", hide, doing="counting")

    def end(self, boundary, error, capsys):
        def work():
            raise error

        status = boundary.run(work)
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return status, said.strip()

    def test_work_that_ends_well(self, boundary, capsys):
        assert boundary.run(lambda: None) == 0
        assert capsys.readouterr().err == ""

    def test_a_problem_is_its_sentence(self, boundary, capsys):
        assert self.end(boundary, Problem("The s3cret is bad."), capsys) == (
            1,
            "tool: The [secret] is bad.",
        )
        assert not boundary.traceback_file.exists()

    def test_the_unexpected_is_explained_and_its_traceback_kept(self, boundary, capsys):
        status, said = self.end(boundary, KeyError("s3cret"), capsys)
        assert status == 1
        assert said == (
            "tool: an unexpected error while counting (KeyError: '[secret]'); the full traceback "
            f"is in {boundary.traceback_file}. What was done is safe."
        )
        kept = boundary.traceback_file.read_text()
        assert "Traceback" in kept
        assert "KeyError: '[secret]'" in kept

    def test_a_traceback_that_cannot_be_kept(self, boundary, capsys):
        boundary.traceback_file.parent.write_text("a file where a folder should be")
        status, said = self.end(boundary, KeyError("x"), capsys)
        assert status == 1
        assert "its traceback could not be written" in said

    def test_a_full_disk(self, boundary, capsys):
        error = OSError(errno.ENOSPC, "No space left on device", "/out/state.json")
        assert self.end(boundary, error, capsys) == (
            1,
            "tool: the disk of /out/state.json is full (while counting): free some space. "
            "What was done is safe.",
        )

    def test_a_file_that_cannot_be_used(self, boundary, capsys):
        error = PermissionError(errno.EACCES, "Permission denied", "/out")
        status, said = self.end(boundary, error, capsys)
        assert status == 1
        assert said.startswith("tool: /out can't be used (Permission denied) while counting")

    def test_ctrl_c(self, boundary, capsys):
        status, said = self.end(boundary, KeyboardInterrupt(), capsys)
        assert status == 130
        assert said == "tool: interrupted while counting. What was done is safe."


def test_a_csv_is_read_as_text(tmp_path):
    (tmp_path / "a.csv").write_text("﻿Id,Category\n007,NA\n8\n", encoding="utf-8")
    table = read_csv(tmp_path / "a.csv")
    assert table.to_numpy().tolist() == [["007", "NA"], ["8", ""]]
    (tmp_path / "b.csv").write_text("Id\n")
    with pytest.raises(Problem, match=r"b\.csv has no rows"):
        read_csv(tmp_path / "b.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_may_have_another_separator(tmp_path, separator, encoding, end):
    rows = [["Id", "the label"], ["a, b.jpg", '"one\ntwo"'], ["b.jpg", "0,5 | x\ty; z"]]
    rows += [[f"{n}.jpg", ""] for n in range(30)]
    quoted = [[f'"{value.strip(chr(34))}"' for value in row] for row in rows]
    text = end.join(separator.join(row).replace("\n", end) for row in quoted) + end
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    table = read_csv(tmp_path / "a.csv")
    assert table.columns.tolist() == rows[0]
    assert table.iloc[0, 0] == "a, b.jpg"
    assert table.iloc[0, 1].split() == ["one", "two"]
    assert table.to_numpy()[1:].tolist() == rows[2:]


def test_decimal_commas_do_not_hide_another_separator(tmp_path):
    (tmp_path / "a.csv").write_text("Id;share\na.jpg;0,5\nb.jpg;0,25\n")
    assert read_csv(tmp_path / "a.csv").to_numpy().tolist() == [["a.jpg", "0,5"], ["b.jpg", "0,25"]]


def test_a_comma_comes_first_where_another_separator_fits_too(tmp_path):
    (tmp_path / "a.csv").write_text("Id|x,label|y\na|1,b|2\n")
    assert read_csv(tmp_path / "a.csv").to_numpy().tolist() == [["a|1", "b|2"]]


def test_a_temporary_file_keeps_the_suffixes_by_which_keras_and_numpy_choose_a_format(tmp_path):
    names = ["best.weights.h5", "optimizer.npz", "n" * 240 + ".weights.h5", "x." + "y" * 250]
    made = [temporary_name(tmp_path / name).name for name in names]
    assert [name.partition(".partial-")[2][12:] for name in made[:3]] == [
        ".weights.h5",
        ".npz",
        ".weights.h5",
    ]
    assert max(map(len, made)) < 60


def run_script(code, **settings):
    """Run Python code beside our packages, with the boundary's guard in force."""
    head = f"import sys; sys.path.insert(0, {str(LIB)!r})\n"
    head += "from kernelkit.core.boundary import Boundary, guard\nguard('tool')\n"
    settings = {"capture_output": True, "check": False, "timeout": 60} | settings
    return subprocess.run([sys.executable, "-c", head + code], **settings)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_no_letter_ends_a_program(encoding, tmp_path):
    code = r"print('\u017b\u2713 \udcff'); print('on')"
    done = run_script(code, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    assert b"\\u2713" in done.stdout
    assert done.stdout.splitlines()[-1] == b"on"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_is_gone_ends_no_program(stream, tmp_path):
    """As after `| head -1`: the work goes on and the status is the work's."""
    code = f"""
import pathlib, sys
def work():
    for _ in range(9999):
        print("line", file=sys.{stream}, flush=True)
    pathlib.Path({str(tmp_path / "done")!r}).write_text("")
sys.exit(Boundary("tool").run(work) or 7)
"""
    reading, writing = os.pipe()
    os.close(reading)
    done = run_script(code, **{"capture_output": False, stream: writing})
    os.close(writing)
    assert done.returncode == 7
    assert (tmp_path / "done").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell's closed descriptors")
def test_a_file_never_takes_the_place_of_a_closed_stream(tmp_path):
    file = tmp_path / "data"
    code = f"""
import os
with open({str(file)!r}, "wb") as data:
    print("a line")
    os.write(1, b"from a library")
    data.write(b"data")
"""
    done = run_script(code, capture_output=False, preexec_fn=lambda: [os.close(n) for n in (0, 1)])
    assert done.returncode == 0
    assert file.read_bytes() == b"data"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("raise PermissionError(13, 'Permission denied', '/secret')", "/secret can't be used"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_what_fails_before_the_boundary_is_one_sentence(code, said, tmp_path):
    done = run_script(code, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("tool: ")
    assert said in line


@pytest.mark.skipif(os.name != "posix" or os.geteuid(), reason="becomes another user")
def test_an_unknown_user_without_a_home_gets_one():
    code = "from pathlib import Path; print(Path.home())"
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    head = f"import os, sys; sys.path.insert(0, {str(LIB)!r}); "
    head += "from kernelkit.core.boundary import guard\n"
    script = f"{head}os.setuid(54321); guard('tool'); {code}"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert done.stdout.strip(), done.stderr


def test_a_folder_that_is_gone_is_said(tmp_path):
    (tmp_path / "gone").mkdir()
    code = "import os; os.rmdir(os.getcwd()); sys.exit(Boundary('tool').run(os.getcwd))"
    done = run_script(code, cwd=tmp_path / "gone")
    assert done.returncode == 1
    assert b"the current folder can't be used" in done.stderr
