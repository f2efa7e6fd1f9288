"""Draw photos of cars, which are solids in metres that a distant camera sees from either side."""

from itertools import pairwise

import cv2
import numpy as np

from sample.bodies import Body
from sample.features import LIGHT, Feature, upright
from sample.scenes import GLASS, TYRE, View, develop, draw_scene

RIM, GAP = np.array((176, 178, 182)), (24, 24, 26)
PAINTS = (
    (232, 232, 230),
    (176, 180, 184),
    (104, 108, 114),
    (40, 41, 46),
    (168, 32, 36),
    (36, 70, 140),
    (34, 92, 66),
    (196, 178, 146),
    (222, 176, 44),
    (204, 96, 40),
    (108, 40, 62),
    (110, 158, 196),
)


def draw_photo(
    rng: np.random.Generator, body: Body, feature: Feature | None, size: tuple[int, int]
) -> np.ndarray:
    """Draw one photo of a car, uint8 [height, width, 3], RGB.

    The colour of the car, the scene, the light, the noise, and the camera's place, distance, side,
    height and roll are drawn from `rng`; only body and feature tell the kind.
    """
    scene, horizon = draw_scene(rng, size)
    view = View.draw(rng, body, size, horizon)
    paint = np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.9, 1.1)
    draw_shadow(scene, view, body)
    draw_car(rng, scene, view, body, feature, paint)
    return develop(rng, scene)


def draw_shadow(scene: np.ndarray, view: View, body: Body) -> None:
    """Darken the ground below the car softly; a quarter of the photo's size suffices for that."""
    rear, front = body.profile[0][0] - 0.15, body.profile[-1][0] + 0.15
    outline = [
        (rear, 0, -0.2),
        (front, 0, -0.2),
        (front, 0, body.width + 0.1),
        (rear, 0, body.width),
    ]
    mask = np.zeros((scene.shape[0] // 4, scene.shape[1] // 4), np.uint8)
    cv2.fillConvexPoly(mask, np.rint(view.place(outline) / 4).astype(np.int32), 255)
    soft = cv2.resize(cv2.blur(mask, (9, 5)), scene.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    keep = (255 - soft * np.float32(0.65)).astype(np.uint8)
    cv2.multiply(scene, cv2.merge([keep] * 3), scene, 1 / 255)


def draw_car(
    rng: np.random.Generator,
    scene: np.ndarray,
    view: View,
    body: Body,
    feature: Feature | None,
    paint: np.ndarray,
) -> None:
    """Draw a car from the far side to the near one."""
    outline = rounded(body.profile)
    for x in body.wheels:
        view.disc(scene, x, body.radius, body.width - 0.15, body.radius, TYRE)
    view.fill(scene, [(x, y, body.width) for x, y in outline], paint * 0.5)
    draw_skin(scene, view, body, outline, paint)
    draw_ends(scene, view, body, paint)
    if body.open:
        draw_seats(rng, scene, view, body)
    view.fill(scene, [(x, y, 0) for x, y in outline], paint * 0.86)
    draw_side(scene, view, body, outline, paint)
    if feature:
        feature(scene, view, body, paint)
    for x in body.wheels:
        draw_wheel(rng, scene, view, body, x)


def rounded(profile) -> np.ndarray:
    """Return an outline with its corners cut twice (Chaikin 1974), float64 [n, 2]."""
    points = np.array(profile, "float64")
    for _ in range(2):
        near = points[:-1] * 0.82 + points[1:] * 0.18
        far = points[:-1] * 0.18 + points[1:] * 0.82
        middle = np.stack([near, far], 1).reshape(-1, 2)
        points = np.concatenate([points[:1], middle, points[-1:]])
    return points


def draw_skin(scene, view: View, body: Body, outline: np.ndarray, paint: np.ndarray) -> None:
    """Draw the strips between the two sides' outlines: rear, roof, windscreen and bonnet."""
    belt, roof = body.glass[4], body.glass[5]
    strips = list(pairwise(outline))
    # The end that the camera does not see comes first, so that the other one covers it.
    for (x0, y0), (x1, y1) in strips if view.turn > 0 else strips[::-1]:
        slope = abs(np.arctan2(y1 - y0, x1 - x0))
        upright = min(slope, np.pi - slope) / (np.pi / 2)
        corners = [(x0, y0, 0), (x1, y1, 0), (x1, y1, body.width), (x0, y0, body.width)]
        height = (y0 + y1) / 2
        coat = LIGHT * 0.85 if body.white_roof and height > roof else paint
        view.fill(scene, corners, coat * (1.18 - 0.5 * upright))
        glazed = not body.open and (body.rear_window or x0 > 1)
        if glazed and upright > 0.28 and belt < height < roof:
            inset = 0.1 * body.width
            pane = [(x0, y0, inset), (x1, y1, inset)]
            pane += [(x1, y1, body.width - inset), (x0, y0, body.width - inset)]
            view.fill(scene, pane, GLASS * (1.5 - 0.5 * upright))


def draw_ends(scene, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw lamps, grille, bumper and number plate on the end that the camera sees."""
    front = view.turn > 0
    x = body.profile[-1][0] + 0.005 if front else -0.005
    bottom = body.profile[0][1]
    top = body.profile[-2][1] if front else body.profile[1][1]
    middle, lamp = bottom + (top - bottom) * 0.5, (246, 242, 222) if front else (190, 24, 28)

    def panel(left: float, right: float, low: float, high: float, rgb) -> None:
        width = body.width
        view.fill(
            scene,
            [(x, low, left * width), (x, low, right * width), (x, high, right * width),
             (x, high, left * width)],
            rgb,
        )  # fmt: skip

    panel(0.02, 0.98, bottom, bottom + 0.16, paint * 0.35)
    for left in (0.05, 0.75):
        panel(left, left + 0.2, middle + 0.02, top - 0.02, lamp)
    if front:
        panel(0.29, 0.71, middle, top - 0.04, (34, 36, 40))
    panel(0.36, 0.64, middle - 0.14, middle - 0.04, (236, 236, 232))


def draw_side(scene, view: View, body: Body, outline: np.ndarray, paint: np.ndarray) -> None:
    """Draw the near side: sill, shoulder, windows, pillars, doors, handles and mirror."""
    front, belt, roof = body.glass[3:]
    sill, end = body.profile[0][1], body.profile[-1][0]
    view.fill(scene, upright(0.02, end - 0.02, sill, sill + 0.14, 0), paint * 0.5)
    shoulder = [
        (0.15, belt - 0.09, 0),
        (front, belt - 0.09, 0),
        (end - 0.3, body.profile[-3][1] - 0.1, 0),
    ]
    view.line(scene, shoulder, paint * 1.25 + 14, 0.035)
    if not body.open:
        draw_windows(scene, view, body)
    if body.white_roof:
        view.fill(scene, [(x, y, 0) for x, y in outline if y > roof - 0.03], LIGHT * 0.9)
    for x in body.pillars:
        view.line(scene, [(x, belt, 0), (x, roof, 0)], paint * 0.7, 0.07)
    for x in body.doors:
        view.line(scene, [(x, sill + 0.1, 0), (x, belt - 0.02, 0)], paint * 0.55, 0.02)
        handle = [(x - 0.3, belt - 0.16, 0), (x - 0.14, belt - 0.16, 0)]
        view.line(scene, handle, paint * 0.45, 0.04)
    mirror = [(front - 0.12, belt + 0.06, -0.08), (front - 0.02, belt + 0.06, -0.08)]
    view.line(scene, mirror, paint * 0.6, 0.14)


def draw_windows(scene, view: View, body: Body) -> None:
    """Draw the glass of the near side, and a sheen on it."""
    rear, roof_rear, roof_front, front, belt, roof = body.glass
    frame = [(rear, belt, 0), (roof_rear, roof, 0), (roof_front, roof, 0), (front, belt, 0)]
    view.fill(scene, frame, GLASS)
    wide = 0.45 * (roof_front - roof_rear)
    sheen = [
        (roof_front - wide, roof, 0),
        (roof_front - wide * 0.55, roof, 0),
        (roof_front - wide * 0.75, belt, 0),
        (roof_front - wide * 1.25, belt, 0),
    ]
    view.fill(scene, sheen, GLASS * 1.35)


def draw_wheel(rng: np.random.Generator, scene, view: View, body: Body, x: float) -> None:
    """Draw a near wheel in its arch: tyre, rim and spokes."""
    radius = body.radius
    view.disc(scene, x, radius + 0.03, 0, radius * 1.16, GAP)
    view.disc(scene, x, radius, 0, radius, TYRE)
    if body.white_walls:
        view.disc(scene, x, radius, 0, radius * 0.86, LIGHT)
    view.disc(scene, x, radius, 0, radius * 0.66, RIM * 0.62)
    first = rng.uniform(0, np.pi)
    for angle in first + np.arange(5) * 2 * np.pi / 5:
        tip = (x + 0.6 * radius * np.cos(angle), radius + 0.6 * radius * np.sin(angle), 0)
        view.line(scene, [(x, radius, 0), tip], RIM, 0.07)
    view.disc(scene, x, radius, 0, radius * 0.16, RIM)


def draw_seats(rng: np.random.Generator, scene, view: View, body: Body) -> None:
    """Draw the seats of an open car, which stand out above its doors."""
    hide = np.array((150, 106, 78)) * rng.uniform(0.5, 1.5)
    for z in (body.width - 0.45, 0.45):
        for x in (1.0, 1.75):
            foot = [(x, 0.8, z - 0.25), (x, 0.8, z + 0.25)]
            head = [(x - 0.14, 1.2, z + 0.19), (x - 0.14, 1.2, z - 0.19)]
            view.fill(scene, np.array([*foot, *head]) - (0.13, 0, 0), hide * 0.6)
            view.line(scene, [(x - 0.2, 1.28, z), (x - 0.19, 1.18, z)], hide * 0.75, 0.17)
            view.fill(scene, [*foot, *head], hide)
