"""Every kind of image file in every colour mode, whole, damaged or missing."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from augmentor_pictures import turned_photo
from ImageDataAugmentor import ImageDataAugmentor, UnreadableImage, list_pictures, load_img


def scene(channels=3):
    """Return a picture [40, 60, channels] that is smooth, so that lossy files stay close to it."""
    y, x = np.mgrid[:40, :60]
    parts = [(4 * x) % 256, 6 * y, 255 - 2 * x - 2 * y, 128 + y]
    return np.stack(parts[:channels], axis=-1).clip(0, 255).astype(np.uint8)


def close(image, expected, tolerance=3):
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < tolerance


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "ppm", "tif", "tiff"])
def test_every_suffix(tmp_path, suffix):
    path = str(tmp_path / f"photo.{suffix}")
    smooth = cv2.resize(scene(), (60, 40))
    smooth[..., 0] = smooth[..., 1]
    Image.fromarray(smooth).save(path, quality=95)
    close(load_img(path), smooth)
    grey = cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY)[..., None]
    close(load_img(path, "gray"), grey)
    close(load_img(path, "grayscale"), grey)
    rgba = np.dstack([smooth, np.full((40, 60), 255, np.uint8)])
    close(load_img(path, "rgba"), rgba)


UPRIGHT = {  # the EXIF orientations: where a picture's upper left corner is shown
    1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_orientation_is_applied_once(tmp_path, suffix, orientation):
    if suffix == "avif" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"turned.{suffix}"
    turned_photo(path, orientation)
    for mode in ("rgb", "gray"):
        image = load_img(str(path), mode)[..., 0] > 127
        height, width = image.shape
        assert (height, width) == ((60, 40) if orientation >= 5 else (40, 60))
        quarters = image[height // 4 :: height // 2, width // 4 :: width // 2]
        assert np.argwhere(quarters).tolist() == [list(UPRIGHT[orientation])]
    if suffix == "jpg":
        assert load_img(str(path), "rgba").shape == (40, 60, 4)  # as in the original library


@pytest.mark.parametrize(
    ("dtype", "top"),
    [("f4", 1), ("f4", 255), ("f4", 65535), ("f8", 1), ("i4", 255), ("i4", 65535)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_tiffs_are_scaled(tmp_path, dtype, top, channels):
    path, picture = str(tmp_path / "deep.tif"), scene(channels)
    assert cv2.imwrite(path, (picture / 255 * top).round(9).astype(dtype)[..., ::-1])
    close(load_img(path), np.broadcast_to(picture, (40, 60, 3)), 1)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if channels == 3 else picture[..., 0]
    close(load_img(path, "gray"), grey[..., None], 1)
    close(load_img(path, "rgba")[..., :3], np.broadcast_to(picture, (40, 60, 3)), 1)


def test_deep_values_of_any_range_are_spread(tmp_path):
    path, values = str(tmp_path / "scan.tif"), np.linspace(-1000, 3000, 2400).reshape(40, 60)
    values[0, 0] = np.nan
    assert cv2.imwrite(path, np.float32(values))
    image = load_img(path, "gray")
    assert (image[0, 1], image[-1, -1]) == (0, 255)
    assert abs(int(image[20, 0, 0]) - 128) < 3


def test_cmyk(tmp_path):
    flat = np.full((40, 60, 3), (200, 40, 90), np.uint8)
    for suffix in ("jpg", "tif"):
        path = str(tmp_path / f"print.{suffix}")
        Image.fromarray(flat).convert("CMYK").save(path)
        close(load_img(path), flat, 8)
        close(load_img(path, "rgba")[..., :3], flat, 8)


def test_greyscale_palette_and_bilevel_files(tmp_path):
    grey = scene()[..., 1]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    close(load_img(str(tmp_path / "grey.png")), np.dstack([grey] * 3), 0.1)
    close(load_img(str(tmp_path / "grey.png"), "gray"), grey[..., None], 0.1)
    close(load_img(str(tmp_path / "grey.png"), "rgba")[..., :3], np.dstack([grey] * 3), 0.1)
    palette = Image.fromarray(scene()).quantize(16)
    palette.save(tmp_path / "palette.png")
    close(load_img(str(tmp_path / "palette.png")), np.asarray(palette.convert("RGB")), 0.1)
    Image.fromarray(grey > 100).save(tmp_path / "bits.png")
    assert set(np.unique(load_img(str(tmp_path / "bits.png"), "gray"))) == {0, 255}


def test_alpha(tmp_path):
    rgba = scene(4)
    for suffix in ("png", "tif"):
        path = str(tmp_path / f"alpha.{suffix}")
        Image.fromarray(rgba).save(path)
        np.testing.assert_array_equal(load_img(path, "rgba"), rgba)
        close(load_img(path), rgba[..., :3], 0.1)
    grey_alpha = Image.fromarray(rgba[..., 2:4].copy(), "LA")
    grey_alpha.save(tmp_path / "la.png")
    image = load_img(str(tmp_path / "la.png"), "rgba")
    np.testing.assert_array_equal(image[..., 3], rgba[..., 3])
    np.testing.assert_array_equal(image[..., 0], rgba[..., 2])


def test_sixteen_bits(tmp_path):
    deep = scene().astype(np.uint16) * 257
    for suffix in ("png", "tif"):
        path = str(tmp_path / f"deep.{suffix}")
        cv2.imwrite(path, deep[..., ::-1])
        close(load_img(path), scene(), 1)
        close(load_img(path, "rgba")[..., :3], scene(), 1)
        grey = str(tmp_path / f"deep-grey.{suffix}")
        cv2.imwrite(grey, deep[..., 1])
        close(load_img(grey, "gray"), scene()[..., 1:2], 1)


def whole_jpeg(path):
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (320, 240))
    cv2.imwrite(str(path), picture)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_truncated_files(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    data = whole_jpeg(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = load_img(str(path))
    path.write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match=rf"cut\.{suffix}: the file is truncated"):
        half = load_img(str(path))
    assert half.shape == whole.shape
    np.testing.assert_array_equal(half[:40] if suffix != "bmp" else half[-40:],
                                  whole[:40] if suffix != "bmp" else whole[-40:])  # fmt: skip
    flow = ImageDataAugmentor(truncated="error", workers=2).flow_from_dataframe(
        _frame(path), class_mode=None, target_size=(240, 320)
    )
    with pytest.raises(UnreadableImage, match=rf"cut\.{suffix}: the file is truncated"):
        flow[0]


def _frame(path):
    import pandas as pd

    return pd.DataFrame({"filename": [str(path)]})


def test_a_jpeg_with_something_behind_its_end_is_whole(tmp_path):
    path = tmp_path / "padded.jpg"
    path.write_bytes(whole_jpeg(path) + b"\0" * 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_img(str(path))


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_truncated(tmp_path):
    exif = Image.Exif()
    thumbnail = tmp_path / "thumbnail.jpg"
    Image.fromarray(scene()).save(thumbnail)
    exif[0x010E] = "x" + thumbnail.read_bytes().decode("latin-1")
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.tile(scene(), (6, 6, 1))).save(path, exif=exif)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    with pytest.warns(UserWarning, match="truncated"):
        load_img(str(path))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"no picture at all", "not an image")]
)
def test_unreadable_files_name_themselves(tmp_path, content, reason):
    path = tmp_path / "c" / "bad one.jpg"
    path.parent.mkdir()
    path.write_bytes(content)
    flow = ImageDataAugmentor(workers=2).flow_from_directory(tmp_path)
    with pytest.raises(UnreadableImage, match=rf"bad one\.jpg: .*{reason}"):
        flow[0]


def test_a_file_that_vanishes_names_itself(tmp_path):
    path = tmp_path / "c" / "gone.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), scene())
    for cache in (None, True):
        flow = ImageDataAugmentor(cache=cache).flow_from_directory(tmp_path)
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(UnreadableImage, match=r"gone\.png: cannot be read"):
            flow[0]
        path.write_bytes(kept)


def test_nearest_neighbour_shrinking_warns_once(tmp_path):
    (tmp_path / "c").mkdir()
    cv2.imwrite(str(tmp_path / "c" / "1.png"), scene())
    flow = ImageDataAugmentor().flow_from_directory(tmp_path, target_size=(20, 30))
    with pytest.warns(UserWarning, match="INTER_AREA"):
        flow[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow[0]
        ImageDataAugmentor().flow_from_directory(tmp_path, target_size=(40, 60))[0]
        ImageDataAugmentor(input_augment_mode="mask").flow_from_directory(
            tmp_path, target_size=(20, 30)
        )[0]


def test_interpolations(tmp_path):
    path = str(tmp_path / "photo.png")
    cv2.imwrite(path, scene()[..., ::-1])
    area = cv2.resize(scene(), (30, 20), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(load_img(path, "rgb", (20, 30), cv2.INTER_AREA), area)
    np.testing.assert_array_equal(load_img(path, "rgb", (20, 30), "area"), area)
    with pytest.raises(ValueError, match="interpolation='best'"):
        load_img(path, "rgb", (20, 30), "best")
    with pytest.raises(ValueError, match="color_mode='hsv'"):
        load_img(path, "hsv")


def test_list_pictures(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/B.JPG", "notes.txt"):
        (tmp_path / name).touch()
    assert sorted(Path(p).name for p in list_pictures(str(tmp_path))) == ["B.JPG", "a.png"]
    assert [Path(p).name for p in list_pictures(str(tmp_path), "png")] == ["a.png"]
