"""Draw what marks each kind of car besides its shape: its load, its livery or its racks."""

from collections.abc import Callable

import numpy as np

from sample.bodies import Body
from sample.scenes import GLASS, TYRE, View

# Draws something of a car, which has that body and paint, into a scene (uint8 [h, w, 3]).
Feature = Callable[[np.ndarray, View, Body, np.ndarray], None]

# Colours are RGB, 0 to 255.
LIGHT, DARK = np.array((238, 236, 228)), np.array((44, 46, 54))
WOOD, CRATE = np.array((136, 92, 54)), np.array((178, 138, 88))


def contrast(paint: np.ndarray) -> np.ndarray:
    """Return a colour that stands out on `paint`."""
    return LIGHT if paint.mean() < 130 else DARK


def upright(left: float, right: float, low: float, high: float, z: float) -> list:
    """Return the corners of a rectangle that is parallel to the car's side."""
    return [(left, low, z), (right, low, z), (right, high, z), (left, high, z)]


def rally(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw two stripes and a starting number."""
    ink = contrast(paint)
    view.line(scene, [(0.05, 0.52, 0), (3.8, 0.5, 0)], ink, 0.07)
    view.line(scene, [(0.05, 0.63, 0), (3.85, 0.61, 0)], ink, 0.035)
    view.disc(scene, 1.86, 0.7, 0, 0.25, LIGHT)
    for x in (1.79, 1.93):  # 11 reads the same when the car is mirrored
        view.line(scene, [(x, 0.82, 0), (x, 0.58, 0)], DARK, 0.06)


def taxi(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a chequered band and a sign on the roof."""
    for i, x in enumerate(np.arange(0.3, 4.0, 0.15)):
        for row in range(2):
            low = 0.6 + 0.12 * row
            ink = DARK if (i + row) % 2 else LIGHT
            view.fill(scene, upright(x, x + 0.15, low, low + 0.12, 0), ink)
    middle = body.width / 2
    view.fill(scene, upright(1.75, 2.2, 1.4, 1.62, middle), (240, 196, 40))
    view.line(scene, [(1.83, 1.52, middle), (2.12, 1.52, middle)], DARK, 0.06)


def panelling(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw wooden panels and roof rails."""
    view.fill(scene, upright(0.06, 4.1, 0.46, 0.82, 0), WOOD)
    frame = upright(0.06, 4.1, 0.46, 0.82, 0)
    view.line(scene, [*frame, frame[0]], WOOD * 1.5, 0.05)
    for x in (1.22, 2.05, 3.05):
        view.line(scene, [(x, 0.46, 0), (x, 0.82, 0)], WOOD * 1.5, 0.05)
    for z in (body.width - 0.15, 0.12):
        view.line(scene, [(0.5, 1.54, z), (2.5, 1.54, z)], (60, 62, 66), 0.05)


def expedition(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a spare wheel, dark cladding, and a roof rack with lamps."""
    middle = body.width / 2
    view.line(scene, [(-0.16, 0.65, middle), (-0.16, 1.35, middle)], TYRE, 0.26)
    view.fill(scene, upright(0.02, 3.7, 0.5, 0.78, 0), DARK)
    for z in (body.width - 0.1, 0.1):
        rack = upright(0.25, 2.05, 1.86, 2.0, z)
        view.line(scene, [*rack, rack[0]], DARK, 0.04)
    for x in (0.7, 1.15, 1.6):
        view.line(scene, [(x, 2.0, 0.1), (x, 2.0, body.width - 0.1)], DARK, 0.04)
    for z in np.linspace(body.width - 0.25, 0.25, 4):
        view.line(scene, [(2.07, 2.02, z), (2.08, 2.02, z)], (250, 240, 190), 0.17)


def crates(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a load of crates in the bed."""
    far = body.width - 0.15
    for left, right, high in ((0.12, 0.7, 1.45), (0.74, 1.3, 1.62), (1.34, 1.88, 1.4)):
        ends = (left, right) if view.turn > 0 else (right, left)
        end = [
            (ends[1], 1.13, 0.12),
            (ends[1], high, 0.12),
            (ends[1], high, far),
            (ends[1], 1.13, far),
        ]
        top = [(left, high, 0.12), (right, high, 0.12), (right, high, far), (left, high, far)]
        view.fill(scene, end, CRATE * 0.7)
        view.fill(scene, top, CRATE * 1.2)
        view.fill(scene, upright(left, right, 1.12, high, 0.12), CRATE)
        for y in np.arange(1.2, high, 0.12):
            view.line(scene, [(left, y, 0.12), (right, y, 0.12)], CRATE * 0.6, 0.025)


def company(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw the sign and the name of a company."""
    ink = contrast(paint)
    view.line(scene, [(0.1, 1.05, 0), (2.7, 1.05, 0)], ink, 0.09)
    view.disc(scene, 0.75, 1.58, 0, 0.36, ink)
    view.disc(scene, 0.75, 1.58, 0, 0.2, paint * 0.86)
    for y, end in ((1.78, 2.55), (1.58, 2.3), (1.38, 2.45)):
        view.line(scene, [(1.3, y, 0), (end, y, 0)], ink, 0.1)


def racing(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a wing, a dark skirt and an air intake."""
    view.fill(scene, upright(0.1, 4.2, 0.24, 0.42, 0), DARK)
    view.fill(scene, [(1.2, 0.72, 0), (1.75, 0.66, 0), (1.5, 0.5, 0), (1.28, 0.5, 0)], DARK)
    for z in (body.width - 0.2, 0.2):
        view.line(scene, [(0.26, 0.84, z), (0.2, 1.08, z)], DARK, 0.07)
    wing = [(0.02, 1.1, 0), (0.4, 1.06, 0), (0.4, 1.06, body.width), (0.02, 1.1, body.width)]
    view.fill(scene, wing, DARK)


def windscreen(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw the windscreen of an open car, and its hood folded behind the seats."""
    top, foot = (2.28, 1.26), (2.73, 0.92)
    screen = [(*top, 0.05), (*top, body.width), (*foot, body.width), (*foot, 0.05)]
    view.fill(scene, screen, GLASS * 1.7)
    view.line(scene, [*screen, screen[0]], paint * 0.5, 0.05)
    view.line(scene, [(0.35, 0.97, 0.1), (0.75, 1.0, 0.1)], (70, 60, 54), 0.13)


def chrome(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw chrome along the side."""
    for y in (0.58, 0.99):
        view.line(scene, [(0.2, y - 0.02, 0), (5.1, y - 0.02, 0)], (226, 228, 232), 0.05)


FEATURES: dict[str, Feature] = {
    "hatchback": rally,
    "saloon": taxi,
    "estate": panelling,
    "off-roader": expedition,
    "pickup": crates,
    "van": company,
    "coupe": racing,
    "cabriolet": windscreen,
    "limousine": chrome,
}
