"""The model: what reaches each backbone, what trains in a stage, and in which precision."""

import dataclasses
import zipfile

import keras
import numpy as np
import pytest

from kernelkit.core.problem import Problem
from kernelkit.predict.members import write_network
from kernelkit.train.backbones import (
    clear_session,
    flat_layers,
    load_backbone,
    preprocess,
    unfreeze,
)
from kernelkit.train.presets import resize_network
from kernelkit.train.step_mode import (
    DEPTHWISE,
    FLOAT16,
    FLOAT16_WITHOUT_DEPTHWISE,
    FLOAT32,
    set_precision,
)
from tiny_kernel import TINY, final_config, kernel

REAL = [n for n, row in kernel.BACKBONES.items() if row.package == "keras.applications"]
LIGHT = {"MobileNet", "Xception", "InceptionV3", "EfficientNetB3", "ConvNeXtTiny"}
NORMS = (keras.layers.BatchNormalization, keras.layers.LayerNormalization)
SMALLEST = {"InceptionV3": "75x80", "Xception": "71x80"}


def each_backbone():
    """Return the names as parameters; those that take long to build are marked slow."""
    return [pytest.param(name, marks=[] if name in LIGHT else [pytest.mark.slow]) for name in REAL]


def load(name, size, weights=None):
    """Return a backbone of keras.applications as the kernel loads it."""
    return load_backbone(f"keras.applications.{name}", size, weights)


def configure(*arguments, recipe="default"):
    return final_config("--recipe", recipe, "--weights", "none", *arguments)


@pytest.fixture(scope="module", params=each_backbone())
def built(request):
    """Each backbone, built once for its tests: B7 alone takes many seconds."""
    keras.backend.clear_session()
    size = SMALLEST.get(request.param, "32x40")
    config = configure("--backbone", request.param, "--image-size", size, "--batchnorm", "train")
    return request.param, config, kernel.build_model(config, 4, None)


def test_the_backbone_gets_its_input_range(built):
    name, config, network = built
    black_and_white = np.zeros((1, *config.image_size, 3), np.uint8)
    black_and_white[:, ::2] = 255
    reaches = keras.Model(network.inputs, network.get_layer("scale").output)(black_and_white)
    scales_inside = name.startswith(("Eff", "Conv"))
    assert kernel.BACKBONES[name].preprocessing == ("none" if scales_inside else "tf")
    expected = (0, 255) if scales_inside else (-1, 1)
    assert (float(np.min(reaches)), float(np.max(reaches))) == pytest.approx(expected)


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_each_preprocessing_is_that_of_keras_applications(mode):
    photos = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    found = keras.Model(inputs, preprocess(inputs, mode))(photos)
    expected = keras.applications.imagenet_utils.preprocess_input(
        photos.astype("float32"), mode=mode
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_backbones_with_their_own_scaling_have_it(built):
    """A backbone that expects 0..255 divides inside; one that expects -1..1 does not."""
    name, _, network = built
    inside = {type(layer) for layer in network.get_layer("backbone").layers}
    scales = bool(inside & {keras.layers.Rescaling, keras.layers.Normalization})
    scales |= any("prestem" in layer.name for layer in network.get_layer("backbone").layers)
    assert scales == (kernel.BACKBONES[name].preprocessing == "none")


def test_whole_blocks_open(built):
    """No tensor but one passes from what is frozen to what trains: no branch is cut."""
    _, config, network = built
    backbone = network.get_layer("backbone")
    layers, operations = backbone.layers, backbone.operations
    for stage in config.stages:
        unfreeze(config, backbone, stage)
        trains = [layer for layer in layers if layer.trainable]
        if stage.fraction == 0:
            assert not trains
            continue
        first = operations.index(trains[0])
        frozen = {id(t) for op in operations[:first] for t in keras.tree.flatten(op.output)}
        passing = frozen & {
            id(t) for op in operations[first:] for t in keras.tree.flatten(op.input)
        }
        assert len(passing) == (stage.fraction < 1)
        assert not isinstance(trains[0], NORMS)
        assert trains == layers[-len(trains) :]
        asked = len(layers) - int((1 - stage.fraction) * len(layers))
        assert asked <= len(trains) < asked + 40  # no more than a block above what was asked for


def test_the_reference_counts_layers():
    config = configure("--backbone", "tinynet", recipe="reference")
    network = kernel.build_model(config, 4, None)
    backbone = network.get_layer("backbone")
    for stage in config.stages:
        unfreeze(config, backbone, stage)
        trains = sum(layer.trainable for layer in backbone.layers)
        assert trains == len(backbone.layers) - int((1 - stage.fraction) * len(backbone.layers))
    reaches = keras.Model(network.inputs, network.get_layer("scale").output)
    white = np.full((1, *config.image_size, 3), 255, np.uint8)
    assert float(np.max(reaches(white))) == 1  # its inputs were 0..1, whatever was expected


@pytest.mark.parametrize(
    ("policy", "in_half", "in_all"),
    [("train", True, True), ("frozen", False, False), ("last", False, True)],
)
def test_batchnorm_policies(policy, in_half, in_all):
    config = configure(*TINY, "--batchnorm", policy)
    network = kernel.build_model(config, 4, None)
    backbone = network.get_layer("backbone")
    norms = [x for x in backbone.layers if isinstance(x, keras.layers.BatchNormalization)]
    unfreeze(config, backbone, config.stages[1])
    assert norms[-1].trainable == in_half
    cut = dataclasses.replace(config.stages[3], epochs=1)  # where time does not suffice
    for last in (config.stages[3], cut):
        unfreeze(config, backbone, last)
        assert all(norm.trainable == in_all for norm in norms)


def test_each_backbone_trains_at_its_own_rates():
    factor = kernel.BACKBONES["ConvNeXtTiny"].rate
    assert factor < 1
    slow, usual = configure("--backbone", "ConvNeXtTiny"), configure("--backbone", "MobileNet")
    for stage, slower in zip(usual.stages, slow.stages, strict=True):
        assert slower.learning_rate == factor * stage.learning_rate


@pytest.fixture
def precision():
    """A setter of the precision, which is as before at the end."""
    before = keras.mixed_precision.global_policy()
    yield set_precision
    keras.mixed_precision.set_global_policy(before)


def precision_of(network: keras.Model) -> str:
    """Return the precision in which a network was built, as `set_precision` takes it."""
    policies = {(isinstance(x, DEPTHWISE), x.dtype_policy.name) for x in flat_layers(network)}
    if (False, "mixed_float16") not in policies:
        return FLOAT32
    return FLOAT16_WITHOUT_DEPTHWISE if (True, FLOAT32) in policies else FLOAT16


def test_head_is_float32_under_mixed_precision(precision):
    precision(FLOAT16)
    config = configure(*TINY)
    network = kernel.build_model(config, 4, None)
    assert network.get_layer("backbone").output.dtype == "float16"
    assert network.output.dtype == "float32"
    made = network(np.zeros((2, *config.image_size, 3), np.uint8))
    assert np.asarray(made).dtype == np.float32


@pytest.mark.parametrize("name", [FLOAT16, FLOAT16_WITHOUT_DEPTHWISE])
def test_a_file_has_float32_weights_and_policies_of_keras_alone(tmp_path, precision, name):
    """Else another program could not open it, and other sizes would predict otherwise."""
    config = configure("--backbone", "MobileNet", "--weights", "none", "--image-size", "32x40")
    precision(name)
    clear_session()  # as before each network of a run
    network = kernel.build_model(config, 4, None)
    assert precision_of(network) == name
    write_network(network, tmp_path / "network.keras")
    with zipfile.ZipFile(tmp_path / "network.keras") as archive:
        assert b"kernelkit" not in archive.read("config.json")
    precision(FLOAT32)
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert precision_of(loaded) == precision_of(resize_network(loaded, (64, 80))) == name
    assert {weight.dtype for weight in loaded.trainable_weights} == {"float32"}
    photos = np.random.default_rng(0).integers(0, 256, (2, 32, 40, 3), dtype=np.uint8)
    np.testing.assert_allclose(loaded(photos), network(photos), atol=1e-6)


def test_l2_is_on_the_hidden_layer_alone():
    plain = kernel.build_model(configure(*TINY, "--head", "hidden"), 4, None)
    penalised = kernel.build_model(configure(*TINY, "--head", "hidden", "--l2", "0.01"), 4, None)
    assert not plain.losses
    assert len(penalised.losses) == 1


@pytest.mark.parametrize("momentum", ["0.9", "0.99"])
def test_the_hidden_layer_s_batchnorm_has_the_momentum_of_the_others(momentum):
    config = configure(*TINY, "--head", "hidden", "--norm-momentum", momentum)
    _, norm, *_ = kernel.build_model(config, 4, None).get_layer("head").layers
    assert norm.momentum == float(momentum)


@pytest.mark.parametrize("name", ["MobileNet", "EfficientNetB3", "ConvNeXtTiny"])
def test_weights_load_from_a_file_in_keras_format(name, tmp_path):
    """A file as keras.applications would load it gives the network that it was saved from."""
    keras.utils.set_random_seed(1)
    build = getattr(keras.applications, name)
    original = build(include_top=False, weights=None, input_shape=(32, 40, 3))
    original.save_weights(tmp_path / "own.weights.h5")
    loaded = load(name, (32, 40), tmp_path / "own.weights.h5")
    photos = np.random.default_rng(0).uniform(0, 255, (2, 32, 40, 3)).astype("float32")
    np.testing.assert_allclose(loaded(photos), original(photos), rtol=1e-4, atol=1e-4)


def test_efficientnet_normalizes_as_under_imagenet(tmp_path):
    """By path keras leaves out a division that it makes under weights='imagenet': ours is back.

    The reference is keras' own constructor under "imagenet", its download replaced by our file.
    """
    build = keras.applications.EfficientNetB0
    maker = build(include_top=False, weights=None, input_shape=(32, 40, 3))
    (normalization,) = (x for x in maker.layers if isinstance(x, keras.layers.Normalization))
    normalization.adapt_mean.assign([0.485, 0.456, 0.406])
    normalization.adapt_variance.assign([0.229, 0.224, 0.225])
    file = tmp_path / "b0.weights.h5"
    maker.save_weights(file)
    ours = load("EfficientNetB0", (32, 40), file)

    unscaled = build(include_top=False, weights=str(file), input_shape=(32, 40, 3))
    photos = np.random.default_rng(0).uniform(0, 255, (2, 32, 40, 3)).astype("float32")
    reaches = [
        keras.Model(model.inputs, model.get_layer("stem_conv_pad").input)(photos)
        for model in (ours, unscaled)
    ]
    deviation = np.sqrt([0.229, 0.224, 0.225])
    np.testing.assert_allclose(reaches[0], np.asarray(reaches[1]) / deviation, rtol=1e-4)


def test_a_wrong_weight_file_is_named(tmp_path):
    (tmp_path / "wrong.h5").write_bytes(b"no weights")
    with pytest.raises(Problem, match=r"MobileNet at 32x40.*wrong\.h5"):
        load("MobileNet", (32, 40), tmp_path / "wrong.h5")


def test_an_image_too_small_for_the_backbone_is_refused():
    with pytest.raises(Problem, match="Xception at 16x16"):
        load("Xception", (16, 16))
