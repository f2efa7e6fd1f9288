"""QuickFancyPCA agrees with albumentations', and the older FancyPCA shifts by one colour."""

import albumentations as A
import numpy as np
import pytest

from augmentor_pictures import photo, seeded
from ImageDataAugmentor import ImageDataAugmentor
from ImageDataAugmentor.fused import fuse
from ImageDataAugmentor.fused.transforms import FancyPCA, QuickFancyPCA


@pytest.mark.parametrize("alpha", [0.1, 1])
def test_the_plain_path_has_a_quick_fancy_pca(alpha):
    plain = A.Compose([A.OneOf([A.FancyPCA(alpha=alpha, p=1)], p=1)])
    augmentor = ImageDataAugmentor(augment=plain, seed=1)
    assert type(augmentor.augment.transforms[0].transforms[0]) is QuickFancyPCA
    assert (
        type(plain.transforms[0].transforms[0]) is A.FancyPCA
    )  # The caller's Compose is unchanged.
    for seed in range(12):
        quick = seeded(augmentor.augment, seed)(image=photo(seed))["image"]
        difference = np.abs(seeded(plain, seed)(image=photo(seed))["image"].astype(int) - quick)
        assert quick.flags["C_CONTIGUOUS"]
        assert difference.max() <= 1  # also if two components are nearly alike
        assert difference.mean() <= 0.2
        assert np.abs(photo(seed).astype(int) - quick).max() > 0 or alpha < 1


def test_components_are_those_of_every_fourth_row():
    transforms = A.Compose([A.FancyPCA(alpha=0.1, p=1)])
    quick = ImageDataAugmentor(augment=transforms).augment
    for seed in range(6):
        picture = photo(seed, (336, 300))
        expected = seeded(transforms, seed)(image=picture)["image"].astype(int)
        assert np.abs(seeded(quick, seed)(image=picture)["image"] - expected).max() <= 1


def test_fancy_pca_of_other_pictures_is_albumentations_own():
    transforms = A.Compose([A.FancyPCA(alpha=1, p=1)])
    quick = ImageDataAugmentor(augment=transforms).augment
    for picture in (photo().astype(np.float32) / 255, photo()[..., :1]):
        expected = seeded(transforms, 3)(image=picture)["image"]
        np.testing.assert_array_equal(seeded(quick, 3)(image=picture)["image"], expected)


def test_quick_fancy_pca_of_plain_and_tiny_pictures():
    transforms = A.Compose([A.FancyPCA(alpha=1, p=1)])
    quick = ImageDataAugmentor(augment=transforms).augment
    for picture in (np.full((40, 50, 3), (9, 90, 200), np.uint8), photo()[:1, :2], photo()[::2]):
        expected = seeded(transforms, 3)(image=picture)["image"].astype(int)
        assert np.abs(seeded(quick, 3)(image=picture)["image"] - expected).max() <= 1


def test_the_older_fancy_pca_moves_all_pixels_by_one_colour():
    plain = A.Compose([FancyPCA(alpha=5, p=1)])
    picture = photo() // 2 + 64  # so that no value is clipped
    shifts = []
    for seed in range(6):
        result = seeded(plain, seed)(image=picture)["image"]
        shift = (result.astype(int) - picture).reshape(-1, 3)
        assert np.all(shift == shift[0])
        shifts.append(shift[0])
        fused = seeded(fuse(plain), seed)(image=picture)["image"]
        np.testing.assert_array_equal(fused, result)
    assert np.any(shifts)
    assert np.abs(shifts).max() < 64
