"""The shapes of the ten kinds of cars that a drawn competition tells apart."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Body:
    """The shape of one kind of car in metres; x runs from rear to front, y from the ground up."""

    # Points (x, y) of the side's outline over rear, roof and front; both ends lie at the sill.
    profile: tuple[tuple[float, float], ...]
    # The side windows: x of their lower rear, upper rear, upper front and lower front corner, then
    # y of their lower and upper edge.
    glass: tuple[float, float, float, float, float, float]
    pillars: tuple[float, ...]  # x of the pillars that divide the side windows
    doors: tuple[float, ...]  # x of the gaps between the doors
    wheels: tuple[float, ...]  # x of the axles
    radius: float = 0.31  # the radius of the wheels
    width: float = 1.65  # the distance between the two sides
    open: bool = False  # whether it has seats in the open instead of a roof and side windows
    rear_window: bool = True  # whether there is a window in the rear
    white_roof: bool = False  # whether the roof is white, whatever the paint
    white_walls: bool = False  # whether the tyres have white sides


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
    ),
    "off-roader": Body(
        ((0, 0.5), (0, 1.2), (0.08, 1.75), (0.2, 1.82), (2.15, 1.84), (2.55, 1.24), (3.55, 1.18),
         (3.7, 1.05), (3.72, 0.5)),
        (0.2, 0.28, 2.1, 2.4, 1.2, 1.72), (1.2,), (1.25, 2.42), (0.75, 2.98), 0.4, 1.7,
    ),
    "pickup": Body(
        ((0, 0.5), (0, 1.12), (1.95, 1.13), (2.08, 1.66), (2.25, 1.76), (3.25, 1.78), (3.85, 1.18),
         (4.95, 1.08), (5.17, 0.9), (5.2, 0.5)),
        (2.2, 2.3, 3.2, 3.6, 1.14, 1.66), (2.9,), (2.15, 2.9, 3.62), (1.05, 4.3), 0.39, 1.8,
    ),
    "van": Body(
        ((0, 0.35), (0, 1.95), (0.14, 2.2), (3.55, 2.24), (4.3, 1.32), (4.85, 1.1), (4.98, 0.85),
         (5.0, 0.35)),
        (2.9, 2.9, 3.5, 4.05, 1.3, 1.98), (), (1.7, 2.8, 3.95), (0.95, 4.1), 0.34, 1.9,
        rear_window=False,
    ),
    "coupe": Body(
        ((0, 0.24), (0, 0.72), (0.14, 0.86), (0.5, 0.89), (1.35, 1.2), (2.1, 1.23), (3.0, 0.84),
         (3.95, 0.68), (4.27, 0.5), (4.3, 0.24)),
        (0.95, 1.38, 2.05, 2.72, 0.86, 1.15), (1.4,), (1.4, 2.66), (0.85, 3.42), 0.33, 1.75,
    ),
    "cabriolet": Body(
        ((0, 0.28), (0, 0.76), (0.12, 0.9), (0.9, 0.94), (1.3, 0.9), (2.75, 0.9), (3.9, 0.76),
         (4.13, 0.6), (4.15, 0.28)),
        (2.15, 2.2, 2.2, 2.75, 0.9, 1.28), (), (1.45, 2.62), (0.82, 3.3), open=True,
    ),
    "microcar": Body(
        ((0, 0.3), (0, 0.85), (0.1, 1.2), (0.4, 1.52), (1.3, 1.56), (1.95, 1.05), (2.35, 0.92),
         (2.55, 0.7), (2.58, 0.3)),
        (0.4, 0.55, 1.28, 1.75, 1.0, 1.45), (0.72,), (0.72, 1.72), (0.45, 2.1), 0.28, 1.5,
        white_roof=True,
    ),
    "limousine": Body(
        ((0, 0.3), (0, 0.82), (0.1, 0.98), (0.85, 1.02), (1.3, 1.42), (4.65, 1.45), (5.35, 1.0),
         (6.45, 0.88), (6.77, 0.68), (6.8, 0.3)),
        (1.02, 1.38, 4.6, 5.12, 0.97, 1.36), (1.95, 2.85, 3.9), (1.15, 1.95, 3.9, 5.0), (0.88, 5.8),
        0.33, 1.8, white_walls=True,
    ),
}  # fmt: skip
