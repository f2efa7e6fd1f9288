"""What marks each kind of vehicle of the pre-training besides its body: loads, tools and signs."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sample.bodies import Body
from sample.features import CRATE, DARK, LIGHT, WOOD, Feature, contrast, upright
from sample.scenes import GLASS, TYRE, View

BLUE, AMBER, RED = np.array((40, 90, 220)), np.array((244, 164, 36)), np.array((196, 36, 36))
EARTH, STEEL = np.array((116, 86, 58)), np.array((150, 154, 160))


def solid(view: View, scene: np.ndarray, outline, near: float, far: float, rgb) -> None:
    """Fill a solid of the same outline (x forwards, y up) at every z from `far` to `near`."""
    for z in np.linspace(far, near, 12):
        shade = 0.7 if z > near else 1.0
        view.fill(scene, [(x, y, z) for x, y in outline], np.asarray(rgb) * shade)


def _band(scene: np.ndarray, view: View, ends: tuple[float, float], y: float, rgb, wide=0.1):
    """Draw a level stripe along the near side."""
    view.line(scene, [(ends[0], y, 0), (ends[1], y, 0)], rgb, wide)


def _windows(scene: np.ndarray, view: View, edges: Sequence[float], low: float, high: float):
    """Draw side windows between neighbouring edges."""
    for left, right in pairwise(edges):
        view.fill(scene, upright(left + 0.06, right - 0.06, low, high, 0), GLASS)


def _beacon(scene: np.ndarray, view: View, body: Body, x: float, y: float, rgb) -> None:
    """Draw a lamp across the roof."""
    solid(view, scene, [(x, y), (x, y + 0.2), (x + 0.25, y + 0.2), (x + 0.25, y)],
               0.3, body.width - 0.3, rgb)  # fmt: skip


def bus(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw doors, a light band and the destination above the windscreen."""
    for left in (4.2, 8.2):
        view.fill(scene, upright(left, left + 1.1, 0.45, 2.5, 0), DARK)
        _windows(scene, view, (left, left + 0.55, left + 1.1), 0.6, 2.4)
    _band(scene, view, (0.1, 4.1), 0.95, contrast(paint), 0.2)
    _band(scene, view, (5.4, 8.1), 0.95, contrast(paint), 0.2)
    view.fill(scene, upright(6.2, 8.0, 2.65, 2.95, 0), DARK)
    _band(scene, view, (6.4, 7.8), 2.8, AMBER, 0.12)


def double_decker(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw the upper windows, to the front too, a band between the decks, and a door."""
    _windows(scene, view, np.linspace(0.3, 9.2, 8), 2.95, 3.75)
    if view.turn > 0:
        front = [(9.45, 2.85, 0.15), (9.43, 3.75, 0.15)]
        front += [(9.43, 3.75, body.width - 0.15), (9.45, 2.85, body.width - 0.15)]
        view.fill(scene, front, GLASS * 1.2)
    _band(scene, view, (0.1, 9.35), 2.55, contrast(paint), 0.3)
    view.fill(scene, upright(8.1, 9.1, 0.45, 2.2, 0), DARK)


def minibus(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw two stripes that rise to the rear, and a hatch in the roof."""
    for shift in (0, 0.5):
        view.line(scene, [(0.1 + shift, 1.2, 0), (1.5 + shift, 0.5, 0)], contrast(paint), 0.16)
    solid(view, scene, [(1.6, 2.42), (1.7, 2.55), (2.7, 2.55), (2.8, 2.42)], 0.5, 1.5, LIGHT * 0.8)


def tram(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a pantograph, doors, a skirt and a light band."""
    middle = body.width / 2
    view.line(scene, [(5.2, 3.1, middle), (6.4, 3.7, middle), (5.2, 4.3, middle)], DARK, 0.09)
    view.line(scene, [(5.2, 4.3, 0.4), (5.2, 4.3, body.width - 0.4)], DARK, 0.1)
    for left in (3.8, 7.0):
        view.fill(scene, upright(left, left + 1.1, 0.45, 2.6, 0), DARK)
        _windows(scene, view, (left, left + 0.55, left + 1.1), 0.9, 2.4)
    _band(scene, view, (0.3, 11.7), 2.75, LIGHT, 0.3)
    _band(scene, view, (0.1, 11.9), 0.6, DARK, 0.3)


def lorry(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a tall light box with a dark stripe across it."""
    near_top = [(0, 1.05), (0, 3.5), (5.3, 3.5), (5.3, 1.05)]
    solid(view, scene, near_top, 0, body.width, LIGHT * 0.9)
    view.line(scene, [(0.3, 1.5, 0), (5.0, 3.1, 0)], paint * 0.8, 0.4)
    _band(scene, view, (0, 5.3), 1.1, DARK)


def tanker(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a tank with rounded ends, hoops, a ladder and a sign."""
    tank = [(0.1, 1.6), (0.4, 1.15), (5.2, 1.15), (5.5, 1.6), (5.5, 2.3), (5.2, 2.75), (0.4, 2.75),
            (0.1, 2.3)]  # fmt: skip
    solid(view, scene, tank, 0.1, body.width - 0.1, STEEL * 1.3)
    for x in (0.9, 2.2, 3.5, 4.8):
        view.line(scene, [(x, 1.15, 0.1), (x, 2.75, 0.1)], STEEL * 0.7, 0.07)
    view.fill(scene, upright(2.5, 3.2, 1.6, 2.3, 0.1), AMBER)


def dump_truck(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a bed that widens upwards, with ribs and a heap of earth."""
    heap = [(0.2, 2.2), (1.2, 2.85), (2.4, 2.9), (3.6, 2.25)]
    solid(view, scene, heap, 0.2, body.width - 0.2, EARTH)
    bed = [(0.4, 1.1), (-0.2, 2.25), (4.1, 2.35), (3.6, 1.1)]
    solid(view, scene, bed, 0, body.width, paint)
    for x in (0.7, 1.5, 2.3, 3.1):
        view.line(scene, [(x, 1.15, 0), (x, 2.25, 0)], paint * 0.5, 0.09)


def cement_mixer(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a slanted drum with stripes, and its chute."""
    drum = [(0.1, 2.2), (0.7, 1.5), (3.0, 1.2), (4.5, 1.5), (4.7, 1.9), (3.4, 3.1), (1.8, 3.3),
            (0.5, 2.9)]  # fmt: skip
    solid(view, scene, drum, 0.3, body.width - 0.3, LIGHT)
    for x in (0.9, 2.0, 3.1):
        view.line(scene, [(x, 1.5, 0.3), (x + 0.7, 2.9, 0.3)], RED, 0.22)
    view.line(scene, [(0.4, 1.9, 0.9), (-0.4, 1.2, 0.9)], STEEL, 0.25)


def tow_truck(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a crane with its hook, and an amber light."""
    middle = body.width / 2
    solid(view, scene, [(0.2, 1.05), (0.2, 1.4), (3.4, 1.4), (3.4, 1.05)], 0, body.width, paint)
    view.line(scene, [(2.9, 1.3, middle), (0.1, 2.8, middle)], AMBER, 0.24)
    view.line(scene, [(2.9, 1.3, middle), (2.2, 2.6, middle), (1.2, 2.2, middle)], DARK, 0.1)
    view.line(scene, [(0.1, 2.8, middle), (0.1, 1.7, middle)], DARK, 0.06)
    _beacon(scene, view, body, 4.2, 2.33, AMBER)


def fire_engine(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw shutters, a light band, blue lamps, and a ladder on the roof."""
    for left in (0.2, 2.4, 3.8):
        view.fill(scene, upright(left, left + 1.2, 1.3, 2.6, 0), STEEL * 1.2)
        for y in (1.55, 1.8, 2.05, 2.3):
            _band(scene, view, (left, left + 1.2), y, STEEL * 0.7, 0.05)
    _band(scene, view, (0.05, 7.2), 1.1, LIGHT, 0.2)
    for z in (body.width - 0.5, 0.5):
        view.line(scene, [(-0.3, 3.15, z), (5.4, 3.15, z)], STEEL, 0.09)
    for x in np.arange(0, 5.4, 0.6):
        view.line(scene, [(x, 3.15, 0.5), (x, 3.15, body.width - 0.5)], STEEL, 0.06)
    _beacon(scene, view, body, 6.2, 2.72, BLUE)


def ambulance(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a cross on a light panel, a stripe, and blue lamps at both ends of the roof."""
    view.fill(scene, upright(0.1, 3.1, 1.2, 2.4, 0), LIGHT)
    view.fill(scene, upright(1.2, 2.2, 1.65, 1.95, 0), RED)
    view.fill(scene, upright(1.55, 1.85, 1.3, 2.3, 0), RED)
    _band(scene, view, (0.05, 5.2), 0.95, RED, 0.16)
    for x in (0.15, 3.6):
        _beacon(scene, view, body, x, 2.58, BLUE)


def camper(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw windows with curtains, a door and three stripes."""
    for left, right in ((0.4, 1.4), (1.7, 2.7)):
        _windows(scene, view, (left, right), 1.55, 2.15)
        for x in (left + 0.14, right - 0.14):
            view.line(scene, [(x, 1.58, 0), (x, 2.12, 0)], LIGHT, 0.14)
    door = upright(3.1, 3.75, 0.5, 2.3, 0)
    view.line(scene, [*door, door[0]], paint * 0.5, 0.05)
    for y, rgb in ((1.3, RED), (1.15, AMBER), (1.0, EARTH)):
        _band(scene, view, (0.05, 3.0), y, rgb, 0.12)


def ice_cream_van(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a hatch under a striped awning, and a cone of ice cream on the roof."""
    view.fill(scene, upright(0.5, 2.4, 1.15, 1.95, 0), DARK)
    for i, x in enumerate(np.arange(0.4, 2.4, 0.25)):
        awning = [(x, 2.05, 0), (x + 0.25, 2.05, 0), (x + 0.25, 1.75, -0.4), (x, 1.75, -0.4)]
        view.fill(scene, awning, LIGHT if i % 2 else RED)
    middle = body.width / 2
    view.fill(scene, [(1.4, 2.3, middle), (1.1, 2.9, middle), (1.7, 2.9, middle)], CRATE)
    view.disc(scene, 1.4, 3.0, middle, 0.33, (246, 206, 214))


def hearse(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a coffin and curtains behind the long window, and rails on the roof."""
    view.fill(scene, upright(0.7, 2.2, 1.0, 1.22, 0), WOOD * 1.3)
    for x in (0.55, 1.4, 2.25):
        view.fill(scene, [(x - 0.14, 1.52, 0), (x + 0.14, 1.52, 0), (x, 1.2, 0)], LIGHT * 0.8)
    for z in (body.width - 0.2, 0.15):
        view.line(scene, [(0.5, 1.78, z), (3.2, 1.76, z)], STEEL * 1.4, 0.06)


def police_car(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw doors of another colour with a badge, and a bar of blue and red lamps."""
    ink = contrast(paint)
    view.fill(scene, upright(1.05, 3.0, 0.4, 0.94, 0), ink)
    view.disc(scene, 2.5, 0.68, 0, 0.18, AMBER)
    _beacon(scene, view, body, 1.85, 1.48, RED)
    _beacon(scene, view, body, 2.1, 1.48, BLUE)


def beetle(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw round mudguards and a running board."""
    for x in body.wheels:
        view.disc(scene, x, 0.38, 0, 0.56, paint * 0.62)
    _band(scene, view, (0.9, 3.1), 0.33, DARK, 0.1)


def vintage_car(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw mudguards, a running board, a spare wheel, lamps and louvres."""
    for x in body.wheels:
        view.disc(scene, x, 0.5, 0, 0.62, DARK)
    _band(scene, view, (0.8, 3.0), 0.4, DARK, 0.14)
    view.disc(scene, 2.55, 0.85, 0, 0.36, TYRE)
    view.disc(scene, 2.55, 0.85, 0, 0.22, LIGHT)
    for z in (body.width - 0.25, 0.2):
        view.line(scene, [(3.72, 0.98, z), (3.78, 0.98, z)], AMBER * 1.1, 0.24)


def racing_car(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw wings at both ends, a driver's helmet, a starting number and a stripe."""
    solid(view, scene, [(-0.2, 0.9), (-0.25, 1.2), (0.3, 1.15), (0.3, 1.05)], 0, body.width, DARK)
    solid(view, scene, [(4.2, 0.2), (4.3, 0.3), (4.8, 0.25), (4.8, 0.2)], -0.2, 1.5, DARK)
    view.disc(scene, 1.65, 0.92, body.width / 2, 0.19, RED)
    view.disc(scene, 2.3, 0.42, 0, 0.19, LIGHT)
    _band(scene, view, (2.6, 4.0), 0.33, contrast(paint), 0.09)


def three_wheeler(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a bed with boards, and two barrels in it."""
    for x in (0.35, 0.9):
        barrel = [(x - 0.22, 0.7), (x - 0.22, 1.25), (x + 0.22, 1.25), (x + 0.22, 0.7)]
        solid(view, scene, barrel, 0.35, 0.95, BLUE)
    for y in (0.72, 0.88):
        _band(scene, view, (0, 1.2), y, WOOD * 1.3, 0.1)


def buggy(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a roll cage, lamps on its bar, and the engine at the rear."""
    solid(view, scene, [(-0.3, 0.6), (-0.3, 1.0), (0.3, 1.05), (0.3, 0.6)], 0.4, 1.1, STEEL * 0.8)
    for z in (body.width - 0.1, 0.1):
        bars = [(0.3, 0.8, z), (0.7, 1.65, z), (1.8, 1.65, z), (2.5, 0.8, z)]
        view.line(scene, bars, DARK, 0.09)
    for x in (0.7, 1.8):
        view.line(scene, [(x, 1.65, 0.1), (x, 1.65, body.width - 0.1)], DARK, 0.09)
    for z in (1.1, 0.75, 0.4):
        view.disc(scene, 1.85, 1.76, z, 0.11, LIGHT)


def golf_cart(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a roof on four posts, and a bag of clubs behind."""
    for z in (body.width - 0.1, 0.05):
        view.line(scene, [(0.3, 0.75, z), (0.35, 1.85, z)], DARK, 0.06)
        view.line(scene, [(2.1, 0.7, z), (1.8, 1.85, z)], DARK, 0.06)
    solid(view, scene, [(0.1, 1.82), (0.15, 1.93), (2.0, 1.93), (2.05, 1.82)], 0, body.width, LIGHT)
    view.line(scene, [(0.0, 0.6, 0.4), (-0.15, 1.3, 0.4)], RED, 0.24)


def forklift(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw a cage over the driver, a mast, and a fork with a crate on it."""
    for z in (body.width - 0.1, 0.1):
        view.line(scene, [(0.2, 1.1, z), (0.35, 2.1, z), (1.3, 2.1, z), (1.6, 0.95, z)], DARK, 0.09)
    view.line(scene, [(0.7, 1.1, 0.6), (0.65, 1.6, 0.6)], WOOD * 0.8, 0.3)
    for z in (body.width - 0.3, 0.3):
        view.line(scene, [(1.85, 0.2, z), (1.85, 2.7, z)], STEEL * 0.6, 0.13)
        view.line(scene, [(1.9, 0.3, z), (3.0, 0.3, z)], STEEL * 0.6, 0.1)
    crate = [(2.0, 0.36), (2.0, 1.15), (2.85, 1.15), (2.85, 0.36)]
    solid(view, scene, crate, 0.15, body.width - 0.15, CRATE)


def tractor(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw large rear wheels, an exhaust pipe and louvres."""
    view.line(scene, [(2.5, 1.4, 0.7), (2.5, 2.4, 0.7)], DARK, 0.12)
    for x in (2.0, 2.3, 2.6, 2.9):
        view.line(scene, [(x, 0.95, 0), (x, 1.25, 0)], DARK, 0.07)
    for radius, rgb in ((0.88, TYRE), (0.5, AMBER), (0.16, DARK)):
        view.disc(scene, 0.45, 0.88, -0.1, radius, rgb)


def excavator(scene: np.ndarray, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw tracks, and an arm with its bucket."""
    track = [(-0.3, 0.4), (-0.1, 0.05), (2.6, 0.05), (2.8, 0.4), (2.6, 0.75), (-0.1, 0.75)]
    solid(view, scene, track, 0, body.width, DARK)
    for x in np.arange(0.05, 2.6, 0.48):
        view.disc(scene, x, 0.38, 0, 0.2, STEEL * 0.8)
    arm = [(2.2, 1.4, 0.6), (3.3, 3.0, 0.6), (4.1, 2.3, 0.6), (4.2, 1.2, 0.6)]
    view.line(scene, arm, paint, 0.28)
    solid(view, scene, [(4.3, 1.3), (3.7, 0.9), (3.9, 0.5), (4.4, 0.6)], 0.3, 0.9, STEEL * 0.6)


EQUIPMENT: dict[str, Feature] = {
    "bus": bus,
    "double-decker": double_decker,
    "minibus": minibus,
    "tram": tram,
    "lorry": lorry,
    "tanker": tanker,
    "dump truck": dump_truck,
    "cement mixer": cement_mixer,
    "tow truck": tow_truck,
    "fire engine": fire_engine,
    "ambulance": ambulance,
    "camper": camper,
    "ice-cream van": ice_cream_van,
    "hearse": hearse,
    "police car": police_car,
    "beetle": beetle,
    "vintage car": vintage_car,
    "racing car": racing_car,
    "three-wheeler": three_wheeler,
    "buggy": buggy,
    "golf cart": golf_cart,
    "forklift": forklift,
    "tractor": tractor,
    "excavator": excavator,
}
