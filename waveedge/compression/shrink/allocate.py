"""How many channels each form keeps: what a loss costs the output, against what it saves."""

from __future__ import annotations

import math
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


def allocate(
    options: Sequence[Options], *, error: float = math.inf, price: float = 0.0
) -> list[int]:
    """The channels of each form, at one rate of exchange of error for multiply-adds.

    At the best point, a little more error would save the same in every form (Shoham and Gersho,
    "Efficient bit allocation for an arbitrary set of quantizers", 1988).

    Args:
        options: of each form.
        error: relative squared error of the output that all may cost together.
        price: what all may cost together, in multiply-adds; no more is saved than that asks for.

    Returns:
        numbers of channels; those that save least where the error cannot pay for the price.
    """

    def choose(rate: float) -> list[int]:
        return [int((o.errors + rate * o.prices).argmin()) for o in options]

    def goes_too_far(chosen: list[int]) -> bool:
        picked = list(zip(options, chosen, strict=True))
        if error < sum(float(o.errors[n]) for o, n in picked):
            return True
        return price > 0 and price >= sum(float(o.prices[n]) for o, n in picked)

    low, high = _LOW, _HIGH
    for _ in range(_STEPS):
        rate = (low * high) ** 0.5
        low, high = (low, rate) if goes_too_far(choose(rate)) else (rate, high)
    # A price is reached by the first rate that goes so far, an error by the last that does not.
    best = choose(high if price else low)
    return [int(o.channels[n]) for o, n in zip(options, best, strict=True)]
