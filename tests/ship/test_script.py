"""The kernel's script is parsed, never run: its overrides, its settings, its block."""

import time

import pytest

from kernelkit.core.problem import Problem
from ship.project.script import (
    OVERRIDES_BEGIN,
    OVERRIDES_END,
    Setting,
    declared_settings,
    overrides_in,
    syntax_error,
    with_overrides,
)

BLOCK = f"import os\n{OVERRIDES_BEGIN}OVERRIDES: dict[str, str] = {{}}\n{OVERRIDES_END}print(1)\n"


@pytest.mark.parametrize("settings", [{}, {"epochs": "2"}, {"note": 'it\'s "}" \\ \n # ---'}])
def test_settings_are_read_back_from_the_script_that_is_pushed(settings):
    text = with_overrides("kernel.py", BLOCK, settings, "mark")
    assert syntax_error(text) == ""
    assert "# ship: mark\n" in text
    assert overrides_in(text) == settings


def test_settings_that_stand_in_the_script_are_not_dropped():
    text = with_overrides("kernel.py", BLOCK, {"epochs": "2", "seed": "7"}, "mark")
    with pytest.raises(Problem, match=r"in its marked block \(epochs seed\).*give them with --set"):
        with_overrides("kernel.py", text, {}, "other")
    text = with_overrides("kernel.py", BLOCK, {}, "mark")
    assert overrides_in(with_overrides("kernel.py", text, {"epochs": "2"}, "other")) != {}


@pytest.mark.parametrize("text", ["", "print(1)", BLOCK * 2, OVERRIDES_BEGIN])
def test_a_script_without_the_one_block_is_refused(text):
    with pytest.raises(Problem, match=r"kernel\.py must hold the marked block .* exactly once"):
        with_overrides("kernel.py", text, {}, "mark")


@pytest.mark.parametrize(
    "inside",
    [
        "OVERRIDES = {\n" * 100_000,
        "OVERRIDES = {" + "[" * 100_000,
        "OVERRIDES = {'a': open('/etc/passwd')}\n",
        "OVERRIDES = 7\n",
        "\0",
    ],
)
def test_a_hostile_source_gives_no_settings_at_once(inside):
    started = time.process_time()
    assert overrides_in(inside) == overrides_in(OVERRIDES_BEGIN + inside + OVERRIDES_END) == {}
    assert time.process_time() - started < 2


def test_settings_are_those_that_the_class_declares():
    text = (
        "class Other:\n    a: int = setting(1, 'first')\n"
        "class Config:\n    a: int = setting(2, 'changed')\n    b: str = session('x', 'second')\n"
        "    c: int = other(3)\n"
    )
    assert declared_settings(text) == [Setting("a", "2", "changed"), Setting("b", "'x'", "second")]
    assert declared_settings("class Config:") == declared_settings("x = 1") == []
