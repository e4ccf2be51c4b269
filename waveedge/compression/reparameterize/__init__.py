"""Exact rewrites: the same numbers from fewer and better operations."""

from __future__ import annotations

from .pipeline import REWRITES, reparameterize
from .pooled import FramePool
from .rewrite import Applied, Rewrite, Shapes
from .trace import trace
from .wtconv import BandWise

__all__ = [
    "REWRITES",
    "Applied",
    "BandWise",
    "FramePool",
    "Rewrite",
    "Shapes",
    "reparameterize",
    "trace",
]
