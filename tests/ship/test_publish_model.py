"""A run's networks become a private Kaggle Model, each version of it once."""

import pytest

from shipping import ONCE

HANDLE = "alice/car-classification/keras/default"
MODEL = ("publish", "--model")


@pytest.fixture
def trained(world):
    """A world in which a run has left its networks."""
    world.arrives_once("--set", "model=yes", counts=ONCE)
    return world


def published(world) -> dict:
    model = world.kaggle.store.state["models"]["alice/car-classification"]
    return model, model["variations"]["keras/default"]["versions"]


def test_it_is_private_has_a_card_and_is_uploaded_once(trained):
    outcome = trained.ship(*MODEL)
    assert outcome.status == 0, outcome
    assert f"{HANDLE}/1" in outcome.out
    model, versions = published(trained)
    assert model["private"]
    assert "accuracy | 0.7500, with a 95 % interval from 0.5000 to 0.8750" in model["description"]
    assert "keras.models.load_model" in model["description"]
    folder = trained.kaggle.models.mounted(f"{HANDLE}/1")
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"model.json", "README.md", "members/a/fold-0.keras"} <= made
    again = trained.ship(*MODEL)
    assert f"model {HANDLE}/1 is up to date" in again.out
    assert len(versions) == 1


def test_other_networks_are_the_next_version_also_where_the_answer_is_lost(trained):
    assert trained.ship(*MODEL).status == 0
    assert trained.ship("--set", "model=other").status == 0
    trained.kaggle.faults.add("CreateModelInstanceVersion", "drop", effect=True)
    outcome = trained.ship(*MODEL)
    assert f"{HANDLE}/2" in outcome.out, outcome
    _, versions = published(trained)
    assert [version["notes"] for version in versions] == [
        "Initial release",
        "car-classification-v2",
    ]


@pytest.mark.parametrize("call", ["CreateModel", "CreateModelInstance"])
def test_killed_while_it_is_sent_it_arrives_once(trained, call):
    trained.kaggle.faults.add(call, "drop", effect=True)
    trained.kill_when(lambda: trained.calls(call), *MODEL)
    outcome = trained.ship(*MODEL, SHIP_PROVE="2")
    assert outcome.status == 0, outcome
    _, versions = published(trained)
    assert len(versions) == 1
    assert len(trained.calls(call)) == 1
