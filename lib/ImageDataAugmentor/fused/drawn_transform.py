"""A transform whose random parameters are drawn, for one picture."""

from dataclasses import dataclass, field

import numpy as np

from .colours import Filter, InPlace
from .warping import Warp


@dataclass
class DrawnTransform:
    """Warps and colour operations with drawn parameters, in order.

    Attributes:
        shape: the shape of the picture after all operations so far.
        operations: objects that are called with a picture and `out`.
    """

    shape: tuple[int, ...]
    operations: list = field(default_factory=list)

    def warp(
        self,
        bordered: bool = False,
        constant: bool = False,
        enlarging: bool = False,
        interpolation: int | None = None,
    ) -> Warp:
        """Return the warp to which the next geometric step is added: the last one if possible.

        A step commutes with the colour operations since the last warp, unless it fills in a
        `constant` colour that they would change. It does not commute with a filter. A step that
        is `enlarging` starts a new warp after colour operations or a border, because these cost
        less on the smaller picture.
        """
        for number in reversed(range(len(self.operations))):
            operation = self.operations[number]
            if isinstance(operation, Warp):
                colours_between = number + 1 < len(self.operations)
                costly = enlarging and (colours_between or operation.border is not None)
                wrong = constant and colours_between
                if operation.takes(bordered, interpolation) and not costly and not wrong:
                    return operation
                break
            if isinstance(operation, Filter):
                break
        warp = Warp(self.shape[:2])
        self.operations.append(warp)
        return warp

    def apply(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return a new picture made of a uint8 one [height, width, 1 or 3].

        The result lies in `out` if that has its shape.
        """
        result, last = image, len(self.operations) - 1
        for number, operation in enumerate(self.operations):
            target = out if number == last else None
            if target is None and isinstance(operation, InPlace) and _is_apart(result, image):
                target = result
            result = operation(result, target)
        return result if _is_apart(result, image) else result.copy()

    def apply_to_mask(self, mask: np.ndarray) -> np.ndarray:
        """Return a new mask after the geometric steps, which do not mix its values."""
        result = mask
        for operation in self.operations:
            if isinstance(operation, Warp):
                result = operation(result, is_mask=True)
        return result if _is_apart(result, mask) else result.copy()


def _is_apart(result: np.ndarray, source: np.ndarray) -> bool:
    """Return whether the two share no memory. The source may lie in a cache."""
    return not np.may_share_memory(result, source)
