"""Calibration: images, histograms of activations, and the ranges quantizers cover."""

from __future__ import annotations

from waveedge.calibration.images import ImageSet, open_images
from waveedge.calibration.observers import Observed, calibrate_activations, observe
from waveedge.calibration.ranges import Histogram, choose_range
from waveedge.calibration.sources import Source

__all__ = [
    "Histogram",
    "ImageSet",
    "Observed",
    "Source",
    "calibrate_activations",
    "choose_range",
    "observe",
    "open_images",
]
