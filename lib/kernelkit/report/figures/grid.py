"""Draw photos side by side."""

import os
from collections.abc import Sequence

import numpy as np

from kernelkit.report.figures.drawing import lettering, new_figure, save


def photo_grid(images: np.ndarray, titles: Sequence, path: str | os.PathLike, columns: int) -> None:
    """Draw photos in a grid, row by row, each under its title.

    Args:
        images: uint8 [n, height, width, 3], RGB.
        titles: n titles, shortened where they are longer than a photo is wide.
        path: the PNG to write.
        columns: how many photos stand side by side.
    """
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    cell = 10 / columns
    figure = new_figure(10, rows * (cell * height / width + 0.2))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, image, title in zip(panels, images, lettering(titles, int(14 * cell)), strict=False):
        axes.imshow(image, interpolation="antialiased")
        axes.set_title(title, fontsize=8, pad=2)
    save(figure, path)
