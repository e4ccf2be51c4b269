"""How many channels each form keeps: what a loss costs the output, against what it saves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from waveedge.compression.shrink.forms import Form

__all__ = ["Options", "allocate", "options_of"]

_LOW, _HIGH = 1e-30, 1e3
"""Exchange rates, in relative squared error for one multiply-add: nothing goes, all goes."""
_STEPS = 64


class Options(NamedTuple):
    """The numbers of channels that a form may have.

    Attributes:
        channels: (n,) ascending; the last is all of them.
        errors: (n,) the relative squared error of the network's output that each costs.
        prices: (n,) of the form in multiply-adds.
    """

    channels: Tensor
    errors: Tensor
    prices: Tensor


def options_of(form: Form, gain: float, multiple: int) -> Options:
    """What there is to choose from.

    Args:
        gain: error of the network's output for a loss of 1.
        multiple: numbers of channels are multiples of it, where that is not too many.
    """
    channels = torch.arange(multiple, form.channels + multiple, multiple).clamp(max=form.channels)
    share = channels.double() / form.channels
    return Options(channels, gain * (form.losses + form.noise)[channels], share * form.price)


def allocate(options: Sequence[Options], budget: float) -> list[int]:
    """The channels of each form, at one rate of exchange of error for multiply-adds.

    At the best point, a little more error would save the same in every form (Shoham and Gersho,
    "Efficient bit allocation for an arbitrary set of quantizers", 1988).

    Args:
        options: of each form.
        budget: relative squared error of the output that all may cost together.
    """

    def choose(rate: float) -> list[int]:
        return [int((o.errors + rate * o.prices).argmin()) for o in options]

    def error(chosen: list[int]) -> float:
        return sum(float(o.errors[n]) for o, n in zip(options, chosen, strict=True))

    low, high = _LOW, _HIGH
    for _ in range(_STEPS):
        rate = (low * high) ** 0.5
        low, high = (rate, high) if error(choose(rate)) <= budget else (low, rate)
    return [int(o.channels[n]) for o, n in zip(options, choose(low), strict=True)]
