"""From a Kaggle competition's folder to checked tables of photos.

competition = read_competition(folder, Layout(), scratch)
competition = check_photos(competition, workers=4)
train, validation = split(competition.train, share=0.15, seed=42)
"""

from photos.checking import check_photos
from photos.competition import Competition, Layout, read_competition
from photos.duplicates import conflicting_labels
from photos.errors import Problem
from photos.sample import draw_competition
from photos.splitting import split

__all__ = [
    "Competition",
    "Layout",
    "Problem",
    "check_photos",
    "conflicting_labels",
    "draw_competition",
    "read_competition",
    "split",
]
