"""A setting's accepted range is what later code accepts, and a wrong value is one sentence."""

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Literal

import pytest

from kernelkit.config.command_line import Parser, read_settings
from kernelkit.config.members import expand_members
from kernelkit.config.settings import read, setting, shared, size_text, text_of
from kernelkit.core.progress import EpochProgress


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


def test_none_takes_back_what_the_recipe_says():
    assert config("--recipe", "large").size == (384, 512)
    assert config("--recipe", "large", "--size", "none").size is None
    assert config("--minutes", "None", overrides={"minutes": "5"}).minutes is None
    assert config("--weights", "none").weights == "none"  # can't be None


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
        ("steps", "a]:0:1:1", "'a]' must neither begin nor end with a blank and hold none of []:,"),
        ("steps", "[1:0:1:1", "'[1' must neither begin nor end with a blank"),
        ("steps", "a\nb:0:1:1", "'a\\nb' must neither"),
        ("steps", "A:0:1:1,a:0:1:1", "the name 'a' stands in 2 rows, but must differ"),
        ("steps", "..:0:1:1", "'..' can't be the name of a folder"),
        ("steps", ".:0:1:1", "'.' can't be the name of a folder"),
        ("steps", "a.:0:1:1", "'a.' can't be the name of a folder"),
        ("steps", "NUL.txt:0:1:1", "'NUL.txt' can't be the name of a folder"),
        ("steps", "../a:0:1:1", "'../a' must neither"),
        ("steps", "a|b:0:1:1", "'a|b' must neither"),
        ("steps", f"{'a' * 300}:0:1:1", "... has 300 bytes, more than 100"),
        ("steps", f"{'ü' * 60}:0:1:1", "... has 120 bytes, more than 100"),
    ],
)
def test_a_wrong_value_is_one_sentence_wherever_it_stands(option, text, said, capsys):
    line = sentence(capsys, f"--{option}", text)
    assert f"argument --{option}: " in line
    assert said in line
    line = sentence(capsys, overrides={option: text})
    assert f"OVERRIDES, {option}: " in line
    assert said in line


@pytest.mark.parametrize("name", ["head", "three-quarters", "all of it", "Ünïcode"])
def test_an_accepted_name_survives_the_progress_line(name):
    (step,) = config("--steps", f"{name}:0:1:1").steps
    line = EpochProgress(number=1, stages=1, stage=step.name, epoch=1, epochs=1).line()
    assert EpochProgress.parse(line).stage == name


def test_an_unknown_override_is_named(capsys):
    said = sentence(capsys, overrides={"pases": "2"})
    assert "OVERRIDES: there is no setting 'pases'; did you mean passes?" in said


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("passes", 41, "41 must be at least 1 and at most 20"),
        ("passes", 1.5, "'1.5' is not a whole number"),
        ("passes", None, "'none' is not a whole number"),
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


@dataclass(frozen=True)
class Row:
    """A row whose optional fields are of every type."""

    name: str = setting(help="of the row", unique=True)
    model: str = setting(help="row of a table")
    scale: float = setting(1.0, "of its sides", above=0, most=3)
    views: int = setting(0, "of each photo", least=0, most=50)
    size: tuple[int, int] | None = setting(None, "N or HxW", least=32, most=512)
    base: str | None = setting(None, "row of RECIPES")
    mixed: bool = setting(False, "yes, no")


ROW_NAMES = {"model": ["Small", "Large"], "base": ["plain", "large"]}
ANY_ROWS = setting(()).metadata  # of a field that may have no row
SOME_ROWS = setting((Row("a", "Small"),)).metadata


def read_rows(text, metadata=ANY_ROWS):
    return read(text, tuple[Row, ...], metadata, row_names=ROW_NAMES)


def said_of(text, metadata=ANY_ROWS):
    """Return the clause that is said of rows that are not accepted."""
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        read_rows(text, metadata)
    return str(refused.value)


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (Row("a", "Small"),),
        (Row("a", "Small", 1.5), Row("b", "Large", views=4)),
        (Row("all of it", "Large", 0.1, 50, (48, 64), "large", True),),
        (Row("square", "Small", size=(336, 336)), Row("thin", "Small", scale=1e-7)),
        (Row("a=b", "Small", mixed=True),),
    ],
)
def test_rows_with_optional_fields_read_back_from_their_text(rows):
    assert read_rows(text_of(rows)) == rows


def test_the_text_of_rows_names_only_what_differs_from_the_defaults():
    assert text_of((Row("a", "Small"), Row("b", "Small", 1.5, mixed=True))) == (
        "a:Small,b:Small:scale=1.5:mixed=yes"
    )
    assert text_of(()) == "none"


@pytest.mark.parametrize(
    "text",
    [
        "a:Small:scale=1.5:views=4:size=300x400",
        "a:Small:size=300x400:views=4:scale=1.5",
        "a:small:views=4:size=300X400:scale=15e-1",
    ],
)
def test_optional_fields_stand_in_any_order(text):
    assert read_rows(text) == (Row("a", "Small", 1.5, 4, (300, 400)),)


@pytest.mark.parametrize(
    "line",
    [
        "a:Small:unknown=1",
        "a:Small:scale=1:scale=2",  # repeated
        "a:Small:1.5",  # without its name
        "a:Small:=1.5",
        "a:Small:scale",
        "a:Small:model=Large",  # a required one has its place
        "a:Small:scale=1:",
        "a",
        "",
    ],
)
def test_unknown_repeated_and_missing_names_are_told_with_the_form(line):
    form = "name:model[:scale=...][:views=...][:size=...][:base=...][:mixed=...]"
    assert said_of(line, SOME_ROWS) == f"{line!r} is not of the form {form}"
    if line:
        said = said_of(f"first:Small,{line}")
        assert said == f"{line!r} is not of the form {form}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a:Small:scale=0", "scale: 0 must be more than 0 and at most 3"),
        ("a:Small:scale=", "scale: '' is not a number"),
        ("a:Small:views=1.5", "views: '1.5' is not a whole number"),
        ("a:Small:size=8", "size: 8 must be at least 32 and at most 512"),
        ("a:Small:views=none", "views: 'none' is not a whole number"),
        ("a:Small:size=nothing", "size: 'nothing' is not a whole number"),
        ("a:Small:mixed=maybe", "mixed: 'maybe' is not one of yes, no"),
        ("a:Huge", "model: 'Huge' is not one of Small, Large"),
        ("a:Small:base=best", "base: 'best' is not one of plain, large"),
    ],
)
def test_what_is_wrong_in_a_row_names_the_row_and_the_field(line, said):
    assert said_of(f"first:Small,{line}") == f"in {line!r}, {said}"


def test_names_in_rows_are_read_in_any_case():
    assert read_rows("a:LARGE:base=Plain") == (Row("a", "Large", base="plain"),)


def test_a_size_in_a_row_is_none_where_it_is_not_given():
    one, told, other = read_rows("a:Small,b:Small:size=None,c:Small:size=64")
    assert (one.size, told.size, other.size) == (None, None, (64, 64))


@dataclass(frozen=True)
class Limits:
    """A row of fields that may be None; the default of some is another value."""

    name: str = setting(help="of the row", unique=True)
    most: int | None = setting(3, "of something", least=1)
    rate: float | None = setting(None, "of something")
    order: Literal["first", "last"] | None = setting("first", "of two")
    mixed: bool | None = setting(True, "yes, no")
    size: tuple[int, int] | None = setting((48, 64), "N or HxW", least=32)
    note: str | None = setting("as before", "any text")


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("most", None, "none"),
        ("most", 4, "4"),
        ("rate", 0.5, "0.5"),
        ("order", None, "none"),
        ("order", "last", "last"),
        ("mixed", None, "none"),
        ("mixed", False, "no"),
        ("size", None, "none"),
        ("size", (64, 48), "64x48"),
        ("note", None, "none"),
        ("note", "a = b", "a = b"),
    ],
)
def test_none_reads_back_where_it_is_not_the_default(field, value, text):
    rows = (dataclasses.replace(Limits("a"), **{field: value}), Limits("b"))
    assert text_of(rows) == f"a:{field}={text},b"
    assert read(text_of(rows), tuple[Limits, ...], ANY_ROWS) == rows


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a:order=middle", "order: 'middle' is not one of first, last"),
        ("a:most=0", "most: 0 must be at least 1"),
        ("a:mixed=maybe", "mixed: 'maybe' is not one of yes, no"),
    ],
)
def test_other_values_of_fields_that_may_be_none_are_checked(line, said):
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        read(line, tuple[Limits, ...], ANY_ROWS)
    assert str(refused.value) == f"in {line!r}, {said}"


def test_no_row_is_accepted_only_where_that_is_the_default():
    assert read_rows("none") == read_rows("NONE") == ()
    assert "'none' is not of the form name:model" in said_of("none", SOME_ROWS)


@dataclass(frozen=True)
class WithRows:
    recipe: str = setting("plain", "where to start from")
    model: str = setting("Small", "row of a table")
    size: tuple[int, int] | None = setting(None, "N or HxW", least=32, most=512)
    factor: float = setting(0.25, "of something", least=0, most=9)
    seed: int = setting(42, "of everything", least=0)
    most: int | None = setting(None, "of something", least=1)
    rows: tuple[Row, ...] = setting((), "name:model[:scale=...],...")


def test_rows_are_checked_against_the_names_of_the_command_line(capsys):
    recipes = {"plain": WithRows()}
    names = {"model": ["Small", "Large"], "base": ["plain"]}

    def read_line(*argv):
        parser = argparse.ArgumentParser()
        return read_settings(parser, recipes, lambda options: "plain", {}, argv, names)[0]

    assert read_line("--rows", "a:large").rows == (Row("a", "Large"),)
    assert read_line("--rows", "none").rows == ()
    with pytest.raises(SystemExit) as stop:
        read_line("--rows", "a:Huge")
    assert stop.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "argument --rows: in 'a:Huge', model: 'Huge' is not one of Small, Large" in said


@dataclass(frozen=True)
class Part:
    """A row as `expand_members` takes it."""

    name: str = setting(help="of the member", unique=True)
    model: str = setting(help="row of a table")
    size: tuple[int, int] | None = setting(None, "N or HxW", least=32, most=512)
    recipe: str | None = setting(None, "row of RECIPES")


@dataclass(frozen=True)
class Whole:
    model: str = "Small"
    size: tuple[int, int] | None = None
    factor: float = 0.25
    seed: int = shared(42)
    most: int | None = shared(None)
    members: tuple[Part, ...] = ()
    candidates: tuple[Part, ...] = ()


WHOLES = {"plain": Whole(), "quick": Whole(size=(30, 40), factor=0.5, seed=1, most=4)}


def expand(*members, **session):
    config = Whole(members=members, **session)
    return expand_members(config, WHOLES)


def test_a_config_without_members_has_none():
    assert expand() == {}


def test_a_member_does_not_know_the_others():
    assert expand(Part("a", "Large"), Part("b", "Large"))["a"].members == ()


def test_a_member_has_the_config_of_the_session_but_for_what_its_row_says():
    parts = Part("a", "Large"), Part("b", "Small", (48, 64))
    members = expand(*parts, size=(99, 99), factor=0.75, seed=7)
    assert list(members) == ["a", "b"]
    assert members["a"] == Whole("Large", (99, 99), 0.75, 7, None)  # as asked for
    (model,) = expand(Part("a", "Large"), size=None).values()
    assert model.size is None  # the model's own
    assert members["b"] == Whole("Small", (48, 64), 0.75, 7, None)


def test_a_member_of_a_recipe_takes_its_settings_and_the_shared_ones_of_the_session():
    parts = Part("a", "Large", recipe="quick"), Part("b", "Large", (48, 64), "quick")
    members = expand(*parts, size=(99, 99), factor=0.75, seed=7)
    assert members["a"] == Whole("Large", (30, 40), 0.5, 7, 4)
    assert members["b"].size == (48, 64)
    assert expand(*parts, most=2)["a"].most == 2


def own_config(*argv):
    parser = Parser(prog="kernel.py")
    parser.add_argument("--data")
    names = {"model": ["Small", "Large"]}
    return read_settings(parser, RECIPES, lambda options: "plain", {}, argv, names)[0]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--pasess", "3"), "unrecognized arguments: --pasess 3; did you mean --passes?"),
        (("--pasess=3",), "unrecognized arguments: --pasess=3; did you mean --passes?"),
        (("--passe", "3"), "unrecognized arguments: --passe 3; did you mean --passes?"),
        (("--zzz",), "unrecognized arguments: --zzz; --help lists all options"),
        (("photos",), "unrecognized arguments: photos"),
        (("--passes", "99"), "argument --passes: 99 must be at least 1 and at most 20"),
        (
            ("--recipe", "larg"),
            "argument --recipe: 'larg' is not one of plain, large; did you mean large?",
        ),
    ],
)
def test_a_typo_is_one_line_with_the_nearest_option(argv, said, capsys):
    with pytest.raises(SystemExit) as stop:
        own_config(*argv)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kernel.py: error: {said}")


def test_an_option_may_have_underscores_and_its_value_keeps_its_own(capsys):
    @dataclass(frozen=True)
    class Own:
        recipe: str = setting("one", "recipe")
        the_file: str = setting("none", "a file", group="files")

    for words in (["--the_file=my_file.h5"], ["--the_file", "my_file.h5"]):
        parser = Parser(prog="kernel.py")
        read_in = read_settings(parser, {"one": Own()}, lambda _: "one", {}, words, {})[0]
        assert read_in.the_file == "my_file.h5"
    parser = Parser(prog="kernel.py")
    with pytest.raises(SystemExit):
        read_settings(parser, {"one": Own()}, lambda _: "one", {}, ["--help"], {})
    text = " ".join(capsys.readouterr().out.split())
    assert "files: --the-file VALUE a file [text] (default: none)" in text
