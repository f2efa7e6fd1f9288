"""A code competition: `ship` trains, publishes the networks, and submits a kernel with them."""

import random

import pytest

from shipping import CODE, CODE_ONCE, COMPETITION, SCORE, make_competition, open_world
from test_same_code import mount_another, upload_at_next_push

CHANGING = {"CreateDataset", "CreateDatasetVersion", "SaveKernel", "CreateSubmission"}
CHANGING |= {"CreateCodeSubmission"}


@pytest.fixture
def code_world(tmp_path):
    """A world whose competition takes kernels only."""
    hidden = make_competition(tmp_path / "hidden")
    with open_world(tmp_path, hidden={COMPETITION: hidden}) as world:
        yield world


def test_ship_sees_a_code_competition_and_goes_the_whole_way_once(code_world):
    outcome = code_world.arrives_once("--set", "model=yes", "--hours", "2", counts=CODE_ONCE)
    assert "car-classification-predict-v1 predicted 9 photos in 1 s of 7200" in outcome.out
    assert f"public score of car-classification-predict-v1: {SCORE}" in outcome.out
    assert code_world.runs[-1].predicted == {"photos": 9, "seconds": 1, "peak_memory_mb": 1}
    published = code_world.kaggle.store.state["datasets"]["alice/car-classification-models"]
    assert published["private"]
    sent = len(code_world.calls(*CHANGING))
    again = code_world.ship("--code", "--hours", "2")  # the same way, said by the user
    assert f"public score of car-classification-predict-v1: {SCORE}" in again.out
    assert len(code_world.calls(*CHANGING)) == sent


def test_other_networks_are_a_new_version_and_a_new_run(code_world):
    code_world.arrives_once("--set", "model=yes", counts=CODE_ONCE)
    outcome = code_world.ship("--set", "model=other")
    assert outcome.status == 0, outcome
    assert "public score of car-classification-predict-v2" in outcome.out
    assert code_world.kaggle.counts == {
        "datasets": 2,
        "dataset_versions": 3,
        "kernel_versions": 4,
        "kernel_runs": 4,
        "submissions": 2,  # the same file of the public photos tells nothing of the hidden ones
    }
    refs = [run.submission.ref for run in code_world.runs if "predict" in run.name]
    assert refs == [40000001, 40000002]
    assert code_world.ship("--set", "model=yes").status == 0  # each has its own at Kaggle
    assert code_world.kaggle.counts["submissions"] == 2


def test_the_public_test_set_may_have_one_photo(code_world):
    """All rows are then alike, which would be a mistake in any other competition."""
    data = code_world.project.parent / "competition" / "sample-submission.csv"
    data.write_text("Id,Category\n101.jpg,0\n")
    code_world.arrives_once("--set", "model=yes", counts=CODE_ONCE)


def test_code_forces_it_where_kaggle_does_not_tell(world):
    assert "CreateSubmission" not in {call.name for call in world.kaggle.requests}
    world.arrives_once(*CODE, counts=CODE_ONCE)
    assert not world.calls("CreateSubmission")
    assert len(world.calls("CreateCodeSubmission")) == 1


def test_networks_of_other_code_predict_nothing(code_world):
    mount_another(code_world, ("--set", "model=yes"))
    for command in (("--set", "model=yes"), ("predict",)):
        outcome = code_world.ship(*command)
        assert outcome.status == 1
        assert "found other packages" in outcome.sentence
    assert code_world.kaggle.counts["datasets"] == 1


def test_a_second_kernel_of_other_code_is_not_submitted(code_world):
    for command in (("bundle",), ("push", "--set", "model=yes"), ("follow",)):
        assert code_world.ship(*command).status == 0
    upload_at_next_push(code_world)
    for _ in range(2):
        outcome = code_world.ship()
        assert outcome.status == 1
        assert "found other packages" in outcome.sentence
        assert "`ship predict car-classification-v1 --again`" in outcome.sentence
    assert code_world.kaggle.counts["submissions"] == 0
    assert code_world.ship("predict", "car-classification-v1", "--again").status == 0
    assert code_world.runs[-1].public_score == SCORE


def test_a_sweep_that_could_not_be_submitted_does_not_begin(code_world):
    outcome = code_world.ship("sweep", "shift=0,1", "--submit", "best")
    assert outcome.status == 1
    assert "`ship predict VERSION` then submits the best run" in outcome.sentence
    assert not code_world.calls("SaveKernel")


def test_a_file_is_refused_with_the_way_to_a_kernel(code_world):
    code_world.go_to_the_submission()
    outcome = code_world.ship("submit")
    assert outcome.status == 1
    assert "only accepts submissions from notebooks: `ship predict` submits" in outcome.sentence


def test_the_way_out_names_the_second_kernel(tmp_path):
    data, solution = make_competition(tmp_path / "hidden")
    truth = solution.read_text()
    solution.write_text("Id,Label\n1,1\n")  # the scored run fails
    with open_world(tmp_path, hidden={COMPETITION: (data, solution)}) as world:
        outcome = world.ship("--set", "model=yes")
        command = "ship submit car-classification-predict-v1 --code --again"
        assert f"`{command}` sends the same once more" in outcome.sentence
        solution.write_text(truth)
        outcome = world.ship(*command.split()[1:])
        assert outcome.status == 0, outcome
        assert f"public score of car-classification-predict-v1: {SCORE}" in outcome.out
        assert world.kaggle.counts == CODE_ONCE | {"submissions": 2}


def test_a_second_kernel_that_fails_is_pushed_again_alone(code_world):
    kernel = code_world.project / "kernel.py"
    failing = 'if CONFIG["predict_from"]:\n    sys.exit("no room")\nif CONFIG["fail"]:'
    kernel.write_text(kernel.read_text().replace('if CONFIG["fail"]:', failing))
    assert "no room" in code_world.ship("--set", "model=yes").err
    outcome = code_world.ship()
    assert outcome.status == 1
    assert "once more with `ship predict car-classification-v1 --again`" in outcome.sentence
    assert code_world.ship("predict", "car-classification-v1", "--again").status == 1
    assert code_world.kaggle.counts["kernel_versions"] == 3


def test_a_run_without_networks_is_named(code_world):
    outcome = code_world.ship()
    assert outcome.status == 1
    assert "holds no model.json" in outcome.sentence


def test_hours_without_a_score_are_waited_for_by_the_next_ship(tmp_path):
    hidden = make_competition(tmp_path / "hidden")
    with open_world(tmp_path, hidden={COMPETITION: hidden}, scoring_delay=2.0) as world:
        outcome = world.ship(*CODE, SHIP_SCORE="0.2")
        assert outcome.status == 1
        assert "its status is PENDING: run the same command again" in outcome.sentence
        world.arrives_once(*CODE, counts=CODE_ONCE)


def test_a_fault_of_kaggle_s_own_is_tried_once_more(tmp_path):
    hidden = make_competition(tmp_path / "hidden")
    with open_world(tmp_path, hidden={COMPETITION: hidden}, kaggle_errors=1) as world:
        outcome = world.arrives_once(*CODE, counts=CODE_ONCE | {"submissions": 2})
        assert "Kaggle Error" in outcome.err + outcome.out
    (tmp_path / "more").mkdir()
    with open_world(tmp_path / "more", hidden={COMPETITION: hidden}, kaggle_errors=9) as world:
        for _ in range(2):
            outcome = world.ship(*CODE)
            assert outcome.status == 1
            assert "Kaggle Error" in outcome.sentence
            assert world.kaggle.counts["submissions"] == 2


@pytest.mark.parametrize(
    ("call", "before"), [("CreateDataset", 1), ("SaveKernel", 1), ("CreateCodeSubmission", 0)]
)
def test_killed_while_something_of_the_second_kernel_is_sent(code_world, call, before):
    """The request takes effect, and nobody learns of it."""
    code_world.kaggle.faults.add(call, "drop", after=before, effect=True)
    code_world.kill_when(lambda: len(code_world.calls(call)) > before, *CODE)
    code_world.arrives_once(*CODE, counts=CODE_ONCE, SHIP_PROVE="4")
    assert len(code_world.calls(call)) == before + 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))  # tests/benchmarks/ship_faults.py makes many more
def test_killed_at_random_moments(code_world, seed):
    moment = random.Random(seed)
    for least in (10, 50):
        request = least + moment.randrange(40)
        code_world.kill_when(lambda: len(code_world.kaggle.requests) > request, *CODE)  # noqa: B023
    code_world.arrives_once(*CODE, counts=CODE_ONCE)
