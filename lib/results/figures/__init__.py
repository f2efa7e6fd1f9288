"""Pictures of a run, drawn from its saved results alone: each function writes one PNG.

They draw on figures of their own, without pyplot: the caller's backend and figures stay as they
are, and no display is needed.
"""

from results.figures.charts import class_balance, learning_curves
from results.figures.confusion import confusion_matrix
from results.figures.grid import photo_grid

__all__ = ["class_balance", "confusion_matrix", "learning_curves", "photo_grid"]
