"""The drawn competitions: photos of drawn cars, for a dry run without any data (local only)."""

from common import import_lazily

NOTE = (
    "This is a dry run: a tiny network, pre-trained on drawn vehicles of other kinds, learns ten "
    "kinds of drawn cars. Its accuracy shows that everything works, and nothing about real photos."
)
MODULES = {
    "LAYOUTS": "layouts",
    "draw_competition": "competition",
    "drawn_competition": "competition",
}

__all__ = [*MODULES, "NOTE"]
__getattr__ = import_lazily(__name__, MODULES)  # drawing needs OpenCV
