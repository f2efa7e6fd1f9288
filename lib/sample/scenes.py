"""Draw where a car stands (sky, ground, background), and the camera that sees car and scene."""

from dataclasses import dataclass

import cv2
import numpy as np

from sample.bodies import Body

# Colours are RGB, 0 to 255. Each sky runs from the zenith to the horizon.
SKIES = (
    ((92, 146, 205), (205, 224, 240)),
    ((150, 165, 180), (214, 218, 222)),
    ((70, 95, 150), (240, 190, 150)),
    ((120, 170, 220), (245, 240, 225)),
)
GROUNDS = (
    (118, 118, 122),
    (140, 136, 128),
    (98, 128, 76),
    (222, 226, 232),
    (176, 158, 126),
    (88, 88, 94),
)

GLASS = np.array((62, 76, 90))
TYRE = (30, 30, 32)
SUBPIXEL = 4  # OpenCV's fixed point: coordinates in sixteenths of a pixel


def draw_scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Draw a scene without a car.

    Returns:
        uint8 [height, width, 3] RGB, and the horizon's distance from the top as a fraction of the
        height.
    """
    height = size[0]
    horizon = rng.uniform(0.36, 0.56)
    top, bottom = (np.array(colour, "float32") for colour in SKIES[rng.integers(len(SKIES))])
    ground = np.array(GROUNDS[rng.integers(len(GROUNDS))], "float32") * rng.uniform(0.8, 1.1)
    y = np.linspace(0, 1, height, dtype="float32")[:, None]
    sky = top + (bottom - top) * np.minimum(y / horizon, 1)
    floor = ground * (0.82 + 0.3 * (y - horizon) / (1 - horizon))
    column = np.where(y < horizon, sky, floor).astype("float32")[:, None]
    plain = cv2.resize(column, size[::-1], interpolation=cv2.INTER_NEAREST)
    scene = cv2.add(plain, mottle(rng, size), dtype=cv2.CV_8U)
    behind = (draw_buildings, draw_trees, draw_wall, draw_hills)
    behind[rng.integers(len(behind))](rng, scene, round(horizon * height))
    if np.ptp(ground) < 16 and rng.random() < 0.7:  # paved
        draw_markings(rng, scene, round(horizon * height))
    return scene, horizon


def mottle(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return soft spots, float32 [h, w, 3] around 0, that make a sky cloudy and a ground worn."""
    height, width = size
    grain = rng.normal(0, 5, (height // 8, width // 8)).astype("float32")
    spots = rng.normal(0, 9, (7, 9)).astype("float32")
    spots = cv2.resize(spots, grain.shape[::-1], interpolation=cv2.INTER_CUBIC) + grain
    return cv2.resize(cv2.merge([spots] * 3), (width, height), interpolation=cv2.INTER_LINEAR)


def draw_buildings(rng: np.random.Generator, scene: np.ndarray, horizon: int) -> None:
    """Draw a row of houses with lit and dark windows."""
    x = -int(rng.integers(60))
    while x < scene.shape[1]:
        width = int(rng.integers(70, 170))
        top = horizon - int(rng.integers(50, 190))
        wall = rng.uniform(0.55, 1.0) * np.array((196, 184, 170)) * rng.uniform(0.85, 1.1, 3)
        cv2.rectangle(scene, (x, top), (x + width, horizon), colour(wall), -1)
        pane = int(rng.integers(9, 15))
        for row in range(top + 10, horizon - pane - 6, 2 * pane):
            for left in range(x + 9, x + width - pane, 2 * pane):
                glass = (70, 84, 98) if rng.random() < 0.8 else (230, 214, 160)
                cv2.rectangle(scene, (left, row), (left + pane - 2, row + pane), glass, -1)
        x += width + int(rng.integers(0, 30))


def draw_trees(rng: np.random.Generator, scene: np.ndarray, horizon: int) -> None:
    """Draw a hedge of round tree tops, darker below."""
    green = np.array((70, 104, 58)) * rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3)
    for _ in range(int(rng.integers(16, 40))):
        x, radius = int(rng.integers(scene.shape[1])), int(rng.integers(18, 62))
        y = horizon - int(rng.integers(0, 75))
        cv2.circle(scene, (x, y), radius, colour(green * rng.uniform(0.75, 1.2)), -1, cv2.LINE_AA)
    floor = scene[horizon + 12, 4].tolist()
    scene[horizon : horizon + 62] = floor


def draw_wall(rng: np.random.Generator, scene: np.ndarray, horizon: int) -> None:
    """Draw a wall of bricks or planks."""
    top = horizon - int(rng.integers(70, 200))
    wall = np.array((164, 120, 98)) * rng.uniform(0.6, 1.25) * rng.uniform(0.85, 1.15, 3)
    cv2.rectangle(scene, (0, top), (scene.shape[1], horizon), colour(wall), -1)
    step, joint = int(rng.integers(12, 26)), colour(wall * 0.82)
    for row, y in enumerate(range(top, horizon, step)):
        cv2.line(scene, (0, y), (scene.shape[1], y), joint, 1)
        for x in range(-step * (row % 2), scene.shape[1], step * 2):
            cv2.line(scene, (x, y), (x, min(y + step, horizon)), joint, 1)


def draw_hills(rng: np.random.Generator, scene: np.ndarray, horizon: int) -> None:
    """Draw two ranges of hills, the farther one paler."""
    x = np.arange(0, scene.shape[1] + 16, 16)
    for haze in (0.55, 0.2):
        wave = sum(
            rng.uniform(8, 34) * np.sin(x / rng.uniform(50, 160) + rng.uniform(0, 6)) for _ in "ab"
        )
        y = np.minimum(horizon - rng.uniform(30, 60) * (0.6 + haze) + wave, horizon)
        slope = np.array((84, 112, 84)) * (1 - haze) + np.array((190, 200, 212)) * haze
        ridge = np.stack([x, y], 1).tolist()
        outline = np.int32([*ridge, (scene.shape[1] + 16, horizon), (0, horizon)])
        cv2.fillPoly(scene, [outline], colour(slope), cv2.LINE_AA)


def draw_markings(rng: np.random.Generator, scene: np.ndarray, horizon: int) -> None:
    """Draw the lines of a parking place, which meet at a point on the horizon."""
    vanishing = int(rng.integers(scene.shape[1]))
    paint = colour(np.array((214, 212, 204)) * rng.uniform(0.85, 1.1))
    for x in range(
        int(rng.integers(-300, -100)), scene.shape[1] + 300, int(rng.integers(150, 280))
    ):
        start = (x + (vanishing - x) // 3, horizon + (scene.shape[0] - horizon) // 3)
        cv2.line(scene, start, (x, scene.shape[0]), paint, 3, cv2.LINE_AA)


def develop(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Return a photo of a scene, uint8 [h, w, 3], with tinted and uneven light, blur and noise."""
    height, width = scene.shape[:2]
    exposure, warmth = rng.uniform(0.72, 1.18), rng.uniform(-0.07, 0.07)
    light = exposure * np.array((1 + warmth, 1, 1 - warmth))
    light = (light * rng.uniform(0.82, 1.12, (2, 2, 1))).astype("float32")
    light = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)
    noise = rng.standard_normal((height, width), dtype="float32") * np.float32(rng.uniform(1, 6))
    blur = rng.uniform(0, 1.2)
    if blur > 0.5:
        scene = cv2.GaussianBlur(scene, (0, 0), blur)
    photo = cv2.multiply(scene, light, dtype=cv2.CV_8U)
    return cv2.add(photo, cv2.merge([noise] * 3), dtype=cv2.CV_8U)


def colour(rgb: np.ndarray) -> tuple[int, ...]:
    """Return an RGB colour as OpenCV takes it: whole numbers in 0..255."""
    return tuple(int(value) for value in np.clip(rgb, 0, 255))


@dataclass(frozen=True)
class View:
    """A distant camera with parallel rays, which maps points of the car (in metres) to pixels."""

    middle: float  # x of the point of the car, in metres, that lies at `centre`
    # The pixel of that point on the ground, on the near side of the car.
    centre: tuple[float, float]
    scale: float  # pixels in a metre
    mirrored: bool  # whether the car looks to the left instead of the right
    turn: float  # how far the car is turned, in radians: its front shows above 0, its rear below
    tilt: float  # how far the camera looks down, in radians
    roll: float  # how far the camera is held at a slant, in radians

    @classmethod
    def draw(cls, rng: np.random.Generator, body: Body, size: tuple[int, int], horizon: float):
        """Return a random view that holds the whole car; `horizon` is a fraction of the height."""
        height, width = size
        length = body.profile[-1][0]
        turn = rng.uniform(0.1, 0.62) * rng.choice([-1, 1])
        seen = length * np.cos(turn) + body.width * abs(np.sin(turn))
        scale = width * rng.uniform(0.7, 0.92) / max(seen, 3.8)
        slack = max(width - scale * seen, 0) / 2 - 4
        x = width / 2 + rng.uniform(-slack, slack)
        top = scale * (max(y for _, y in body.profile) + 0.7)
        y = max(height * min(horizon + rng.uniform(0.2, 0.38), 0.93), min(top, 0.95 * height))
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
        """Draw a line, `metres` wide, through some points of the car."""
        pixels = np.rint(self.place(points) * 2**SUBPIXEL).astype(np.int32)
        width = max(1, round(metres * self.scale))
        cv2.polylines(scene, [pixels], False, colour(np.asarray(rgb)), width, cv2.LINE_AA, SUBPIXEL)

    def disc(self, scene: np.ndarray, x: float, y: float, z: float, radius: float, rgb) -> None:
        """Fill a disc that is parallel to the car's side."""
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        rim = [(x + radius * np.cos(a), y + radius * np.sin(a), z) for a in angles]
        self.fill(scene, rim, rgb)
