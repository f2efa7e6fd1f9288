"""What the README promises exists: its commands, their options, and what CI runs."""

import contextlib
import io
import re
from pathlib import Path

from kernelkit.train.output import WRITTEN
from ship import __main__ as ship
from tiny_kernel import kernel

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.strip() for line in re.findall(r"^ {4}(.+)$", README, re.MULTILINE)]


def help_of(program, *arguments: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        program([*arguments, "--help"])
    return said.getvalue()


def test_the_first_two_commands_set_up_and_run():
    first, second = COMMANDS[:2]
    install = "python3 -m venv .venv && .venv/bin/pip install -q -e "
    assert first == install + ". && .venv/bin/ship rehearse"
    assert second == install + "'.[test]' && .venv/bin/pytest -n 3"


def test_ci_runs_the_second_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"python3 -m venv .*\n.*pip\" install .*-e '\.\[test\]'", script)
    assert script.rstrip().endswith('/pytest" -n 3')


def test_every_command_of_ship_exists():
    named = set(re.findall(r"(?:`| {4}|/)ship ([a-z]+)", README))
    assert {"rehearse", "doctor", "weights", "push"} <= named
    listed = help_of(ship.main)
    assert [name for name in named if not re.search(rf"^ +{name} ", listed, re.MULTILINE)] == []


def test_every_option_of_the_kernel_exists():
    named = set(
        re.findall(r"--[a-z][a-z-]+", " ".join([line for line in COMMANDS if "kernel.py" in line]))
    )
    assert {"--data", "--recipe", "--image-size"} <= named
    listed = help_of(kernel.read_arguments)
    assert [option for option in named if option not in listed] == []


def test_what_it_says_can_be_changed_is_there():
    for name in ("BACKBONES", "AUGMENTATIONS", "RECIPES", "COMPETITION"):
        assert f"`{name}`" in README
        assert hasattr(kernel, name)


def test_every_output_file_of_a_run_is_described():
    table = README[README.index("| file | what it is |") : README.index("## Reading the report")]
    for name in (name for name in WRITTEN if "/" not in name):
        assert f"`{name}`" in table or (name.endswith(".png") and "`*.png`" in table), name
