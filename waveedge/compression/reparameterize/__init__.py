"""Exact rewrites: the same numbers from fewer and better operations."""

from __future__ import annotations

from .batchnorm import scale_outputs
from .pipeline import REWRITES, Judge, LeftOut, judged, reparameterize
from .pooled import FramePool
from .rewrite import Applied, Rewrite, Shapes
from .wtconv import BandWise

__all__ = [
    "REWRITES",
    "Applied",
    "BandWise",
    "FramePool",
    "Judge",
    "LeftOut",
    "Rewrite",
    "Shapes",
    "judged",
    "reparameterize",
    "scale_outputs",
]
