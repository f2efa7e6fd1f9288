"""Draw the figures of a run; each function writes one PNG.

The functions don't use pyplot: they need no display, and leave the caller's backend and figures as
they are.
"""

from results.figures.charts import class_balance, learning_curves
from results.figures.confusion import confusion_matrix
from results.figures.grid import photo_grid

__all__ = ["class_balance", "confusion_matrix", "learning_curves", "photo_grid"]
