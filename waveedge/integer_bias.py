"""The one rule by which biases are rounded to the grid of an integer accumulator.

Compression rounds the biases of torch's layers by it, and export those of the graph, so that both
compute the same numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["IntegerBias", "integer_bias"]

_LIMIT = 2**31
"""A bias of as many steps does not fit int32."""


class IntegerBias(NamedTuple):
    """The bias of one layer, ``integers * steps``.

    Attributes:
        integers: int32, one for each output channel.
        steps: float32, the scale of the input times that of the channel's weights.
    """

    integers: NDArray[np.int32]
    steps: NDArray[np.float32]

    @property
    def floats(self) -> NDArray[np.float32]:
        """The numbers that the runtime will add."""
        numbers: NDArray[np.float32] = self.integers.astype(np.float32) * self.steps
        return numbers


def integer_bias(bias: NDArray[Any], steps: NDArray[Any]) -> IntegerBias | None:
    """Round a bias (channels,) to multiples of ``steps``, one or (channels,).

    Returns:
        None where one of them does not fit int32: then the layer keeps its float bias.
    """
    steps = np.broadcast_to(steps, bias.shape)
    integers = np.rint(bias.astype(np.float64) / steps.astype(np.float64))
    if not np.abs(integers).max(initial=0) < _LIMIT:
        return None
    return IntegerBias(integers.astype(np.int32), steps.astype(np.float32))
