"""The kernel's script as text: its overrides, its declared settings, its block COMPETITION.

It is parsed and never run here. A pushed script carries a mark, by which a push whose answer was
lost is found, and a hash of all that the run depends on, by which another machine knows the run.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kernelkit.core.problem import Problem
from kernelkit.data.layout import Layout

OVERRIDES_BEGIN = "# --- overrides (ship push --set writes here; leave empty) ---\n"
OVERRIDES_END = "# --- end of overrides ---\n"
OVERRIDES_BLOCK = re.compile(
    f"^{re.escape(OVERRIDES_BEGIN)}.*?^{re.escape(OVERRIDES_END)}", re.DOTALL | re.MULTILINE
)
# Prints the name of the container, whose number `ship cancel` needs and no call of the API gives.
PRINT_SESSION = (
    'if __name__ == "__main__" and "KAGGLE_CONTAINER_NAME" in __import__("os").environ:\n'
    '    print("ship: session", __import__("os").environ["KAGGLE_CONTAINER_NAME"], flush=True)\n'
)
MARK = re.compile(
    r"^# ship: (?P<mark>\S+)(?: (?P<key>\S+))?(?: for (?P<dataset>\S+))?$", re.MULTILINE
)
"""A push's mark, its key, and the version of the dataset that it is for, in the script."""

COMPETITION = "COMPETITION"
DECLARING = ("setting", "shared", "session")
"""The functions of a default and a help by which a kernel declares a setting."""


@dataclass(frozen=True)
class Setting:
    """A setting of the kernel: its name, its default as the code has it, and its help."""

    name: str
    default: str
    help: str


def with_overrides(name: str, text: str, settings: Mapping[str, str], mark: str) -> str:
    """Return a script with settings and a mark in its block; Problem unless it has an empty one."""
    if held := overrides_in(text):
        raise Problem(
            f"{name} has settings in its marked block ({' '.join(held)}), which a push would "
            "replace: leave OVERRIDES empty there, and give them with --set FIELD=VALUE."
        )
    lines = [f"    {setting!r}: {value!r},\n" for setting, value in settings.items()]
    overrides = "".join(["{\n", *lines, "}"]) if lines else "{}"
    block = f"{OVERRIDES_BEGIN}# ship: {mark}\nOVERRIDES: dict[str, str] = {overrides}\n"
    block += PRINT_SESSION + OVERRIDES_END
    text, blocks = OVERRIDES_BLOCK.subn(lambda _: block, text)
    if blocks != 1:
        raise Problem(
            f"{name} must hold the marked block of overrides exactly once (it does {blocks} "
            f"times): `{OVERRIDES_BEGIN.strip()}`, the assignment of OVERRIDES, "
            f"`{OVERRIDES_END.strip()}`."
        )
    return text


def overrides_in(text: str) -> dict[str, str]:
    """Return the settings in the marked block of a script, {} when it has none."""
    block = text.partition(OVERRIDES_BEGIN)[2].partition(OVERRIDES_END)[0]
    node = _assignment(block, "OVERRIDES")
    try:
        values = dict(ast.literal_eval(node.value)) if node else {}
    except (ValueError, TypeError, MemoryError, RecursionError):
        return {}
    return {str(name): str(value) for name, value in values.items()}


def declared_settings(text: str) -> list[Setting]:
    """Return the settings that class Config declares with a call of DECLARING, [] without it."""
    classes = [node for node in _parsed(text).body if isinstance(node, ast.ClassDef)]
    found = []
    for field in (field for node in classes if node.name == "Config" for field in node.body):
        call = field.value if isinstance(field, ast.AnnAssign) else None
        if isinstance(call, ast.Call) and ast.unparse(call.func) in DECLARING:
            default, help = map(ast.unparse, call.args[:2])
            found.append(Setting(field.target.id, default, ast.literal_eval(help)))
    return found


def read_block(script: Path) -> Layout:
    """Return the block of a kernel; Problem unless it is a plain `Layout(name=value, ...)`."""
    text = script.read_text(encoding="utf-8-sig")
    node = _assignment(text, COMPETITION)
    try:
        fields = {part.arg: ast.literal_eval(part.value) for part in node.value.keywords}
        return Layout(**fields)
    except (AttributeError, ValueError, TypeError) as error:
        reason = error if node else syntax_error(text) or "there is none"
        raise Problem(
            f"{script.name}'s block {COMPETITION} can't be read ({reason}): write "
            f"{COMPETITION} = Layout(name=value, ...)."
        ) from None


def with_block(script: Path, layout: Layout) -> str:
    """Return a kernel's text with another block; Problem where it has none."""
    text = script.read_text(encoding="utf-8-sig")
    node = _assignment(text, COMPETITION)
    if node is None:
        raise Problem(f"{script.name} has no block `{COMPETITION} = Layout(...)` to replace.")
    lines = text.splitlines(keepends=True)
    return "".join([*lines[: node.lineno - 1], layout.block(), "\n", *lines[node.end_lineno :]])


def syntax_error(text: str | bytes) -> str:
    """Return why a script does not compile, "" when it does."""
    try:
        ast.parse(text)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except ValueError as error:  # a zero byte
        return str(error)
    return ""


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return ast.Module([], [])


def _assignment(text: str, name: str) -> ast.Assign | ast.AnnAssign | None:
    for node in _parsed(text).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if [ast.unparse(target) for target in targets] == [name]:
                return node
    return None
