"""The drawn competition: photos of drawn cars, for a dry run without any data (local only)."""

from sample.competition import draw_competition

__all__ = ["draw_competition"]
