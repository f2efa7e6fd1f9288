"""FancyPCA twice: as albumentations 1.2 meant it, and albumentations 2's at a fraction of its cost.

Both shift a photo's colours along their principal components, as Krizhevsky et al. 2012 do.
"""

import albumentations as A
import cv2
import numpy as np

_SAMPLE = 42  # so many rows and columns tell the components well enough
_COVARIANCE = cv2.COVAR_NORMAL | cv2.COVAR_ROWS | cv2.COVAR_SCALE


class FancyPCA(A.ImageOnlyTransform):
    """The formula of albumentations 1.2, which 2 replaced by another.

    One Gaussian factor of spread `alpha` moves every pixel by the same colour. For uint8 pictures
    [height, width, 3].
    """

    def __init__(self, alpha: float = 0.1, p: float = 0.5):
        super().__init__(p=p)
        self.alpha = alpha

    def get_params(self) -> dict:
        """Draw the factor."""
        return {"factor": self.py_random.gauss(0, self.alpha)}

    def apply(self, img: np.ndarray, factor: float, **params) -> np.ndarray:
        """Shift uint8 [height, width, 3] by one colour, saturating."""
        variances, vectors, _ = _components(img)
        return cv2.add(img, (*(255 * factor * vectors @ variances), 0))


class QuickFancyPCA(A.FancyPCA):
    """Albumentations 2's FancyPCA from a sample of the pixels: the same but for rounding.

    The original decomposes all of them, for 7 to 11 ms a picture. A value differs by one of 255
    at most with its default alpha (a tenth), rarely by two.
    """

    def apply(self, img: np.ndarray, alpha_vector: np.ndarray, **params) -> np.ndarray:
        """Transform a picture; one that is not uint8 [height, width, 3] as the original does."""
        if img.dtype != np.uint8 or img.shape[2:] != (3,):
            return super().apply(img, alpha_vector, **params)
        return scale_components(img, alpha_vector)


def quicken(transform) -> None:
    """Turn each of albumentations' FancyPCAs in a Compose, or any transform, into ours."""
    if type(transform) is A.FancyPCA:
        transform.__class__ = QuickFancyPCA
        # It has bound its methods to the targets' names.
        transform._key2func = {
            key: transform.targets[transform._additional_targets.get(key, key)]
            for key in transform._key2func
        }
    for part in getattr(transform, "transforms", ()):
        quicken(part)


def scale_components(img: np.ndarray, alpha_vector: np.ndarray) -> np.ndarray:
    """Albumentations 2's formula: each component's deviation, scaled by alpha and its variance.

    For uint8 [height, width, channels]; alpha_vector is [channels], largest component first.
    """
    variances, vectors, mean = _components(img)
    scaled = vectors[:, ::-1] * (alpha_vector * variances[::-1])
    matrix = np.column_stack([np.eye(len(scaled)) + scaled, -scaled @ mean])
    return cv2.transform(img, matrix).reshape(img.shape)


def _components(img: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variances of 0..1 colours (ascending), their directions in columns, the mean of 0..255."""
    rows, columns = (max(1, size // _SAMPLE) for size in img.shape[:2])
    sample = img[::rows, ::columns].reshape(-1, img.shape[2])
    # Not numpy's, whose BLAS would start threads of its own for three columns.
    covariance, mean = cv2.calcCovarMatrix(sample, None, _COVARIANCE, ctype=cv2.CV_64F)
    return *np.linalg.eigh(covariance / 255**2), mean.ravel()
