"""Packages that import their modules when they are needed: some are slow to import."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def import_lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's `__getattr__`, which imports a name's module when it is first used.

    Args:
        package: the package's `__name__`.
        modules: for each name that the package offers, the module that defines it.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return get
