"""The packages of lib/ import downwards only: none imports the kernel, and there is no circle."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

LIB = Path(__file__).parents[1] / "lib"
ROOMS = {
    ".".join(path.parent.relative_to(LIB).parts)
    for path in [*LIB.glob("*/__init__.py"), *LIB.glob("kernelkit/*/__init__.py")]
} - {"kernelkit"}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the modules that a module imports, at once, late or for its types alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(room: str) -> set[str]:
    """Return the rooms and top-level packages that a room's modules import."""
    modules = (path.read_text("utf-8") for path in (LIB / room.replace(".", "/")).rglob("*.py"))
    names = {name for module in modules for name in imported(ast.parse(module))}
    return {".".join(name.split(".")[:2]) for name in names} | {
        name.split(".")[0] for name in names
    }


def test_rooms_import_downwards_only():
    below = {room: imports_of(room) & ROOMS - {room} for room in ROOMS}
    assert {"kernelkit.data", "kernelkit.train"} <= below["kernelkit.predict"]
    TopologicalSorter(below).prepare()  # raises a CycleError that names the circle
    assert not below["kernelkit.core"]
    assert not below["ImageDataAugmentor"]


def test_the_judge_shares_no_code_with_the_judged():
    assert imports_of("loopback") & ROOMS <= {"loopback", "kernelkit.core"}


def test_no_room_imports_the_kernel():
    assert not [room for room in ROOMS if "kernel" in imports_of(room)]
