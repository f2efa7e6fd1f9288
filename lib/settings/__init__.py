"""Make a command line out of a dataclass: every field is an option of its name.

@dataclass(frozen=True)
class Config:
    recipe: str = setting("default", "row of RECIPES to start from")
    batch_size: int = setting(32, "photos in a training step", least=2, most=1024)

config, options = read_settings(parser, {"default": Config()}, ...)
members = members_of(resolved(config, backbones), recipes, shared, backbones)
"""

from settings.command_line import Parser, make_parser, read_settings
from settings.members import decisive, expand_members, members_of
from settings.resolving import at_own_batch, at_own_rate, at_scale, resolved
from settings.showing import show_config
from settings.values import setting, size_text

__all__ = [
    "Parser",
    "at_own_batch",
    "at_own_rate",
    "at_scale",
    "decisive",
    "expand_members",
    "make_parser",
    "members_of",
    "read_settings",
    "resolved",
    "setting",
    "show_config",
    "size_text",
]
