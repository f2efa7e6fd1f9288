"""A step in parts is the whole step, on one device and on two, and counts each photo once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

LIB = Path(__file__).parents[2] / "lib"
SCRIPT = Path(__file__).with_name("steps_on_devices.py")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases():
    """What `steps_on_devices.py` prints, by the case's name."""
    environment = os.environ | {"PYTHONPATH": str(LIB), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["case"]: line for line in lines} | {"said": done.stdout}


def differences(one, other):
    """Return how far the weights and their averages are apart, at most."""
    names = ("weights", "average")
    return [np.abs(np.subtract(one[name], other[name])).max() for name in names]


@pytest.mark.parametrize(
    ("case", "same_as", "tolerance"),
    [
        ("parts", "whole", 1e-6),
        ("whole on two", "whole", 1e-6),
        ("parts on two", "whole", 1e-6),
        ("whole, scaled", "whole", 3e-4),  # or the two below would prove little
        ("parts, scaled", "whole, scaled", 3e-4),
        ("parts on two, scaled", "whole, scaled", 3e-4),
        ("parts on two, odd", "whole, odd", 1e-6),
        ("whole on two, single", "whole, single", 1e-6),
    ],
)
def test_weights_and_their_average_are_those_of_the_plain_step(cases, case, same_as, tolerance):
    assert max(differences(cases[case], cases[same_as])) < tolerance
    moved = np.abs(np.subtract(cases[case]["weights"], cases[case]["average"])).max()
    assert moved > 5 * tolerance  # weights that do not move would be equal too


def test_moving_averages_of_batchnorm_move_as_far_in_parts(cases):
    """The parts have the same photos, so that their statistics are those of the whole."""
    whole, parts = cases["whole, normalised"], cases["parts, normalised"]
    assert max(differences(whole, parts)) < 1e-4
    assert np.abs(np.subtract(whole["weights"], whole["average"])).max() > 1e-2


@pytest.mark.parametrize("kind", ["odd", "single"])
def test_each_photo_is_judged_and_predicted_once_on_two_devices(cases, kind):
    one = cases[f"whole, {kind}"]
    (two,) = (row for name, row in cases.items() if "two" in name and name.endswith(kind))
    assert two["judged"] == pytest.approx(one["judged"], rel=1e-5)
    np.testing.assert_allclose(two["predicted"], two["alone"], atol=1e-6)


def test_a_batch_that_devices_can_not_share_is_rounded_with_a_sentence(cases):
    assert cases["shared"]["sizes"] == [34, 32]
    assert cases["said"].count("2 devices can't share --batch-size 33: 34 is used.") == 1
