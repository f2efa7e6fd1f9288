"""The drawn competitions: photos of drawn cars, for a dry run without any data (local only)."""

from pathlib import Path

from sample.competition import SAMPLE_CSV, draw_competition
from sample.layouts import LAYOUTS

NOTE = (
    "This was a dry run: a tiny network, pre-trained on drawn vehicles of other kinds, learned ten "
    "kinds of drawn cars. Its accuracy shows that everything works, and nothing about real photos."
)

__all__ = ["LAYOUTS", "NOTE", "draw_competition", "drawn_competition"]


def drawn_competition(folder: Path, seed: int) -> Path:
    """Return `folder` with the drawn competition in it, which is drawn unless it is complete."""
    if not (folder / SAMPLE_CSV).is_file():  # which is written last
        draw_competition(folder, seed=seed)
    return folder
