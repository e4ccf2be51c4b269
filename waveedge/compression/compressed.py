"""What compression makes of a network, and all that is known of how."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import fx, nn

from waveedge.compression.recipe import Recipe
from waveedge.compression.report import CompressionReport
from waveedge.compression.wavelet import LayerDecision
from waveedge.sizes import Sizes
from waveedge.spec import ModelSpec

__all__ = ["Compressed"]


@dataclass
class Compressed:
    """A compressed network with all that is needed to save, export and explain it.

    Attributes:
        graph: the network that runs in torch, in eval mode; carries ``spec``.
        spec: what the network is.
        recipe: what was asked for.
        decisions: what WCC did to every layer of the published network.
        sizes: which (height, width) in pixels the network takes, and which it was calibrated at.
        source_sha256: hash of the checkpoint file; empty for a network made in memory.
        source_name: name of the checkpoint file, or the way to it from the artifact's folder;
            empty likewise.
        calibration_sha256: fingerprint of the calibration images.
        report: what compression did, measured on held-out images.
        original: the user's network, which an export is compared with; not saved. Set it to
            export a loaded artifact whose checkpoint is gone, or is of a network of your own.
        path: the file that this was loaded from; None where it was made in memory.
    """

    graph: fx.GraphModule = field(repr=False)
    spec: ModelSpec
    recipe: Recipe
    decisions: list[LayerDecision] = field(repr=False)
    sizes: Sizes
    source_sha256: str
    source_name: str
    calibration_sha256: str
    report: CompressionReport = field(repr=False)
    original: nn.Module | None = field(default=None, repr=False)
    path: Path | None = None

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels that calibration ran at."""
        return self.sizes.calibrated

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Run the network on ``x`` (N, C, H, W) without gradients."""
        with torch.no_grad():
            output: torch.Tensor = self.graph(x)
        return output
