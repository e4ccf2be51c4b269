"""The sizes of image that a network takes, and how they are found.

A network that halves its map three times takes heights that differ by multiples of 8 in the same
way; its rewritten form has kernels of their own for borders, and so needs maps that are larger than
these. Both are found on the network, and claimed only after its form was held against it at other
sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, fx, nn

from waveedge.bounds import Extent, Text
from waveedge.compression.reparameterize import Shapes
from waveedge.errors import InputError
from waveedge.normalise import flat_outputs
from waveedge.normalise.capture import float_dtype
from waveedge.reference import FLOAT_ERROR, relative_error, run
from waveedge.runtime.sizes import Size, SizeRange, size_text

__all__ = ["Sizes", "find_sizes"]


class Sizes(BaseModel):
    """The sizes, (height, width) in pixels, of image that a form of a network takes.

    Attributes:
        calibrated: the size that it was made for.
        multiple: other heights and widths differ from these by multiples of that many pixels.
        least: the smallest height and width.
        bound: why it takes no other size than ``calibrated``; empty where it does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    calibrated: tuple[Extent, Extent]
    multiple: tuple[Extent, Extent] = (1, 1)
    least: tuple[Extent, Extent] = (1, 1)
    bound: Text = ""

    @property
    def free(self) -> SizeRange:
        """The same without a bound."""
        return SizeRange(self.calibrated, self.multiple, self.least)

    def admits(self, size: Size) -> bool:
        """Whether images of this size can be taken."""
        return size == self.calibrated if self.bound else self.free.admits(size)

    def check(self, size: Size, what: str) -> None:
        """Refuse a size that ``what`` ("this artifact") does not take.

        Raises:
            InputError: it does not; the message says which it takes.
        """
        if self.bound and size != self.calibrated:
            raise InputError(
                f"{what} was made at {size_text(self.calibrated)}, and is bound to that size "
                f"because {self.bound}",
                hint="Compress or export the network itself again with "
                f"--input-size {size_text(size)}.",
            )
        if not self.bound:
            self.free.check(size, what)

    def others(self) -> list[Size]:
        """Two sizes besides the calibrated one, neither square: a small and a larger one."""
        return [] if self.bound else self.free.others()

    def __str__(self) -> str:
        if self.bound:
            return f"images of {size_text(self.calibrated)} alone: {self.bound}"
        return str(self.free)


def find_sizes(
    steps: Sequence[tuple[nn.Module, fx.GraphModule]], normal_form: fx.GraphModule, size: Size
) -> Sizes:
    """Find the sizes at which forms, made for ``size``, are the networks that they were made of.

    Args:
        steps: networks, and what exact rewrites made of them.
        normal_form: the user's network before any rewrite.
        size: (height, width) in pixels of the images that the forms were made for.
    """
    if not getattr(normal_form, "any_size", False):
        return Sizes(calibrated=size, bound="the network's own code fixes the size of its images")
    channels = int(normal_form.spec.channels)  # type: ignore[union-attr, arg-type]
    holds = _Judge(steps, channels)
    if not holds.takes((2 * size[0], 2 * size[1])):
        return Sizes(calibrated=size, bound="the network takes no other")
    # A layer that the form spells out may have had maps inside that the normal form does not show.
    graphs = [normal_form, *(form for _, form in steps)]
    periods = [_period(graph, (channels, *size)) for graph in graphs]
    if None in periods:
        return Sizes(calibrated=size, bound=_WRITTEN)
    period = math.lcm(*(found for found in periods if found))
    least = _least(holds, size, period)
    sizes = Sizes(calibrated=size, multiple=(period, period), least=least)
    if all(map(holds, sizes.others())):
        return sizes
    return Sizes(calibrated=size, bound=_WRITTEN)


_WRITTEN = "its form is written for maps of that size"


class _Judge:
    """Whether forms are their networks at a size."""

    def __init__(self, steps: Sequence[tuple[nn.Module, fx.GraphModule]], channels: int) -> None:
        self.steps, self.channels = steps, channels
        self._known: dict[Size, bool] = {}

    def __call__(self, size: Size) -> bool:
        if size not in self._known:
            self._known[size] = all(self._compare(*step, size) for step in self.steps)
        return self._known[size]

    def takes(self, size: Size) -> bool:
        """Whether the networks themselves take images of a size."""
        try:
            for network, _ in self.steps:
                run(network, self._image(size))
        except Exception:  # whatever it raises on a size that it does not take
            return False
        return True

    def _compare(self, network: nn.Module, form: fx.GraphModule, size: Size) -> bool:
        image = self._image(size)
        try:
            wanted = run(network, image)
            with torch.no_grad():  # a call of a graph would print what it raises
                found = flat_outputs(form.forward(image.to(float_dtype(form))))
        except Exception:  # whatever either raises on a size that it does not take
            return False
        return relative_error(wanted, found) <= FLOAT_ERROR

    def _image(self, size: Size) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(1, self.channels, *size, generator=generator)


def _period(graph: fx.GraphModule, image: tuple[int, int, int]) -> int | None:
    """By how many rows images must differ for all maps to differ in proportion.

    What every extent grows by over a number of rows that many strides divide tells the period; one
    period more must then give its share of that. Found on tensors without data.
    """
    channels, height, width = image

    def extents(more: int) -> list[int] | None:
        return _extents(graph, (1, channels, height + more, width))

    now, far = extents(0), extents(_FAR)
    if now is None or far is None or len(now) != len(far):
        return None
    growth = [b - a for a, b in zip(now, far, strict=True)]
    period = _FAR // math.gcd(_FAR, *growth)
    expected = [a + more * period // _FAR for a, more in zip(now, growth, strict=True)]
    return period if extents(period) == expected else None


_FAR = 2**8 * 3 * 5 * 7
"""Rows that a period divides: of a patch, of halvings, of both."""


def _extents(graph: fx.GraphModule, image: tuple[int, ...]) -> list[int] | None:
    """The extents of all values in order; None where the network does not take the image."""
    try:
        shapes = Shapes(graph, image)
    except Exception:
        return None
    found: list[int] = []
    pending = list(shapes.values())
    while pending:
        item = pending.pop()
        if isinstance(item, int):
            found.append(item)
        elif item is not None:
            pending.extend(item)
    return found


def _least(holds: _Judge, size: Size, period: int) -> Size:
    """The smallest size from which on, in steps of ``period``, the form holds: twice in a row."""
    first = [extent % period or period for extent in size]
    before: Size | None = None
    for step in range(min(_TRIES, *((n - f) // period for n, f in zip(size, first, strict=True)))):
        found = first[0] + step * period, first[1] + step * period
        if not holds(found):
            before = None
        elif before is not None:
            return before
        else:
            before = found
    return before or size


_TRIES = 48
