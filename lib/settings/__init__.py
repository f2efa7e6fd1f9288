"""Make a command line out of a dataclass: every field is an option of its name.

@dataclass(frozen=True)
class Config:
    recipe: str = setting("default", "row of RECIPES to start from")
    batch_size: int = setting(32, "photos in a training step", least=2, most=1024)

config, options = read_settings(parser, {"default": Config()}, ...)
"""

from settings.command_line import read_settings
from settings.members import expand_members
from settings.values import setting, size_text

__all__ = ["expand_members", "read_settings", "setting", "size_text"]
