"""The kernel's block COMPETITION, read from its text and replaced in it."""

import ast
from pathlib import Path

from kernelkit.core.problem import Problem
from kernelkit.data.layout import Layout

NAME = "COMPETITION"
# Kernels that declare no block: the home competition's.
HOME = Layout(
    sample_csv="sample-submission.csv",
    train_csv="train.csv",
    train_photos=("train", "train.zip"),
    test_photos=("test_upload", "test.zip"),
)


def block_node(text: str) -> ast.Assign | None:
    """Return the assignment of the block in a script, None where it has none."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            named = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if named == [NAME]:
                return node
    return None


def has_block(script: Path) -> bool:
    """Tell whether a kernel declares a block."""
    return block_node(script.read_text(encoding="utf-8")) is not None


def read_block(script: Path) -> Layout:
    """Return the block of a kernel; that of the home competition where it has none.

    Raises:
        Problem: the block is no plain `Layout(name=value, ...)`.
    """
    node = block_node(script.read_text(encoding="utf-8"))
    if node is None:
        return HOME
    try:
        fields = {part.arg: ast.literal_eval(part.value) for part in node.value.keywords}
        return Layout(**fields)
    except (ValueError, TypeError) as error:
        raise Problem(
            f"{script.name}'s block {NAME} can't be read ({error}): write Layout(name=value, ...)."
        ) from None


def with_block(script: Path, layout: Layout) -> str:
    """Return a kernel's text with another block.

    Raises:
        Problem: it has none.
    """
    text = script.read_text(encoding="utf-8")
    node = block_node(text)
    if node is None:
        raise Problem(f"{script.name} has no block `{NAME} = Layout(...)` to replace.")
    lines = text.splitlines(keepends=True)
    return "".join([*lines[: node.lineno - 1], layout.block(), "\n", *lines[node.end_lineno :]])
