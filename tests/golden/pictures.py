"""The pictures that the golden facts are about: the same on every version of everything."""

import os

CLASSES = {"10": 5, "2": 3, "kits": 7}
SIZE = (6, 8)


def pixels(number, channels=3, size=SIZE):
    """A nested list [height][width][channels] of values 0..255 that differ from place to place."""
    return [
        [[(37 * number + 11 * y + 5 * x + 71 * c) % 256 for c in range(channels)] for x in range(w)]
        for w, y in ((size[1], y) for y in range(size[0]))
    ]


def draw(folder, save):
    """Draw the class folders, and a `masks` folder beside them; `save(path, nested list)`.

    Returns the relative paths of the photos, in the order drawn, and those of their masks.
    """
    photos, masks = [], []
    for name, count in CLASSES.items():
        for number in range(count):
            sub = "more" if number == count - 1 else ""
            suffix = "PNG" if number == 1 else "png"
            photo = os.path.join("photos", name, sub, f"{20 - number}.{suffix}")
            mask = os.path.join("masks", f"{name}-{number}.png")
            for path, channels in ((photo, 3), (mask, 1)):
                os.makedirs(os.path.join(folder, os.path.dirname(path)), exist_ok=True)
                save(os.path.join(folder, path), pixels(len(photos), channels))
            photos.append(photo)
            masks.append(mask)
        with open(os.path.join(folder, "photos", name, "notes.txt"), "w") as file:
            file.write("not a picture")
    return photos, masks
