"""Exact rewrites: the same numbers from fewer and better operations."""

from __future__ import annotations

from waveedge.compression.costs import CPU, GPU, PROFILES, CostProfile

from .batchnorm import scale_outputs
from .exact import PROBES, exact_form, holding
from .phases import SpaceToPhase
from .pipeline import (
    CONTRACTING,
    REWRITES,
    Judge,
    LeftOut,
    fault_of,
    judged,
    reparameterize,
)
from .pooled import FramePool
from .rewrite import (
    Applied,
    Rewrite,
    Shapes,
    calls,
    concatenated,
    drop,
    fresh_name,
    new_conv,
    only_user,
    source,
)
from .wtconv import BandWise

__all__ = [
    "CONTRACTING",
    "CPU",
    "GPU",
    "PROBES",
    "PROFILES",
    "REWRITES",
    "Applied",
    "BandWise",
    "CostProfile",
    "FramePool",
    "Judge",
    "LeftOut",
    "Rewrite",
    "Shapes",
    "SpaceToPhase",
    "calls",
    "concatenated",
    "drop",
    "exact_form",
    "fault_of",
    "fresh_name",
    "holding",
    "judged",
    "new_conv",
    "only_user",
    "reparameterize",
    "scale_outputs",
    "source",
]
