"""Bounded types of fields that are read from files."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, Field

__all__ = ["Count", "Decibels", "Digest", "Extent", "Finite", "Name", "Share", "Text"]

Name = Annotated[str, Field(min_length=1, max_length=1000)]
"""Of a layer, a tensor, a rule."""

Text = Annotated[str, Field(max_length=10_000)]
"""Words for people."""

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""Of operations, bits, elements."""

Extent = Annotated[int, Field(ge=1, le=2**16)]
"""Of an image: height or width in pixels, channels."""

Share = Annotated[float, Field(ge=0, le=1)]

Finite = Annotated[float, Field(ge=-1e9, le=1e9)]


def _not_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueError("must be a number")
    return value


Decibels = Annotated[float, AfterValidator(_not_nan)]
"""A ratio of powers; infinite where nothing differs."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal."""
