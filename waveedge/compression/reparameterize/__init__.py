"""Exact rewrites: the same numbers from fewer and better operations."""

from __future__ import annotations

from .pipeline import REWRITES, reparameterize
from .rewrite import Applied, Rewrite, Shapes
from .trace import trace

__all__ = ["REWRITES", "Applied", "Rewrite", "Shapes", "reparameterize", "trace"]
