"""The targets of export. Each module here is one; its ``TARGET`` says all about it."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from waveedge.errors import RecipeError
from waveedge.export.target import Target

__all__ = ["TARGETS", "find_target"]


def _load(module: str) -> Target:
    target: Target = import_module(f"{__name__}.{module}").TARGET
    return target


TARGETS: dict[str, Target] = {
    target.name: target
    for target in map(_load, sorted(module.name for module in pkgutil.iter_modules(__path__)))
}
"""By name, as on the command line."""


def find_target(name: str) -> Target:
    """The target of that name, ready to export for.

    Raises:
        RecipeError: there is none.
        MissingDependencyError: what it needs on this machine is not installed.
    """
    if name not in TARGETS:
        raise RecipeError(
            f"the target {name!r} is unknown", hint=f"Known targets: {', '.join(TARGETS)}."
        )
    TARGETS[name].require()
    return TARGETS[name]
