"""Fused transforms draw the same random numbers as plain ones and give the same pictures."""

import copy
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import albumentations as A
import cv2
import numpy as np
import pytest

from augmentor_pictures import HEIGHT, WIDTH, photo, seeded
from ImageDataAugmentor import ImageDataAugmentor
from ImageDataAugmentor.fused import Fused, fuse
from ImageDataAugmentor.fused.transforms import FancyPCA

REFLECT = {"border_mode": cv2.BORDER_REFLECT_101}


def both(transforms, seed, **data):
    plain = A.Compose(transforms)
    fused = fuse(plain)
    assert [type(t) for t in fused.transforms] == [Fused]
    copies = {key: value.copy() for key, value in data.items()}
    return seeded(plain, seed)(**copies), seeded(fused, seed)(**data)


# The transforms, and the mean absolute difference (of 255) that rounding and sampling once instead
# of twice may make.
CASES = {
    "flips": ([A.HorizontalFlip(), A.VerticalFlip(), A.Transpose()], 0),
    "quarter turns": ([A.RandomRotate90(p=1), A.HorizontalFlip()], 0),
    "crop": ([A.RandomCrop(50, 60, p=1)], 0),
    "crop of a flip": ([A.Transpose(), A.HorizontalFlip(), A.RandomCrop(50, 60, p=1)], 0),
    "resize": ([A.Resize(60, 200)], 0),
    "crop and resize": ([A.HorizontalFlip(), A.RandomResizedCrop((48, 64), p=1)], 0),
    "resize and crop of a transposition": (
        [A.Transpose(p=1), A.Resize(110, 150), A.RandomCrop(96, 96)],
        1.0,
    ),
    "resize and crop": ([A.Resize(110, 150), A.RandomCrop(96, 96)], 1.0),
    "affine, reflected": ([A.Affine(rotate=(-30, 30), shear=(-5, 5), p=1, **REFLECT)], 0),
    "affine, filled": ([A.Affine(rotate=(-30, 30), fill=(10, 250, 90), p=1)], 0),
    "rotate": ([A.Rotate(p=1, fill=7)], 0),
    "affine between others": (
        [
            A.HorizontalFlip(),
            A.RandomCrop(80, 90),
            A.Affine(scale=(0.8, 1.2), rotate=(-30, 30), p=1, **REFLECT),
            A.CenterCrop(70, 80),
            A.Resize(90, 110),
        ],
        2.5,
    ),
    "two affines": ([A.Affine(rotate=(-9, 9), p=1), A.Affine(rotate=(-9, 9), p=1)], 1.0),
    "colours before a filled affine": (
        [A.RandomBrightnessContrast(0.5, p=1), A.Affine(rotate=(20, 30), fill=200, p=1)],
        1.0,
    ),
    "brightness and contrast": ([A.RandomBrightnessContrast(0.4, 0.4, p=1)], 0),
    "clipping twice": ([A.RandomBrightnessContrast(0.9, 0.9, p=1) for _ in range(3)], 0),
    "rgb shift": ([A.RGBShift(p=1)], 0),
    "hue, saturation, value": ([A.HueSaturationValue(p=1)], 0),
    "fancy pca": ([A.FancyPCA(alpha=1, p=1)], 0.1),
    "one of, unequally": (
        [A.OneOf([A.HorizontalFlip(p=0.2), A.VerticalFlip(p=0.7), A.Transpose(p=0.4)], p=1)],
        0,
    ),
    "shift, scale, rotate": ([A.ShiftScaleRotate(p=1, **REFLECT)], 0.1),
    "affine, all of it": (
        [
            A.Affine(
                translate_percent={"x": (-0.1, 0.1), "y": (-0.2, 0.2)},
                scale={"x": (0.7, 1.3), "y": (0.8, 1.1)},
                shear={"x": (-10, 10), "y": (-5, 5)},
                rotate=(-180, 180),
                balanced_scale=True,
                p=1,
                **REFLECT,
            )
        ],
        0.1,
    ),
    "crop of a rotation, enlarged": (
        [A.Affine(rotate=(-20, 20), p=1, **REFLECT), A.CenterCrop(50, 60), A.Resize(96, 128)],
        0.1,
    ),
    "colours of a crop, enlarged": (
        [A.CenterCrop(50, 60), A.RGBShift(p=1), A.HorizontalFlip(), A.Resize(96, 128)],
        0.5,
    ),
    "blur": ([A.GaussianBlur(p=1)], 0),
    "blur between warps and colours": (
        [
            A.RandomBrightnessContrast(p=1),
            A.RandomCrop(80, 90, p=1),
            A.GaussianBlur(sigma_limit=(2, 3), p=1),
            A.Affine(rotate=(-30, 30), p=1, **REFLECT),
        ],
        0,
    ),
    "one of": (
        [A.OneOf([A.HorizontalFlip(p=1), A.RGBShift(p=1), A.Sequential([A.VerticalFlip()])])],
        0.5,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_same_pictures(case):
    transforms, tolerance = CASES[case]
    differences = []
    for seed in range(12):
        plain, fused = both(transforms, seed, image=photo(seed))
        assert fused["image"].shape == plain["image"].shape
        assert fused["image"].dtype == np.uint8
        difference = np.abs(plain["image"].astype(int) - fused["image"])
        differences.append(difference.mean())
    assert np.mean(differences) <= tolerance
    assert max(differences) <= 3 * tolerance


# The sizes (height, width) of photos that are resized: smaller, equal, larger, much larger.
SIZES = [(60, 70), (HEIGHT, WIDTH), (130, 190), (300, 400)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_resizing_in_the_same_step(case, size):
    """Sampling once instead of twice makes a small difference, a wrong matrix a large one."""
    transforms, tolerance = CASES[case]
    differences = []
    for seed in range(6):
        picture = photo(seed, size)
        expected = seeded(fuse(A.Compose(transforms)), seed)
        expected = expected(image=cv2.resize(picture, (WIDTH, HEIGHT)))["image"]
        fused = seeded(fuse(A.Compose(transforms)), seed)
        result = fused.draw((HEIGHT, WIDTH, 3), resizing=True).apply(picture)
        assert result.shape == expected.shape
        assert not np.shares_memory(result, picture)
        differences.append(np.abs(expected.astype(int) - result).mean())
    assert np.mean(differences) <= tolerance + 1.5 * (size != (HEIGHT, WIDTH))


def test_resizing_draws_no_number_more():
    ways = [seeded(fuse(A.Compose([A.HorizontalFlip(), A.Affine()])), 1) for _ in range(2)]
    for number in range(20):
        ways[0](image=photo(number))
        ways[1].draw((HEIGHT, WIDTH, 3), resizing=True)
        assert ways[0].py_random.getstate() == ways[1].py_random.getstate()


def all_of_it(seed):
    """Return a Compose of most kinds of transforms, some of which are not applied."""
    colours = [A.RGBShift(), A.HueSaturationValue(p=0), A.Sequential([A.FancyPCA()], p=1)]
    steps = [A.Affine(rotate=(-9, 9)), A.Rotate(), A.RandomCrop(60, 70, p=1), A.VerticalFlip()]
    return A.Compose(
        [
            A.OneOf([A.RandomRotate90(p=0.3), A.Transpose(p=0.2), A.Sequential(steps, p=0.9)]),
            A.Compose(colours, p=0.7),
            A.ElasticTransform(p=0.1),
            A.RandomBrightnessContrast(ensure_safe_range=True),
            A.RandomResizedCrop((50, 70), p=0.8),
            A.Resize(96, 128, p=0.5),
        ],
        p=0.8,
        seed=seed,
    )


def test_as_many_numbers_are_drawn():
    """A missing or additional number would change everything that is drawn later."""
    plain, fused = seeded(all_of_it(1), 1), seeded(fuse(all_of_it(1)), 1)
    for number in range(200):
        shapes = [one(image=photo(number))["image"].shape for one in (plain, fused)]
        assert shapes[0] == shapes[1]
        assert plain.py_random.getstate() == fused.py_random.getstate()
        states = [one.random_generator.bit_generator.state for one in (plain, fused)]
        assert states[0] == states[1]


def test_one_of_chooses_as_numpy_does():
    parts = [A.HorizontalFlip(p=0.1), A.VerticalFlip(p=0.7), A.Transpose(p=0.35), A.Resize(9, 8)]
    plain = seeded(A.Compose([A.OneOf(parts, p=1)]), 5)
    fused = seeded(fuse(plain), 5)
    for _ in range(300):
        expected = plain(image=photo())["image"]
        np.testing.assert_array_equal(fused(image=photo())["image"], expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sat_shift", [-30.7, 0, 30.7, 255])
@pytest.mark.parametrize("hue_shift", [-180, -20.6, -0.4, 0, 0.4, 20.6, 75, 90, 180])
@pytest.mark.filterwarnings("ignore:HueSaturationValue")
def test_shifts_of_hue_and_saturation(hue_shift, sat_shift, channels):
    picture = photo()
    picture[:30, :40] = 99  # Grey must stay grey.
    picture[30:60, :40] = 0
    picture[60:, :40] = 255
    limits = [(shift, shift) for shift in (hue_shift, sat_shift, -12.8)]
    results = both([A.HueSaturationValue(*limits, p=1)], 0, image=picture[..., :channels])
    np.testing.assert_array_equal(results[1]["image"], results[0]["image"])


@pytest.mark.parametrize(
    "transform",
    [
        A.RGBShift(200, 255, 255, p=1),
        A.RandomBrightnessContrast(0.5, 0.5, ensure_safe_range=True, p=1),
        A.FancyPCA(alpha=1, p=1),
        FancyPCA(alpha=5, p=1),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_colours_of_one_channel(transform):
    for seed in range(6):
        results = both([transform], seed, image=photo(seed)[..., :1])
        np.testing.assert_array_equal(results[1]["image"], results[0]["image"])


@pytest.mark.parametrize(
    "transforms",
    [
        [A.HorizontalFlip(p=0)],
        [A.CenterCrop(40, WIDTH)],
        [A.Resize(HEIGHT, WIDTH)],
        [A.RGBShift(0, 0, 0, p=1)],
        [A.RandomBrightnessContrast(0.3, p=1), A.FancyPCA(p=1), A.HueSaturationValue(p=1)],
    ],
)
def test_the_result_has_memory_of_its_own(transforms):
    """The input may lie in a cache, which must not be written to."""
    picture = photo()
    picture.flags.writeable = False
    mask = picture[..., 0]
    result = fuse(A.Compose(transforms))(image=picture, mask=mask)
    for value, source in ((result["image"], picture), (result["mask"], mask)):
        assert not np.shares_memory(value, source)
        assert value.flags["C_CONTIGUOUS"]
        assert value.flags.writeable
    np.testing.assert_array_equal(picture, photo())


def test_copies_draw_for_themselves():
    fused = seeded(fuse(all_of_it(3)), 3)
    other = copy.deepcopy(fused)
    pictures = [[one(image=photo(n))["image"] for n in range(20)] for one in (fused, other)]
    for one, same in zip(*pictures, strict=True):
        np.testing.assert_array_equal(one, same)
    seeded(other, 4)
    assert fused.py_random.getstate() != other.py_random.getstate()


def test_another_process_gets_the_same():
    compose = fuse(A.Compose([A.Rotate(p=1), *reference().transforms, FancyPCA(p=1)]))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(seeded(compose, 2), image=photo()).result()
    np.testing.assert_array_equal(there["image"], seeded(compose, 2)(image=photo())["image"])


def test_parameters_are_saved_where_asked_for():
    kinds = [A.ElasticTransform(p=1), A.HorizontalFlip(p=1)]
    applied = fuse(A.Compose(kinds, save_applied_params=True))(image=photo())["applied_transforms"]
    assert [name for name, _ in applied] == ["ElasticTransform", "HorizontalFlip"]


def test_a_missing_mask_stays_missing():
    assert fuse(A.Compose([A.HorizontalFlip(p=1)]))(image=photo(), mask=None)["mask"] is None


def test_what_the_plain_compose_refuses_is_refused():
    with pytest.raises(ValueError, match="should be equal"):
        fuse(A.Compose([A.HorizontalFlip()]))(image=photo(), mask=photo()[1:, :, 0])
    with pytest.raises(ValueError, match="not in available keys"):
        fuse(A.Compose([A.HorizontalFlip()], strict=True))(image=photo(), other=photo())
    with pytest.raises(KeyError, match="named arguments"):
        fuse(A.Compose([A.HorizontalFlip()]))(photo())


def test_a_compose_that_is_not_always_applied():
    transforms = A.Compose([A.VerticalFlip(p=1)], p=0.5)
    flipped = [
        (seeded(fuse(transforms), seed)(image=photo())["image"] != photo()).any()
        for seed in range(20)
    ]
    expected = [
        (seeded(transforms, seed)(image=photo())["image"] != photo()).any() for seed in range(20)
    ]
    assert flipped == expected
    assert {True, False} == set(flipped)


def reference():
    contrast = A.RandomBrightnessContrast
    return A.Compose(
        [
            A.GaussianBlur(sigma_limit=(0.8, 1.4), p=0.05),
            contrast(0.2, 0, p=0.5),
            A.Affine(translate_percent=(-0.06, 0.06), rotate=(-20, 20), p=0.75, **REFLECT),
            A.OneOf([A.CenterCrop(64, 60), A.CenterCrop(60, 64)], p=0.5),
            A.OneOf([contrast(0.3, 0.3), contrast(0.1, 0.1)], p=0.5),
            A.HorizontalFlip(p=0.5),
            A.HueSaturationValue(p=0.5),
            A.RGBShift(p=0.5),
            A.FancyPCA(alpha=0.1, p=0.5),
            A.Resize(HEIGHT, WIDTH),
        ]
    )


def test_same_distribution():
    """Independent draws of the whole list agree in the pictures' means, deviations and edges."""

    def draws(compose, seed):
        seeded(compose, seed)
        pictures = np.stack([compose(image=photo())["image"] for _ in range(500)]).astype(float)
        edges = np.abs(np.diff(pictures, axis=2)).mean(axis=(1, 2, 3))
        return pictures.mean(axis=(1, 2)), pictures.std(axis=(1, 2)), edges[:, None]

    for one, other in zip(draws(reference(), 1), draws(fuse(reference()), 2), strict=True):
        error = np.sqrt(one.var(axis=0) / len(one) + other.var(axis=0) / len(other))
        assert np.all(np.abs(one.mean(axis=0) - other.mean(axis=0)) < 4 * error + 0.3)
        assert np.all(np.abs(one.std(axis=0) / other.std(axis=0) - 1) < 0.2)


def test_masks_follow_the_geometry():
    transforms = [
        A.HorizontalFlip(),
        A.Affine(rotate=(-20, 20), fill=0, fill_mask=3, p=1),
        A.RandomBrightnessContrast(p=1),
        A.RandomCrop(64, 80),
    ]
    for seed in range(6):
        mask = (photo(seed)[..., 0] // 64).astype(np.uint8)
        plain, fused = both(transforms, seed, image=photo(seed), mask=mask)
        assert set(np.unique(fused["mask"])) <= {0, 1, 2, 3}
        assert np.mean(plain["mask"] != fused["mask"]) < 0.02
        both_channels = both(transforms, seed, image=photo(seed), mask=mask[..., None])
        assert both_channels[1]["mask"].shape == both_channels[0]["mask"].shape == (64, 80, 1)


def test_additional_targets_are_transformed_alike():
    plain = A.Compose(
        [A.HorizontalFlip(p=0.5), A.RGBShift(p=1)], additional_targets={"other": "image"}
    )
    result = seeded(fuse(plain), 1)(image=photo(), other=photo())
    np.testing.assert_array_equal(result["image"], result["other"])


def test_unknown_transforms_are_left_in_their_places():
    class MyFlip(A.HorizontalFlip):
        def apply(self, img, **params):
            return np.ascontiguousarray(img[::-1])

    kinds = [
        A.RGBShift(),
        A.HorizontalFlip(),
        A.ElasticTransform(),
        MyFlip(),
        A.VerticalFlip(),
        A.Resize(9, 9, interpolation=cv2.INTER_AREA),
        A.OneOf([A.RGBShift(), A.Blur()]),
    ]
    fused = fuse(A.Compose(kinds))
    names = [type(t).__name__ for t in fused.transforms]
    assert names == ["Fused", "ElasticTransform", "MyFlip", "Fused", "Resize", "OneOf"]


def test_boxes_keep_the_plain_path():
    plain = A.Compose([A.HorizontalFlip(p=1)], bbox_params=A.BboxParams("pascal_voc", ["labels"]))
    result = fuse(plain)(image=photo(), bboxes=[[1, 2, 11, 12]], labels=[0])
    assert np.allclose(result["bboxes"], [[WIDTH - 11, 2, WIDTH - 1, 12]])


def test_other_dtypes_go_one_by_one():
    transforms = [A.HorizontalFlip(), A.RandomBrightnessContrast(p=1), A.Resize(50, 60)]
    plain, fused = both(transforms, 3, image=photo().astype(np.float32) / 255)
    np.testing.assert_array_equal(plain["image"], fused["image"])


def test_the_callers_compose_is_left_alone():
    plain = reference()
    fuse(plain)
    assert [type(t) for t in plain.transforms] == [type(t) for t in reference().transforms]
    with pytest.raises(TypeError, match="Compose"):
        fuse(A.HorizontalFlip())


def test_an_augmentor_takes_it():
    x = np.stack([photo(seed) for seed in range(8)])
    flows = [
        ImageDataAugmentor(
            augment=ImageDataAugmentor.fuse(reference()), seed=2, workers=workers
        ).flow(x, dtype="uint8")
        for workers in (0, 3)
    ]
    np.testing.assert_array_equal(flows[0][0], flows[1][0])
