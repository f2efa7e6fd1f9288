"""A setting's accepted range is what later code accepts, and a wrong value is one sentence."""

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Literal

import pytest

from common import EpochProgress
from settings import read_settings, setting, size_text


@dataclass(frozen=True)
class Step:
    name: str = setting(help="of the step", unique=True)
    fraction: float = setting(help="of the layers", least=0, most=1)
    rate: float = setting(help="of learning", above=0, most=10)
    epochs: int = setting(help="at most", least=1, most=1000)


@dataclass(frozen=True)
class Config:
    recipe: str = setting("plain", "where to start from")
    model: str = setting("Small", "row of a table")
    weights: str = setting("none", "none, or a file")
    size: tuple[int, int] | None = setting(None, "N or HxW", least=32, most=512)
    steps: tuple[Step, ...] = setting((Step("one", 0, 0.1, 2),), "name:fraction:rate:epochs,...")
    passes: int = setting(4, "over each photo", least=1, most=20)
    factor: float = setting(0.25, "100 % is 1", least=0.01, below=1)
    minutes: float | None = setting(None, "for the whole run", above=0)
    seed: int = setting(42, "of everything", least=0, most=2**32 - 1)
    order: Literal["first", "last"] = setting("first", "of two")
    cache: bool = setting(True, "yes, no")


RECIPES = {"plain": Config(), "large": Config(model="Large", size=(384, 512), factor=0.5)}


def config(*argv, overrides=None, recipes=RECIPES):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data")
    names = {"model": ["Small", "Large"]}
    return read_settings(parser, recipes, lambda options: "plain", overrides or {}, argv, names)[0]


def sentence(capsys, *argv, **others):
    """Return the last line that is said of a wrong value, with which the program ends with 2."""
    with pytest.raises(SystemExit) as stop:
        config(*argv, **others)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_every_type_is_read_from_text():
    read = config(
        *("--model", "LARGE", "--weights", "a b.h5", "--size", "48x64", "--passes", "20"),
        *("--steps", "head:0:1e-3:2,all of it:1:10:1000", "--factor", "0.99", "--minutes", "1e-3"),
        *("--seed", "4294967295", "--order", "Last", "--cache", "no"),
    )
    steps = (Step("head", 0.0, 1e-3, 2), Step("all of it", 1.0, 10.0, 1000))
    assert read == Config(
        *("plain", "Large", "a b.h5", (48, 64), steps, 20, 0.99, 1e-3, 2**32 - 1, "last", False)
    )
    assert config("--size", "336").size == (336, 336)
    assert size_text((48, 64)) == "48x64"


def test_the_command_line_comes_before_overrides_and_they_before_the_recipe():
    overrides = {"recipe": "large", "passes": "7", "factor": "0.75"}
    read = config("--passes", "9", overrides=overrides)
    assert (read.recipe, read.model, read.factor, read.passes) == ("large", "Large", 0.75, 9)
    assert config("--recipe", "plain", overrides=overrides).model == "Small"
    assert config(overrides={"passes": 7}).passes == 7


def test_a_recipe_gets_its_name():
    assert config("--recipe", "large").recipe == "large"
    assert config().recipe == "plain"


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("passes", "41", "41 must be at least 1 and at most 20"),
        ("passes", "0", "0 must be at least 1 and at most 20"),
        ("passes", "two", "'two' is not a whole number"),
        ("passes", "1.5", "'1.5' is not a whole number"),
        ("passes", "9" * 400, "9 must be at least 1 and at most 20"),
        ("passes", "9" * 5000, "9' is not a whole number"),
        ("seed", "4294967296", "4294967296 must be at least 0 and at most 4294967295"),
        ("size", "1", "1 must be at least 32 and at most 512"),
        ("size", "64x31", "31 must be at least 32"),
        ("size", "64x", "'' is not a whole number"),
        ("size", "64x64x3", "'64x3' is not a whole number"),
        ("size", "big", "'big' is not a whole number"),
        ("minutes", "0", "0 must be more than 0"),
        ("minutes", "-1", "-1 must be more than 0"),
        ("minutes", "nan", "'nan' is not a number"),
        ("minutes", "inf", "'inf' is not a number"),
        ("factor", "1", "1 must be at least 0.01 and less than 1"),
        ("order", "middle", "'middle' is not one of first, last"),
        ("model", "huge", "'huge' is not one of Small, Large"),
        ("recipe", "best", "'best' is not one of plain, large"),
        ("cache", "maybe", "'maybe' is not one of yes, no"),
        ("weights", " ", "' ' is blank"),
        ("steps", "", "'' is not of the form name:fraction:rate:epochs"),
        ("steps", "a:0:1e-3", "'a:0:1e-3' is not of the form name:fraction:rate:epochs"),
        ("steps", "a:0:1e-3:0", "in 'a:0:1e-3:0', epochs: 0 must be at least 1"),
        ("steps", "a:2:1e-3:1", "fraction: 2 must be at least 0 and at most 1"),
        ("steps", "a:0:0:1", "rate: 0 must be more than 0 and at most 10"),
        ("steps", "a:0:x:1", "in 'a:0:x:1', rate: 'x' is not a number"),
        ("steps", "a:0:1:1,b:0:1:1,a:1:1:1", "the name 'a' stands in 2 rows, but must differ"),
        ("steps", ":0:1:1", "name: '' is blank"),
        ("steps", "a:0:1:1, b:0:1:1", "' b' must neither begin nor end with a blank"),
        ("steps", "a]:0:1:1", "'a]' must neither begin nor end with a blank and hold none of ]:,"),
        ("steps", "a\nb:0:1:1", "'a\\nb' must neither"),
    ],
)
def test_a_wrong_value_is_one_sentence_wherever_it_stands(option, text, said, capsys):
    line = sentence(capsys, f"--{option}", text)
    assert f"argument --{option}: " in line
    assert said in line
    line = sentence(capsys, overrides={option: text})
    assert f"OVERRIDES, {option}: " in line
    assert said in line


@pytest.mark.parametrize("name", ["head", "three-quarters", "all of it", "[1", "Ünïcode"])
def test_an_accepted_name_survives_the_progress_line(name):
    (step,) = config("--steps", f"{name}:0:1:1").steps
    line = EpochProgress(number=1, stages=1, stage=step.name, epoch=1, epochs=1).line()
    assert EpochProgress.parse(line).stage == name


def test_an_unknown_override_is_named(capsys):
    assert "OVERRIDES names no such setting: pases" in sentence(capsys, overrides={"pases": "2"})


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("passes", 41, "41 must be at least 1 and at most 20"),
        ("passes", 1.5, "'1.5' is not a whole number"),
        ("passes", None, "'None' is not a whole number"),
        ("cache", 1, "'1' is not one of yes, no"),
        ("model", "Huge", "'Huge' is not one of Small, Large"),
        ("size", (8, 64), "8 must be at least 32"),
        ("steps", (), "'none' is not of the form"),
        ("steps", (Step("a", 0, 0.1, 0),), "epochs: 0 must be at least 1"),
        ("steps", (Step("a:b", 0, 0.1, 1),), "is not of the form"),
        ("steps", 2 * (Step("a", 0, 0.1, 1),), "the name 'a' stands in 2 rows"),
    ],
)
def test_recipes_are_checked_like_the_command_line(field, value, said, capsys):
    recipes = RECIPES | {"large": dataclasses.replace(Config(), **{field: value})}
    line = sentence(capsys, recipes=recipes)
    assert f"recipe large, {field}: " in line
    assert said in line


def test_help_shows_every_setting_as_it_is_written(capsys):
    with pytest.raises(SystemExit) as stop:
        config("--help")
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "100 % is 1" in shown
    assert all(f"--{field.name}" in shown for field in dataclasses.fields(Config))
