"""Which of a board's rails stand for all that it takes.

A board names one rail for what goes into its module or its carrier board, and others for parts of
that; adding all would count the parts twice. Boards without such a rail have parts alone.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["UNUSED", "total"]

UNUSED = "NC"
"""The name of a channel that is not connected."""

_INPUTS = {
    "VDD_IN": "the input of the module",  # Orin Nano and NX, Xavier NX, TX2, TX1
    "POM_5V_IN": "the input of the carrier board",  # Nano
    "VIN": "the input of the system",  # Thor
}


def total(names: Iterable[str]) -> tuple[list[str], str]:
    """Choose rails that add up to the whole.

    Args:
        names: of all rails that give readings.

    Returns:
        the names of those to add, and what their sum is, for people.
    """
    names = list(names)
    for name, what in _INPUTS.items():
        if name in names:
            return [name], f"{name}, {what}"
    if len(names) == 1:
        return names, names[0]
    return names, f"the sum of the rails {', '.join(names)}"
