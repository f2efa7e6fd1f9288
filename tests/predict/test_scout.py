"""What the scout finds, chooses and keeps; its process is replaced by one that answers at once."""

import dataclasses
import math
import time
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from kernelkit.config.rows import Stage
from kernelkit.config.settings import session
from kernelkit.core.files import as_json
from kernelkit.core.problem import Problem
from kernelkit.predict import scout as module
from kernelkit.predict.scout import Scout, forecast, scout, table
from kernelkit.train.output import open_state
from kernelkit.train.plan import Run, make_plan
from kernelkit.train.preflight_worker import NO_MEMORY, NOTHING, WORKED
from kernelkit.train.scouting import Features, labelled
from predictions import make_folds

BACKBONES = {"Net": SimpleNamespace(gmacs=1.0, size=(8, 8))}
STAGES = Stage("head", 0.0, 1e-3, 1, views=1), Stage("all", 1.0, 1e-3, 4)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a scout reads of a candidate's settings, and of the session's."""

    image_size: tuple[int, int] = (8, 8)
    backbone: str = "Net"
    weights: str = "imagenet"
    input_range: str = "backbone"
    interpolation: str = "area"
    seed: int = 1
    stages: tuple = STAGES
    batch_size: int = 1
    tta: int = 1
    tta_style: str = "weak"
    mixed_precision: str = "no"
    time_limit: float | None = session(None)
    scout_only: bool = session(False)


class Process:
    """Answers orders in place of a process: the truth for some classes' photos, chance for others.

    `knows` are the positions of the classes that each size of photos tells apart by its features,
    and `tuned` those after a short fine-tuning.
    """

    knows: ClassVar[dict] = {}
    tuned: ClassVar[dict] = {}
    fails: ClassVar[dict] = {}  # outcomes by kind of order and size
    orders: ClassVar[list] = []

    def __init__(self, tables, factory, printed):
        self.tables = tables

    def stop(self):
        """End it."""

    def take(self, order, seconds):
        size = order.config.image_size[0]
        kind = "frozen" if isinstance(order, Features) else "tuned"
        self.orders.append((kind, size))
        if self.fails.get((kind, size)):
            return NOTHING | {"outcome": self.fails[kind, size]}
        speed = {"predict": 100.0, "images_per_second": 40.0, "peak_bytes": 2**30}
        photos = labelled(self.tables) if kind == "frozen" else self.tables.validation
        truth = self.tables.positions(photos)
        rng = np.random.default_rng(size)
        known = np.isin(truth, (self.knows if kind == "frozen" else self.tuned)[size])
        seen = np.where(known, truth, rng.integers(3, size=len(truth)))
        drawn = rng.normal(0, 0.3, (2, len(truth), 3)) + 3 * np.eye(3)[seen]
        if kind == "frozen":
            return NOTHING | speed | {"outcome": WORKED, "features": drawn.astype(np.float16)}
        odds = np.exp(drawn[0])
        return NOTHING | speed | {"outcome": WORKED, "tuned": odds / odds.sum(1, keepdims=True)}


@pytest.fixture
def process(monkeypatch):
    """The process, afresh."""
    for name in ("knows", "tuned", "fails"):
        monkeypatch.setattr(Process, name, {})
    monkeypatch.setattr(Process, "orders", [])
    monkeypatch.setattr(module, "WorkerProcess", Process)
    return Process


def no_weights(missing):
    def weights(config):
        if config.image_size[0] in missing:
            raise Problem("The weights of Net are missing: run `ship weights Net`.")

    return SimpleNamespace(weights=weights)


VIEW = SimpleNamespace(scale=1.0)


def make_run(folder, *sizes, minutes=None, scout_only=False, seed=1) -> Run:
    """Return a run of candidates with these sizes, called a, b, ...; it goes on if it can."""
    folds = make_folds(count=3, photos=90)
    competition = dataclasses.replace(
        folds[0].competition, layout=SimpleNamespace(metric="accuracy")
    )
    folds = [dataclasses.replace(fold, competition=competition) for fold in folds]
    config = Settings(time_limit=minutes, scout_only=scout_only, seed=seed)
    members = {
        name: dataclasses.replace(config, image_size=(size, size))
        for name, size in zip("abcdef", sizes, strict=False)
    }
    same = {"seed": seed, "sizes": list(sizes)}
    state = open_state(folder / "state", as_json(same), "photos", fresh=False)
    plan = make_plan(members, BACKBONES, (VIEW,), folds, state, time.monotonic(), minutes)
    return Run(config, members, folds, state, plan, folder)


def chosen_by(run, inputs="nowhere", missing=()):
    return scout(
        run, no_weights(missing), BACKBONES, (VIEW,), run.output / inputs, time.monotonic()
    )


def rows_of(run):
    return {row["name"]: row for row in run.state.scouting["rows"]}


def test_finalists_are_accurate_and_differ_from_each_other(tmp_path, process):
    """`a` and `b` know the same classes, `c` another one: `a` or `b`, and `c`, are chosen."""
    process.knows = process.tuned = {8: [0, 1], 9: [0, 1], 10: [2, 1], 11: []}
    run = make_run(tmp_path, 8, 9, 10, 11)
    found = chosen_by(run)
    names = set(found.members)
    assert "c" in names
    assert names & {"a", "b"}
    assert "d" not in names
    rows = rows_of(run)
    assert rows["d"]["reason"].startswith(("not in the better half", "weight 0.0"))
    assert rows["d"]["score"] < 0.6 < rows["a"]["score"]
    for row in rows.values():
        assert row["score_low"] < row["score"] < row["score_high"]
        assert row["peak_bytes"] == 2**30
    assert {job.member for job in found.plan.jobs} == names
    assert {job.fold for job in found.plan.jobs} == {0}  # there is no limit


@pytest.mark.parametrize("sizes", [(8, 9, 10), (11, 10, 12), (13, 14, 12)])
def test_of_equal_sizes_the_largest_is_first(tmp_path, process, sizes):
    process.knows = process.tuned = {size: [0, 1, 2] for size in sizes}
    members = chosen_by(make_run(tmp_path, *sizes)).members
    assert next(iter(members)) == "abc"[sizes.index(max(sizes))]


def test_a_short_fine_tuning_corrects_frozen_features(tmp_path, process):
    process.knows = {8: [0, 1], 9: [0], 10: [], 11: []}
    process.tuned = {8: [0, 1], 9: [0, 1, 2]}
    run = make_run(tmp_path, 8, 9, 10, 11)
    found = chosen_by(run)
    assert next(iter(found.members)) == "b"
    assert [order for order in process.orders if order[0] == "tuned"] == [
        ("tuned", 8),
        ("tuned", 9),
    ]
    rows = rows_of(run)
    assert rows["b"]["tuned"] > rows["a"]["tuned"]
    assert rows["b"]["minutes"] * 60 == pytest.approx(
        (60 + 4 * 3 * 60) / 100 + 60 / 100 + 5 * 30 / 100 + 32 / 100, rel=0.5
    )


def test_whatever_fails_is_a_row_with_the_reason(tmp_path, process, capsys):
    process.knows = process.tuned = {8: [0, 1, 2], 11: [0], 12: [0]}
    process.fails = {
        ("frozen", 10): "failed: ValueError: wrong preset",
        ("tuned", 11): NO_MEMORY,
    }
    run = make_run(tmp_path, 8, 9, 10, 11)
    found = chosen_by(run, missing=[9])
    assert list(found.members) == ["a"]
    reasons = {name: row["reason"] for name, row in rows_of(run).items()}
    assert reasons["b"] == "The weights of Net are missing: run `ship weights Net`"
    assert reasons["c"] == "failed: ValueError: wrong preset"
    assert reasons["d"] == "short fine-tuning: out of memory"
    assert process.orders.count(("tuned", 11)) == 1  # with one photo at once already
    said = capsys.readouterr().out
    assert all(reason in said for reason in reasons.values())


def test_few_photos_are_not_fine_tuned(tmp_path, process, capsys):
    process.knows = {8: [0, 1, 2], 9: [0]}
    run = make_run(tmp_path, 8, 9)
    large = {name: dataclasses.replace(c, batch_size=2) for name, c in run.members.items()}
    found = chosen_by(dataclasses.replace(run, members=large))
    assert next(iter(found.members)) == "a"
    assert "60 photos make too few steps" in capsys.readouterr().out
    assert [kind for kind, _ in process.orders] == ["frozen", "frozen"]


def test_a_short_fine_tuning_that_time_ends_leaves_the_candidate_its_features(tmp_path, process):
    process.knows = {8: [0, 1, 2], 9: [0, 1]}
    process.tuned = {9: [0, 1]}
    process.fails = {("tuned", 8): "no answer within 10 s"}
    run = make_run(tmp_path, 8, 9)
    assert next(iter(chosen_by(run).members)) == "a"
    assert rows_of(run)["a"]["tuned"] is None


def test_where_nothing_can_be_used_one_sentence_says_why(tmp_path, process):
    process.fails = {("frozen", 8): NO_MEMORY}
    with pytest.raises(
        Problem, match=r"No candidate can be used \(a: out of memory; b: The weights"
    ):
        chosen_by(make_run(tmp_path, 8, 9), missing=[9])


def test_without_time_the_cheapest_trains(tmp_path, process):
    run = make_run(tmp_path, 9, 8, minutes=1e-9)
    found = chosen_by(run)
    assert len(found.members) == 1
    assert not process.orders
    assert all(row["reason"].startswith("no time") for row in rows_of(run).values())


def test_time_decides_members_folds_and_epochs(tmp_path, process):
    process.knows = process.tuned = {8: [0, 1, 2]}
    run = make_run(tmp_path, 8, minutes=60)
    found = chosen_by(run)
    assert run.state.scouting["folds"] == 3
    assert run.state.scouting["length"] == 1.5
    assert [stage.epochs for stage in found.members["a"].stages] == [1, 6]
    assert [(job.member, job.fold) for job in found.plan.jobs] == [("a", 0), ("a", 1), ("a", 2)]


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_killed_scout_goes_on_and_asks_nothing_twice(tmp_path, process, killed_after):
    process.knows = process.tuned = {8: [0, 1], 9: [1, 2]}
    take, orders = Process.take, process.orders

    def dying(self, order, seconds):
        if len(orders) == killed_after:
            raise KeyboardInterrupt
        return take(self, order, seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Process, "take", dying)
        run = make_run(tmp_path, 8, 9)
        with pytest.raises(KeyboardInterrupt):
            chosen_by(run)
    found = chosen_by(make_run(tmp_path, 8, 9))
    assert sorted(orders) == [("frozen", 8), ("frozen", 9), ("tuned", 8), ("tuned", 9)]
    again = make_run(tmp_path, 8, 9)
    assert chosen_by(again).members == found.members
    assert len(orders) == 4
    assert not list((tmp_path / "scout").glob("*.npy"))
    names = ", ".join(found.members)
    assert forecast(again).startswith(f"chosen by an earlier session: {names}")


def test_a_scout_alone_leaves_its_findings_to_the_next_run(tmp_path, process):
    process.knows = process.tuned = {8: [0, 1], 9: [1, 2]}
    first = make_run(tmp_path / "input" / "earlier", 8, 9, scout_only=True)
    assert chosen_by(first).members == {}
    assert "members" not in first.state.scouting
    assert (first.output / "scout" / "a.npy").is_file()
    count = len(process.orders)
    later = make_run(tmp_path / "later", 8, 9)
    found = scout(later, no_weights([8, 9]), BACKBONES, (VIEW,), tmp_path / "input", 0.0)
    assert found.members
    assert len(process.orders) == count
    assert rows_of(later)["a"]["score"] == rows_of(first)["a"]["score"]


def test_findings_of_other_settings_or_damaged_ones_do_not_count(tmp_path, process, capsys):
    process.knows = process.tuned = {8: [0, 1], 9: [1, 2]}
    chosen_by(make_run(tmp_path, 8, 9, scout_only=True))
    (tmp_path / "scout" / "a.npz").write_bytes(b"PK")
    process.orders.clear()
    chosen_by(make_run(tmp_path, 8, 9, scout_only=True))
    assert process.orders == [("frozen", 8), ("tuned", 8)]
    assert "a.npz is damaged: a is scouted again." in capsys.readouterr().out
    process.orders.clear()
    other = make_run(tmp_path / "other", 8, 9, seed=2)
    scout(other, no_weights([]), BACKBONES, (VIEW,), tmp_path.parent, 0.0)
    assert len(process.orders) == 4


def test_two_classes_of_few_photos_are_judged_on_the_first_fold(tmp_path, process):
    process.knows = process.tuned = {8: [0, 1, 2]}
    run = make_run(tmp_path, 8)
    few = [
        dataclasses.replace(
            fold, train=fold.train[:5], validation=pd.DataFrame(fold.validation[:3])
        )
        for fold in run.folds
    ]
    short = Scout(dataclasses.replace(run, folds=few), no_weights([]), BACKBONES, (VIEW,), tmp_path)
    short.look_at_all()
    assert len(short.judged) == 3
    assert short.alive


def test_the_forecast_is_marked_as_computed(tmp_path, process):
    run = make_run(tmp_path, 8, 9, minutes=60)
    text = forecast(run)
    assert "a scout tries 2 candidates" in text
    assert "computed from published throughputs, not measured" in text
    assert not process.orders


def test_the_table_has_a_row_a_candidate(tmp_path, process):
    process.knows = process.tuned = {8: [0, 1, 2]}
    run = make_run(tmp_path, 8, 9)
    chosen_by(run, missing=[9])
    head, first, second = table(run.state.scouting["rows"]).splitlines()
    assert head.split()[:2] == ["candidate", "size"]
    assert first.split()[:3] == ["a", "8x8", "1.0000"]
    assert "chosen: weight 1.00 in a blend" in first
    assert second.split()[:3] == ["b", "9x9", "-"]
    assert math.isfinite(run.state.scouting["seconds"])
