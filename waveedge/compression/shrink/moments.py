"""Second moments of what layers read and write, over images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

__all__ = ["Moments", "observe_moments", "step_power"]

_BITS = 8
_POSITIONS = 4096
"""Of one image, that are looked at; a regular sample of them where it has more."""


class Moments(NamedTuple):
    """Of the channels of a value.

    Attributes:
        second: (channels, channels) float64, the mean of x x^T over positions and images.
        mean: (channels,) float64.
        peak: (channels,) float64, the largest magnitude.
        positions: of one image.
    """

    second: Tensor
    mean: Tensor
    peak: Tensor
    positions: int

    @property
    def covariance(self) -> Tensor:
        """(channels, channels) float64."""
        return self.second - torch.outer(self.mean, self.mean)


def step_power(peak: float) -> float:
    """The mean squared error of rounding values of up to ``peak`` to a grid of 8 bits.

    Of 8, whatever will be asked for: what fewer bits cost more, weights that are refitted to
    rounded inputs make up for best where channels were not chosen for fear of it.
    """
    step = 2 * peak / float(1 << _BITS)
    return step * step / 12


@torch.no_grad()
def observe_moments(
    graph: fx.GraphModule,
    values: dict[fx.Node, int],
    images: Sequence[NDArray[np.float32]],
) -> dict[fx.Node, Moments]:
    """Run a network on images, and take the moments of some of its values.

    Args:
        values: where their channels are: the dimension.
        images: (1, C, H, W) float32.
    """
    seconds: dict[fx.Node, Tensor] = {}
    means: dict[fx.Node, Tensor] = {}
    peaks: dict[fx.Node, Tensor] = {}
    positions: dict[fx.Node, int] = {}

    class Observer(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n in values:
                rows = result.movedim(values[n], -1).flatten(0, -2)
                positions[n] = len(rows) // len(result)
                # An odd step visits every column of a map whose width is a power of two.
                rows = rows[:: len(rows) // _POSITIONS | 1].double()
                seconds[n] = seconds.get(n, 0) + rows.T @ rows / (len(rows) * len(images))
                means[n] = means.get(n, 0) + rows.mean(0) / len(images)
                peak = rows.abs().amax(0)
                peaks[n] = torch.maximum(peaks.get(n, peak), peak)
            return result

    like = next(graph.parameters())
    for image in images:
        Observer(graph).run(torch.from_numpy(image).to(like))
    return {
        node: Moments(seconds[node], means[node], peaks[node], positions[node]) for node in seconds
    }
