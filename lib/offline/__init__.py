"""Do without internet: use packages and weights that are mounted as datasets.

This package imports nothing that the mounted wheels may have to bring first.
"""

from offline.mounts import find_mounted
from offline.weights import find_weights
from offline.wheels import ensure_albumentations

__all__ = ["ensure_albumentations", "find_mounted", "find_weights"]
