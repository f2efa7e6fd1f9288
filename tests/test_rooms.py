"""The packages of lib/ import downwards only: none imports the kernel, and there is no circle."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

LIB = Path(__file__).parents[1] / "lib"
ROOMS = {path.parent.name for path in LIB.glob("*/__init__.py")}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the packages that a module imports when it runs, at once or late."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]
        yield from imported(node)


def imports_of(room: str) -> set[str]:
    """Return the packages that a room's modules import."""
    modules = (path.read_text(encoding="utf-8") for path in (LIB / room).rglob("*.py"))
    return {name for module in modules for name in imported(ast.parse(module))}


def test_rooms_import_downwards_only():
    below = {room: imports_of(room) & ROOMS - {room} for room in ROOMS}
    assert {"photos", "settings"} <= below["inference"]  # or nothing would be seen here
    TopologicalSorter(below).prepare()  # raises a CycleError that names the circle
    assert not below["common"]
    assert not below["ImageDataAugmentor"]


def test_no_room_imports_the_kernel():
    assert not [room for room in ROOMS if "kernel" in imports_of(room)]
