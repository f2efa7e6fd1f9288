"""Drawing cars: ten kinds as solids in metres, seen from any side by a camera that stands off."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from photos.scenes import colour, develop, draw_scene

SUBPIXEL = 4  # OpenCV's fixed point: coordinates in sixteenths of a pixel
GLASS = np.array((62, 76, 90))
TYRE, RIM, GAP = (30, 30, 32), (176, 178, 182), (24, 24, 26)
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


@dataclass(frozen=True)
class Body:
    """One kind of car, its front at the right; lengths in metres, heights above the ground."""

    profile: tuple[tuple[float, float], ...]
    """The outline of the side over rear, roof and front; both ends lie at the sill."""
    glass: tuple[float, float, float, float, float, float]
    """The side windows: x at the belt line's rear, the roof's rear and front, the belt line's front;
    then the heights of belt line and roof edge."""
    pillars: tuple[float, ...]
    """Where pillars divide the side windows."""
    doors: tuple[float, ...]
    """Where the gaps between doors are."""
    wheels: tuple[float, float]
    """The axles."""
    radius: float = 0.31
    """Of the wheels."""
    width: float = 1.65
    extra: str = ""
    """What else marks it: rails, spare, bed, spoiler, open or cargo."""


CARS: dict[str, Body] = {
    "hatchback": Body(
        ((0, 0.3), (0, 0.85), (0.12, 1.0), (0.5, 1.42), (1.95, 1.46), (2.75, 0.98), (3.6, 0.84),
         (3.86, 0.66), (3.9, 0.3)),
        (0.42, 0.68, 1.92, 2.5, 0.95, 1.36), (1.32,), (1.32, 2.4), (0.72, 3.12),
    ),
    "saloon": Body(
        ((0, 0.3), (0, 0.8), (0.1, 0.96), (0.85, 1.0), (1.35, 1.38), (2.5, 1.41), (3.2, 0.97),
         (4.15, 0.84), (4.37, 0.66), (4.4, 0.3)),
        (1.05, 1.42, 2.45, 2.98, 0.95, 1.32), (1.95,), (1.12, 1.95, 2.9), (0.85, 3.5),
    ),
    "estate": Body(
        ((0, 0.3), (0, 0.92), (0.2, 1.38), (0.4, 1.45), (2.65, 1.46), (3.4, 0.98), (4.3, 0.85),
         (4.52, 0.66), (4.55, 0.3)),
        (0.28, 0.46, 2.62, 3.15, 0.95, 1.37), (1.12, 2.05), (1.22, 2.05, 3.05), (0.88, 3.65),
        extra="rails",
    ),
    "off-roader": Body(
        ((0, 0.5), (0, 1.2), (0.08, 1.75), (0.2, 1.82), (2.15, 1.84), (2.55, 1.24), (3.55, 1.18),
         (3.7, 1.05), (3.72, 0.5)),
        (0.2, 0.28, 2.1, 2.4, 1.2, 1.72), (1.2,), (1.25, 2.42), (0.75, 2.98), 0.4, 1.7, "spare",
    ),
    "pickup": Body(
        ((0, 0.5), (0, 1.12), (1.95, 1.13), (2.08, 1.66), (2.25, 1.76), (3.25, 1.78), (3.85, 1.18),
         (4.95, 1.08), (5.17, 0.9), (5.2, 0.5)),
        (2.2, 2.3, 3.2, 3.6, 1.14, 1.66), (2.9,), (2.15, 2.9, 3.62), (1.05, 4.3), 0.39, 1.8, "bed",
    ),
    "van": Body(
        ((0, 0.35), (0, 1.95), (0.14, 2.2), (3.55, 2.24), (4.3, 1.32), (4.85, 1.1), (4.98, 0.85),
         (5.0, 0.35)),
        (2.9, 2.9, 3.5, 4.05, 1.3, 1.98), (), (1.7, 2.8, 3.95), (0.95, 4.1), 0.34, 1.9, "cargo",
    ),
    "coupe": Body(
        ((0, 0.24), (0, 0.72), (0.14, 0.86), (0.5, 0.89), (1.35, 1.2), (2.1, 1.23), (3.0, 0.84),
         (3.95, 0.68), (4.27, 0.5), (4.3, 0.24)),
        (0.95, 1.38, 2.05, 2.72, 0.86, 1.15), (1.4,), (1.4, 2.66), (0.85, 3.42), 0.33, 1.75,
        "spoiler",
    ),
    "cabriolet": Body(
        ((0, 0.28), (0, 0.76), (0.12, 0.9), (0.9, 0.94), (1.3, 0.9), (2.75, 0.9), (3.9, 0.76),
         (4.13, 0.6), (4.15, 0.28)),
        (2.15, 2.2, 2.2, 2.75, 0.9, 1.28), (), (1.45, 2.62), (0.82, 3.3), 0.31, 1.65, "open",
    ),
    "microcar": Body(
        ((0, 0.3), (0, 0.85), (0.1, 1.2), (0.4, 1.52), (1.3, 1.56), (1.95, 1.05), (2.35, 0.92),
         (2.55, 0.7), (2.58, 0.3)),
        (0.4, 0.55, 1.28, 1.75, 1.0, 1.45), (0.72,), (0.72, 1.72), (0.45, 2.1), 0.28, 1.5,
    ),
    "limousine": Body(
        ((0, 0.3), (0, 0.82), (0.1, 0.98), (0.85, 1.02), (1.3, 1.42), (4.65, 1.45), (5.35, 1.0),
         (6.45, 0.88), (6.77, 0.68), (6.8, 0.3)),
        (1.02, 1.38, 4.6, 5.12, 0.97, 1.36), (1.95, 2.85, 3.9), (1.15, 1.95, 3.9, 5.0), (0.88, 5.8),
        0.33, 1.8,
    ),
}  # fmt: skip


def draw_photo(rng: np.random.Generator, kind: str, size: tuple[int, int]) -> np.ndarray:
    """Draw one photo of a car of a kind: uint8 [height, width, 3], RGB.

    Colour, place, distance, side, height and roll of the camera, the scene, the light and the noise
    are drawn from `rng`; only the body says which kind it is.
    """
    scene, horizon = draw_scene(rng, size)
    body = CARS[kind]
    view = View.draw(rng, body, size, horizon)
    paint = np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.9, 1.1)
    draw_shadow(scene, view, body)
    draw_car(rng, scene, view, body, paint)
    return develop(rng, scene)


@dataclass(frozen=True)
class View:
    """A camera far away (parallel rays): where it puts a point of the car on the picture."""

    middle: float
    """The x of the car, in metres, that lies at `centre`."""
    centre: tuple[float, float]
    """The pixel of that point on the ground, on the near side of the car."""
    scale: float
    """Pixels a metre; negative x for a car that looks to the left."""
    mirrored: bool
    turn: float
    """How far the car is turned, in radians: above 0 its front shows, below 0 its rear."""
    tilt: float
    """How far the camera looks down, in radians."""
    roll: float
    """How far the camera is held at a slant, in radians."""

    @classmethod
    def draw(cls, rng: np.random.Generator, body: Body, size: tuple[int, int], horizon: float):
        """Choose a view that holds the whole car."""
        height, width = size
        length = body.profile[-1][0]
        turn = rng.uniform(0.1, 0.62) * rng.choice([-1, 1])
        seen = length * np.cos(turn) + body.width * abs(np.sin(turn))
        scale = width * rng.uniform(0.62, 0.9) / max(seen, 4.0)
        slack = max(width - scale * seen, 0) / 2 - 4
        x = width / 2 + rng.uniform(-slack, slack)
        y = height * min(horizon + rng.uniform(0.2, 0.38), 0.93)
        shift = scale * body.width * np.sin(turn) / 2
        mirrored = bool(rng.random() < 0.5)
        return cls(
            length / 2,
            (x + (shift if mirrored else -shift), y),
            scale,
            mirrored,
            turn,
            rng.uniform(0.06, 0.2),
            rng.uniform(-0.035, 0.035),
        )

    def place(self, points) -> np.ndarray:
        """Project points (x forwards, y up, z away from the near side) to pixels [n, 2]."""
        x, y, z = np.asarray(points, "float64").T
        right = (x - self.middle) * np.cos(self.turn) + z * np.sin(self.turn)
        up = y * np.cos(self.tilt) + z * np.cos(self.turn) * np.sin(self.tilt)
        right, up = self.scale * right * (-1 if self.mirrored else 1), self.scale * up
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        return np.stack(
            [self.centre[0] + cos * right + sin * up, self.centre[1] + sin * right - cos * up], 1
        )

    def fill(self, scene: np.ndarray, points, rgb) -> None:
        """Fill the polygon of some points of the car."""
        pixels = np.rint(self.place(points) * 2**SUBPIXEL).astype(np.int32)
        cv2.fillPoly(scene, [pixels], colour(np.asarray(rgb)), cv2.LINE_AA, SUBPIXEL)

    def line(self, scene: np.ndarray, points, rgb, metres: float) -> None:
        """Draw a line through some points of the car, that many metres wide."""
        pixels = np.rint(self.place(points) * 2**SUBPIXEL).astype(np.int32)
        width = max(1, round(metres * self.scale))
        cv2.polylines(scene, [pixels], False, colour(np.asarray(rgb)), width, cv2.LINE_AA, SUBPIXEL)

    def disc(self, scene: np.ndarray, x: float, y: float, z: float, radius: float, rgb) -> None:
        """Fill a disc that is parallel to the car's side."""
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        rim = [(x + radius * np.cos(a), y + radius * np.sin(a), z) for a in angles]
        self.fill(scene, rim, rgb)


def draw_shadow(scene: np.ndarray, view: View, body: Body) -> None:
    """Darken the ground below the car, softly; worked out at a quarter of the size."""
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
    rng: np.random.Generator, scene: np.ndarray, view: View, body: Body, paint: np.ndarray
) -> None:
    """Draw a car from the far side to the near one."""
    outline = rounded(body.profile)
    for x in body.wheels:
        view.disc(scene, x, body.radius, body.width - 0.15, body.radius, TYRE)
    view.fill(scene, [(x, y, body.width) for x, y in outline], paint * 0.5)
    draw_skin(scene, view, body, outline, paint)
    draw_ends(scene, view, body, paint)
    if body.extra == "open":
        draw_seats(rng, scene, view, body)
    view.fill(scene, [(x, y, 0) for x, y in outline], paint * 0.86)
    draw_side(scene, view, body, outline, paint)
    draw_extra(scene, view, body, paint)
    for x in body.wheels:
        draw_wheel(rng, scene, view, body, x)


def rounded(profile) -> np.ndarray:
    """Cut the corners of an outline twice (Chaikin 1974), keeping its ends: [n, 2]."""
    points = np.array(profile, "float64")
    for _ in range(2):
        near = points[:-1] * 0.82 + points[1:] * 0.18
        far = points[:-1] * 0.18 + points[1:] * 0.82
        middle = np.stack([near, far], 1).reshape(-1, 2)
        points = np.concatenate([points[:1], middle, points[-1:]])
    return points


def draw_skin(scene, view: View, body: Body, outline: np.ndarray, paint: np.ndarray) -> None:
    """Draw the strips from the near outline to the far one: rear, boot, roof, windscreen, bonnet."""
    belt, roof = body.glass[4], body.glass[5]
    strips = list(pairwise(outline))
    # Painter's order: the end that the camera does not see comes first.
    for (x0, y0), (x1, y1) in strips if view.turn > 0 else strips[::-1]:
        slope = abs(np.arctan2(y1 - y0, x1 - x0))
        upright = min(slope, np.pi - slope) / (np.pi / 2)
        corners = [(x0, y0, 0), (x1, y1, 0), (x1, y1, body.width), (x0, y0, body.width)]
        view.fill(scene, corners, paint * (1.18 - 0.5 * upright))
        height = (y0 + y1) / 2
        cargo_rear = body.extra == "cargo" and x1 < 1
        if upright > 0.28 and belt < height < roof and body.extra != "open" and not cargo_rear:
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
    rear, roof_rear, roof_front, front, belt, roof = body.glass
    sill, end = body.profile[0][1], body.profile[-1][0]
    view.fill(
        scene,
        [
            (0.02, sill, 0),
            (0.02, sill + 0.14, 0),
            (end - 0.02, sill + 0.14, 0),
            (end - 0.02, sill, 0),
        ],
        paint * 0.5,
    )
    shoulder = [
        (0.15, belt - 0.09, 0),
        (front, belt - 0.09, 0),
        (end - 0.3, body.profile[-3][1] - 0.1, 0),
    ]
    view.line(scene, shoulder, paint * 1.25 + 14, 0.035)
    frame = [(rear, belt, 0), (roof_rear, roof, 0), (roof_front, roof, 0), (front, belt, 0)]
    if body.extra != "open":
        view.fill(scene, frame, GLASS)
        sheen = 0.45 * (roof_front - roof_rear)
        view.fill(
            scene,
            [(roof_front - sheen, roof, 0), (roof_front - sheen * 0.55, roof, 0),
             (roof_front - sheen * 0.75, belt, 0), (roof_front - sheen * 1.25, belt, 0)],
            GLASS * 1.35,
        )  # fmt: skip
    for x in body.pillars:
        view.line(scene, [(x, belt, 0), (x, roof, 0)], paint * 0.7, 0.07)
    for x in body.doors:
        view.line(scene, [(x, sill + 0.1, 0), (x, belt - 0.02, 0)], paint * 0.55, 0.02)
        view.line(
            scene, [(x - 0.3, belt - 0.16, 0), (x - 0.14, belt - 0.16, 0)], paint * 0.45, 0.04
        )
    view.line(
        scene,
        [(front - 0.12, belt + 0.06, -0.08), (front - 0.02, belt + 0.06, -0.08)],
        paint * 0.6,
        0.14,
    )


def draw_extra(scene, view: View, body: Body, paint: np.ndarray) -> None:
    """Draw what marks one kind of body alone."""
    end = body.profile[-1][0]
    if body.extra == "rails":
        for z in (body.width - 0.15, 0.12):
            view.line(scene, [(0.5, 1.53, z), (2.5, 1.53, z)], (60, 62, 66), 0.05)
    elif body.extra == "spare":
        view.line(scene, [(-0.16, 0.65, body.width / 2), (-0.16, 1.35, body.width / 2)], TYRE, 0.26)
    elif body.extra == "bed":
        inner = [
            (0.1, 1.13, 0.1),
            (1.9, 1.14, 0.1),
            (1.9, 1.14, body.width - 0.1),
            (0.1, 1.13, body.width - 0.1),
        ]
        view.fill(scene, inner, (46, 46, 50))
    elif body.extra == "spoiler":
        wing = [
            (-0.08, 1.08, 0),
            (0.34, 1.04, 0),
            (0.34, 1.04, body.width),
            (-0.08, 1.08, body.width),
        ]
        for z in (0.25, body.width - 0.25):
            view.line(scene, [(0.15, 0.86, z), (0.12, 1.05, z)], paint * 0.5, 0.06)
        view.fill(scene, wing, paint * 1.05)
    elif body.extra == "cargo":
        view.line(scene, [(0.3, 1.25, 0), (2.6, 1.25, 0)], paint * 0.72, 0.05)
    elif body.extra == "open":
        top, foot = (2.28, 1.26), (end - 1.42, 0.92)
        screen = [(*top, 0.05), (*top, body.width), (*foot, body.width), (*foot, 0.05)]
        view.fill(scene, screen, GLASS * 1.7)
        view.line(scene, [*screen, screen[0]], paint * 0.5, 0.05)


def draw_seats(rng: np.random.Generator, scene, view: View, body: Body) -> None:
    """Draw the seats of an open car, which stand out above its doors."""
    hide = np.array((150, 106, 78)) * rng.uniform(0.5, 1.5)
    for z in (body.width - 0.45, 0.45):
        for x in (1.0, 1.75):
            foot = [(x, 0.8, z - 0.25), (x, 0.8, z + 0.25)]
            head = [(x - 0.14, 1.2, z + 0.19), (x - 0.14, 1.2, z - 0.19)]
            view.fill(scene, [*foot, *head] + np.array((-0.13, 0, 0)), hide * 0.6)
            view.line(scene, [(x - 0.2, 1.28, z), (x - 0.19, 1.18, z)], hide * 0.75, 0.17)
            view.fill(scene, [*foot, *head], hide)


def draw_wheel(rng: np.random.Generator, scene, view: View, body: Body, x: float) -> None:
    """Draw a near wheel in its arch: tyre, rim and spokes."""
    radius = body.radius
    view.disc(scene, x, radius + 0.03, 0, radius * 1.16, GAP)
    view.disc(scene, x, radius, 0, radius, TYRE)
    view.disc(scene, x, radius, 0, radius * 0.66, np.array(RIM) * 0.62)
    first = rng.uniform(0, np.pi)
    for angle in first + np.arange(5) * 2 * np.pi / 5:
        tip = (x + 0.6 * radius * np.cos(angle), radius + 0.6 * radius * np.sin(angle), 0)
        view.line(scene, [(x, radius, 0), tip], RIM, 0.07)
    view.disc(scene, x, radius, 0, radius * 0.16, RIM)
