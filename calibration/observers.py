"""Activation calibration: watch what reaches every quantizer, then set its scale and sign."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waveedge.calibration.ranges import (
    Histogram,
    Method,
    choose_range,
    grid,
    squared_error,
)
from waveedge.decibels import ratio_db
from waveedge.errors import CheckpointError, ImageError, RecipeError, WaveedgeError
from waveedge.nn.quantizers import ActivationQuantizer

_MARGIN = 1.1
"""Of a grid that covers: other images reach a little further."""

__all__ = ["Observed", "calibrate_activations", "observe"]


@dataclass(frozen=True)
class Observed:
    """What reached one quantizer, and the grid chosen for it.

    Attributes:
        bits, zero_point, scale: the grid, ``scale * {qmin .. qmax}``.
        low, high: exact minimum and maximum of the float tensor.
        zero_share: share of values that are exactly 0, of those sampled.
        clipped_share: share of values beyond the ends of the grid, of those sampled.
        snr_db: expected signal-to-noise ratio of this quantizer alone, dB; inf where exact.
    """

    bits: int
    zero_point: int
    scale: float
    low: float
    high: float
    zero_share: float
    clipped_share: float
    snr_db: float

    def to_dict(self) -> dict[str, float | int | bool]:
        """Return the fields as plain numbers."""
        return asdict(self)


def calibrate_activations(
    model: nn.Module,
    images: Sequence[NDArray[np.float32]],
    *,
    method: Method = "mse",
    covering: Collection[str] = (),
    shifted: Mapping[str, float] = MappingProxyType({}),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Observed]:
    """Set ``scale`` and ``zero_point`` of every :class:`ActivationQuantizer` in the model.

    One pass over the images: activations run unquantized and weights as they are (quantized, where
    the model quantizes them), while a histogram of bounded size watches each quantizer's input.

    Args:
        model: any module, on any device; left in the mode (train or eval) it was in.
        images: float32 inputs of shape (N, C, H, W), preprocessed.
        method: ``mse`` for the least expected squared error, ``max`` to cover every value.
        covering: names of quantizers that cover every value whatever the method, and a tenth more.
        shifted: names of quantizers that may have any zero point, each with the share of the
            squared error that it may leave at most; see :func:`choose_range`.
        progress: called with (images done, images in all) after each image.

    Returns:
        Statistics by quantizer name, in the model's order; empty if it has no quantizer.

    Raises:
        ImageError: there are no images.
        RecipeError: the method is unknown.
        CheckpointError: NaN, infinity or overflow reaches a quantizer; the message names it.
        WaveedgeError: a quantizer is never reached.
    """
    if method not in ("mse", "max"):
        raise RecipeError(
            f"unknown calibration method {method!r}", hint="Use 'mse' (the default) or 'max'."
        )
    quantizers = _quantizers(model)
    if not quantizers:
        return {}
    result = {}
    for name, histogram in observe(model, images, progress=progress).items():
        quantizer = quantizers[name]
        if quantizer.pixel_step is not None:
            scale, zero_point = quantizer.pixel_step * 2 ** (8 - quantizer.bits), 0
        else:
            scale, zero_point, _ = choose_range(
                histogram,
                quantizer.bits,
                "max" if name in covering else method,
                must_be_signed=not quantizer.zero_is_open,
                share=shifted.get(name, 0.0),
            )
            if name in covering:
                scale *= _MARGIN
        with torch.no_grad():
            quantizer.scale.fill_(scale)
        quantizer.zero_point = zero_point
        result[name] = _describe(histogram, quantizer)
    return result


def observe(
    model: nn.Module,
    images: Sequence[NDArray[np.float32]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Histogram]:
    """Return a histogram of what reaches each activation quantizer; the model is not changed.

    Arguments and errors as in :func:`calibrate_activations`.
    """
    if not images:
        raise ImageError(
            "there are no images to calibrate with",
            hint="Give at least one; 32 to 64 images like those the network will see are good.",
        )
    quantizers = _quantizers(model)
    histograms = {name: Histogram() for name in quantizers}
    like = next(model.parameters())
    with _observing(model, quantizers, histograms), torch.no_grad():
        for done, image in enumerate(images, 1):
            model(torch.from_numpy(image).to(like))
            if progress is not None:
                progress(done, len(images))
    for name, histogram in histograms.items():
        if histogram.seen == 0:
            raise WaveedgeError(
                f"no activation ever reaches the quantizer '{name}', so it cannot be calibrated",
                hint="The network does not use that layer: leave it out with --skip.",
            )
    return histograms


def _quantizers(model: nn.Module) -> dict[str, ActivationQuantizer]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, ActivationQuantizer)
    }


@contextmanager
def _observing(
    model: nn.Module,
    quantizers: dict[str, ActivationQuantizer],
    histograms: dict[str, Histogram],
) -> Iterator[None]:
    """Within the block quantizers pass their input through and their histograms fill."""

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            try:
                histograms[name].update(args[0])
            except ValueError as error:
                raise CheckpointError(
                    f"what reaches the quantizer '{name}' {error}",
                    hint="The images are finite, so the float network itself breaks down there: "
                    "check its weights and its preprocessing (mean, std, range).",
                ) from error

        return hook

    modes = {module: module.training for module in model.modules()}
    enabled = {name: quantizer.enabled for name, quantizer in quantizers.items()}
    handles = [
        quantizer.register_forward_pre_hook(watch(name)) for name, quantizer in quantizers.items()
    ]
    try:
        model.eval()
        for quantizer in quantizers.values():
            quantizer.enabled = False
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, quantizer in quantizers.items():
            quantizer.enabled = enabled[name]
        for module, mode in modes.items():
            module.training = mode


def _describe(histogram: Histogram, quantizer: ActivationQuantizer) -> Observed:
    scale = float(quantizer.scale.detach())
    qmin, qmax = grid(quantizer.bits, quantizer.zero_point)
    snr, clipped = math.inf, 0.0
    if histogram.peak > 0.0:
        error = float(squared_error(histogram, np.array([scale]), qmin, qmax)[0])
        if error > 0.0 and histogram.low != histogram.high:
            snr = ratio_db(histogram.power, error)
        clipped = histogram.share_outside((qmin - 0.5) * scale, (qmax + 0.5) * scale)
    return Observed(
        bits=quantizer.bits,
        zero_point=quantizer.zero_point,
        scale=scale,
        low=histogram.low,
        high=histogram.high,
        zero_share=histogram.zeros / histogram.sampled,
        clipped_share=clipped,
        snr_db=snr,
    )
