"""The user's network, run untouched: what every later stage is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waveedge.normalise import check_inputs, detached_copy, flat_outputs
from waveedge.normalise.capture import float_dtype
from waveedge.sanity import check_network, is_finite

__all__ = ["FLOAT_ERROR", "Reference", "relative_error", "run"]

FLOAT_ERROR = 1e-4
"""Largest error of an exact form, relative to the largest output: another order of additions."""

_KEPT_BYTES = 2**28
"""Outputs that are kept; beyond that, the network runs again."""


class Reference:
    """A network as the user has it, and its outputs on images.

    Args:
        model: the user's network; a copy of it runs, in eval mode.
        images: float32 (1, C, H, W), preprocessed.
        names: what messages call the images; their numbers where none are given.

    Raises:
        InputError: the network takes more than an image, fails on one, gives NaN, or differs from
            run to run.

    Attributes:
        network: the copy.
        images: the images.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Sequence[NDArray[np.float32]],
        names: Sequence[str] = (),
    ) -> None:
        check_inputs(model)
        self.network = detached_copy(model)
        self.images = list(images)
        self._outputs: dict[int, list[Tensor]] = {}
        self._room = _KEPT_BYTES
        count = len(self.images)
        self._names = list(names) or [f"image {index + 1} of {count}" for index in range(count)]
        self._check(0)

    def outputs(self, index: int) -> list[Tensor]:
        """What the network yields for image ``index``: its tensors, in order."""
        if index in self._outputs:
            return self._outputs[index]
        found = run(self.network, self.images[index])
        if not is_finite(found):
            self._check(index)  # names the layer
        size = sum(tensor.numel() * tensor.element_size() for tensor in found)
        if size <= self._room:
            self._room -= size
            self._outputs[index] = found
        return found

    def _check(self, index: int) -> None:
        check_network(
            self.network,
            [_as_input(self.network, self.images[index])],
            self._names[index : index + 1],
        )

    def error(self, candidate: Callable[[Tensor], object], images: int | None = None) -> float:
        """The worst relative error of ``candidate`` over every output and the first images.

        Args:
            candidate: a form of the network.
            images: how many to look at; all where None.
        """
        worst = 0.0
        for index in range(len(self.images) if images is None else min(images, len(self.images))):
            found = run(candidate, self.images[index])
            worst = max(worst, relative_error(self.outputs(index), found))
        return worst


def run(network: Callable[[Tensor], object], image: NDArray[np.float32] | Tensor) -> list[Tensor]:
    """The tensors that a network yields for an image, in order; the image is not changed."""
    with torch.no_grad():
        return flat_outputs(network(_as_input(network, image)))


def _as_input(network: Callable[[Tensor], object], image: NDArray[np.float32] | Tensor) -> Tensor:
    """A copy of an image in the floating-point type of the network's parameters."""
    dtype = float_dtype(network) if isinstance(network, nn.Module) else torch.float32
    return torch.as_tensor(image).to(dtype).clone()


def relative_error(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Largest difference over largest value, the worst of all outputs; infinite where they differ
    in number or shape, or one of them is not finite where the other is."""
    if len(wanted) != len(found):
        return float("inf")
    return max((_error(a, b) for a, b in zip(wanted, found, strict=True)), default=0.0)


def _error(wanted: Tensor, found: Tensor) -> float:
    if wanted.shape != found.shape:
        return float("inf")
    if not wanted.numel():
        return 0.0
    if wanted.dtype == torch.bool:
        return float((wanted != found).any())
    difference = float((wanted - found).abs().max())
    largest = float(wanted.abs().max())
    return (
        difference / max(largest, 1e-30)
        if np.isfinite([difference, largest]).all()
        else float("inf")
    )
