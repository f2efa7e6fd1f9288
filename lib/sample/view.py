"""The camera of a drawn photo, and drawing what it sees."""

from dataclasses import dataclass

import cv2
import numpy as np

from sample.bodies import Body
from sample.scenes import colour

GLASS = np.array((62, 76, 90))
TYRE = (30, 30, 32)
SUBPIXEL = 4  # OpenCV's fixed point: coordinates in sixteenths of a pixel


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
