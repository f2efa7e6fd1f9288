"""Draw the figures of a run; each function writes one PNG.

The functions don't use pyplot: they need no display, and leave the caller's backend and figures as
they are.
"""

from kernelkit.report.figures.charts import class_balance, learning_curves
from kernelkit.report.figures.confusion import confusion_matrix
from kernelkit.report.figures.grid import photo_grid

__all__ = ["class_balance", "confusion_matrix", "learning_curves", "photo_grid"]
