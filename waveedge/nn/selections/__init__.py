"""The selections of WCC. Each module here is one; its ``SELECTION`` is the layer."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from waveedge.errors import RecipeError
from waveedge.nn.selection import Selection

__all__ = ["SELECTIONS", "find_selection"]


def _load(module: str) -> type[Selection]:
    layer: type[Selection] = import_module(f"{__name__}.{module}").SELECTION
    return layer


SELECTIONS: dict[str, type[Selection]] = {
    layer.selection: layer
    for layer in map(_load, sorted(module.name for module in pkgutil.iter_modules(__path__)))
}
"""By name, as in recipes."""


def find_selection(name: str) -> type[Selection]:
    """The selection of that name.

    Raises:
        RecipeError: there is none.
    """
    if name not in SELECTIONS:
        raise RecipeError(
            f"the WCC selection {name!r} is unknown",
            hint=f"Known selections: static, {', '.join(SELECTIONS)}.",
        )
    return SELECTIONS[name]
