"""How well near-duplicates are found among real photos: `PHOTOS=FOLDER python near_duplicates.py`.

FOLDER is an unpacked competition. Prints the closest pairs, the false pairs to expect among as many
photos as the real competition has, and the share of altered photos that are found again.
"""

import io
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

sys.path.insert(0, str(Path(__file__).parents[2] / "lib"))
from photos.checking import DRAFT, examine
from photos.duplicates import THRESHOLD, perceptual_hashes

COMPETITION = 15_561


def cropped(photo: Image.Image, left: float, top: float, right: float, bottom: float):
    width, height = photo.size
    return photo.crop((left * width, top * height, (1 - right) * width, (1 - bottom) * height))


def captioned(photo: Image.Image) -> Image.Image:
    photo, (width, height) = photo.copy(), photo.size
    photo.paste((255, 255, 255), tuple(round(v) for v in (0.7 * width, 0.9 * height, 0.98 * width,
                                                         0.97 * height)))  # fmt: skip
    return photo


ALTERATIONS = {
    "quality 30": (lambda p: p, 30),
    "half size": (lambda p: p.resize((p.width // 2, p.height // 2)), 85),
    "320 x 240": (lambda p: p.resize((320, 240)), 85),
    "brighter 20 %": (lambda p: ImageEnhance.Brightness(p).enhance(1.2), 85),
    "darker 30 %": (lambda p: ImageEnhance.Brightness(p).enhance(0.7), 85),
    "contrast 30 %": (lambda p: ImageEnhance.Contrast(p).enhance(1.3), 85),
    "cropped 1 %": (lambda p: cropped(p, *[0.01] * 4), 85),
    "cropped 2 %": (lambda p: cropped(p, *[0.02] * 4), 85),
    "cropped 3 %": (lambda p: cropped(p, *[0.03] * 4), 85),
    "cropped 5 %": (lambda p: cropped(p, *[0.05] * 4), 85),
    "cropped 2 % left, below": (lambda p: cropped(p, 0.02, 0, 0, 0.02), 85),
    "captioned": (captioned, 85),
    "cropped 2 %, brighter, 70 %, quality 60": (
        lambda p: (q := ImageEnhance.Brightness(cropped(p, *[0.02] * 4)).enhance(1.15)).resize(
            (round(q.width * 0.7), round(q.height * 0.7))
        ),
        60,
    ),
}


def hashes_of(photo: Image.Image, quality: int) -> np.ndarray:
    """Hash a photo as `check_photos` does, after writing it as a JPEG."""
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    with Image.open(file) as written:
        written.draft("L", (DRAFT, DRAFT))
        return perceptual_hashes(written.convert("L"))


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the bits in which photos differ, [...], as `near_duplicate_groups` compares them."""
    forth = np.bitwise_count(one[..., :1, :] ^ other).sum(axis=-1)
    back = np.bitwise_count(other[..., :1, :] ^ one).sum(axis=-1)
    return np.minimum(forth, back).min(axis=-1)


def main() -> None:
    """Print the rates."""
    paths = sorted(str(path) for path in Path(os.environ["PHOTOS"]).rglob("*.jpg"))
    paths = [path for path in paths if examine(path)[0] == ""]
    photos = [Image.open(path).convert("RGB") for path in paths]
    hashes = np.stack([examine(path)[1] for path in paths])
    pairs = np.concatenate([distance(hashes[i], hashes[i + 1 :]) for i in range(len(hashes))])
    pairs = np.sort(pairs)
    print(f"{len(photos)} photos, {len(pairs):,} pairs; the closest: {pairs[:14].tolist()}")
    others = pairs[pairs > THRESHOLD]
    bits = np.arange(others[2], others[300] + 1)
    slope, offset = np.polyfit(bits, np.log(np.searchsorted(others, bits, side="right")), 1)
    false = np.exp(offset + slope * THRESHOLD) * COMPETITION**2 / len(photos) ** 2
    print(f"false pairs to expect among {COMPETITION:,} photos: {false:.0f}")
    for name, (alter, quality) in ALTERATIONS.items():
        altered = np.stack([hashes_of(alter(photo), quality) for photo in photos])
        print(f"{name:40} {(distance(hashes, altered) <= THRESHOLD).mean():.1%} found again")


if __name__ == "__main__":
    main()
