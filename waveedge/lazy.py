"""Names of a package that are resolved on first use, so that importing it costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from waveedge.errors import missing

__all__ = ["attribute", "module"]


def attribute(package: str, homes: Mapping[str, str], name: str) -> Any:
    """What ``package`` calls ``name``.

    Args:
        homes: names -> the modules that have them.

    Raises:
        AttributeError: it has no such name.
        MissingDependencyError: its module needs a library that a device's installation lacks.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(module(homes[name]), name)


def module(name: str) -> ModuleType:
    """A module of waveedge, imported.

    Raises:
        MissingDependencyError: it needs a library that a device's installation lacks.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise missing(error) or error from None
