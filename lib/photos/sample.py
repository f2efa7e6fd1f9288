"""A small competition, drawn on the spot."""


def draw_competition(
    folder, train_per_class=24, test_per_class=6, size=(480, 640), seed=0, solution=None
):
    """Draw."""
    raise NotImplementedError
