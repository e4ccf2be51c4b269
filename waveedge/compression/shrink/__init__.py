"""Fewer channels where few would do: structural compression in closed form, before any rounding."""

from __future__ import annotations

from .pairs import find_pairs
from .search import output_error
from .shrink import Shrunk, SmallerForm, shrink
from .static import drop_unread, select_inputs

__all__ = [
    "Shrunk",
    "SmallerForm",
    "drop_unread",
    "find_pairs",
    "output_error",
    "select_inputs",
    "shrink",
]
