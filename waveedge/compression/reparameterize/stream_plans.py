"""The ways to read a residual stream that need not be made, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from waveedge.compression.costs import CostProfile

from .block_layout import Layout, chain_cost, plan, sizes_of
from .linear_steps import Step, identity_step
from .pooled import FramePool, frame_of
from .residual_streams import Reader, Stream
from .rewrite import Shapes, numel

__all__ = ["Way", "cheapest"]


class Group(NamedTuple):
    """Terms of a sum that one convolution computes."""

    layout: Layout
    terms: tuple[int, ...]


class Way(NamedTuple):
    """One way to read value ``number`` of a stream.

    Attributes:
        number: which value is read.
        reader: who reads it.
        depth: how many of the reader's layers see through the additions; all of them keep its tail.
        terms: by number of the term, the steps from its origin through those layers.
        groups: the convolutions that stand for the terms.
        frames: instead, the means that stand for each term where the tail is a mean.
        sizes: (h, w) of each term's origin.
        cost: of all that.
        macs: multiply-adds of all that.
    """

    number: int
    reader: Reader
    depth: int
    terms: dict[int, tuple[Step, ...]]
    groups: tuple[Group, ...]
    frames: dict[int, FramePool]
    sizes: dict[int, tuple[int, ...]]
    cost: float
    macs: int

    @property
    def tail(self) -> str:
        """What follows the layers that see through the additions."""
        return self.reader.tail if self.depth == len(self.reader.layers) else ""


def cheapest(stream: Stream, shapes: Shapes, prices: CostProfile) -> tuple[int, list[Way]]:
    """The last value that is worth making (-1: none), and how to read those after it."""
    best: tuple[float, int, list[Way]] = (math.inf, 0, [])
    for made in range(len(stream.values) - 1, stream.opaque - 1, -1):
        cost, chosen = _making(stream, shapes, made, prices), []
        for index, readers in enumerate(stream.readers):
            for reader in readers:
                if index <= made:
                    cost += _direct(reader.steps, reader.tail, shapes[stream.values[index]], prices)
                    continue
                options = _ways(stream, shapes, made, index, reader, prices)
                if not options:
                    cost = math.inf
                    continue
                chosen.append(min(options, key=lambda way: way.cost))
                cost += chosen[-1].cost
        if cost < best[0]:
            best = (cost, made, chosen)
    return best[1:]


def _making(stream: Stream, shapes: Shapes, made: int, prices: CostProfile) -> float:
    """The cost of values 0 to ``made``."""
    # Streams that are read in phases stay in phases (polyphase.py): nothing is shuffled.
    in_phases = any(reader.tail == "phases" for readers in stream.readers for reader in readers)
    cost = 0.0
    for index in range(made + 1):
        term, elements = stream.terms[index], numel(shapes[stream.values[index]])
        size = shapes[term.origin][2:]
        cost += chain_cost(term.steps, size, prices)[0] + (
            3 * prices.element * elements if index else 0
        )
        if in_phases and len(term.steps) == 1 and term.steps[0].up:
            layout = plan(term.steps, size)
            cost -= layout.image_cost(term.steps[0].out_channels, prices) if layout else 0
    return cost


def _direct(steps: Sequence[Step], tail: str, shape: tuple[int, ...], prices: CostProfile) -> float:
    """The cost of layers and tail on a value that exists."""
    channels = steps[-1].out_channels if steps else shape[1]
    size = sizes_of(steps, shape[2:])[-1]
    ending = {"": 0, "phases": 2, "pool": 1}[tail] * prices.element * channels * math.prod(size)
    return chain_cost(steps, shape[2:], prices)[0] + ending


def _ways(
    stream: Stream, shapes: Shapes, made: int, index: int, reader: Reader, prices: CostProfile
) -> list[Way]:
    ways = []
    shape = shapes[stream.values[index]]
    for depth in range(len(reader.layers) + 1):
        whole = depth == len(reader.layers)
        tail = reader.tail if whole else ""
        if depth == 0 and tail != "pool":
            continue
        head, rest = reader.steps[:depth], reader.steps[depth:]
        between = (1, head[-1].out_channels if head else shape[1], *sizes_of(head, shape[2:])[-1])
        around = 0.0 if whole else _direct(rest, reader.tail, between, prices)
        if made >= 0:
            around += _direct(head, tail, shape, prices) + 3 * prices.element * numel(between)
        terms = {
            number: _through(stream, shapes, number, head, with_bias=made < 0 and number == 0)
            for number in range(made + 1, index + 1)
        }
        sizes = {number: shapes[stream.terms[number].origin][2:] for number in terms}
        found = (
            _means(terms, sizes, prices) if tail == "pool" else _maps(terms, sizes, tail, prices)
        )
        if found is not None:
            groups, frames, cost, macs = found
            ways.append(
                Way(index, reader, depth, terms, groups, frames, sizes, cost + around, macs)
            )
    return ways


def _through(
    stream: Stream, shapes: Shapes, number: int, head: Sequence[Step], *, with_bias: bool
) -> tuple[Step, ...]:
    """A term's own steps and a reader's; the reader's biases must enter the sum only once."""
    term = stream.terms[number]
    own = term.steps or (identity_step(shapes[term.origin][1]),)
    return (*own, *(step if with_bias else step.without_bias() for step in head))


Found = tuple[tuple[Group, ...], dict[int, FramePool], float, int]


def _means(
    terms: dict[int, tuple[Step, ...]], sizes: dict[int, tuple[int, ...]], prices: CostProfile
) -> Found | None:
    frames: dict[int, FramePool] = {}
    cost, macs = 0.0, 0
    for number, steps in terms.items():
        frame = frame_of(steps, sizes[number])
        if frame is None:
            return None
        frames[number] = frame
        channels = steps[0].in_channels
        macs += channels * frame.parts * steps[-1].out_channels
        cost += prices.element * channels * math.prod(sizes[number]) + prices.node * frame.parts
    return (), frames, cost + macs, macs


def _maps(
    terms: dict[int, tuple[Step, ...]],
    sizes: dict[int, tuple[int, ...]],
    tail: str,
    prices: CostProfile,
) -> Found | None:
    """The terms as convolutions, as many as possible on one grid: the grid that costs least."""
    up = 2 if tail == "phases" else 1
    natural = [plan(steps, sizes[number], up) for number, steps in terms.items()]
    grids = {layout.grid: layout for layout in natural if layout is not None}
    found = [_on_grid(layout, terms, sizes, tail, prices) for layout in grids.values()]
    return min((way for way in found if way), key=lambda way: way[2], default=None)


def _on_grid(
    main: Layout,
    terms: dict[int, tuple[Step, ...]],
    sizes: dict[int, tuple[int, ...]],
    tail: str,
    prices: CostProfile,
) -> Found | None:
    """Lay every term out on the grid of ``main``, or on its own where that is cheaper."""
    channels = next(iter(terms.values()))[-1].out_channels
    grouped: dict[Layout, list[int]] = {}
    for number, steps in terms.items():
        width, size, options = steps[0].in_channels, sizes[number], []
        shared = plan(steps, size, main.rows.up, (main.rows.shift, main.columns.shift))
        if shared is not None and shared.grid == main.grid:
            options.append((shared.cost(width, channels, prices), shared))
        own = plan(steps, size)
        if own is not None and (not tail or own.phases == 1):
            # It has to be turned into what the reader reads on its own.
            cost = own.cost(width, channels, prices) + _conversion(own, channels, tail, prices)
            options.append((cost, own))
        if not options:
            return None
        grouped.setdefault(min(options, key=lambda option: option[0])[1], []).append(number)
    cost, macs = 0.0, 0
    for layout, numbers in grouped.items():
        width = sum(terms[number][0].in_channels for number in numbers)
        macs += layout.macs(width, channels)
        cost += layout.cost(width, channels, prices)
        if len(numbers) > 1:
            cost += prices.element * 2 * width * math.prod(sizes[numbers[0]])
    cost += sum(
        _conversion(layout, channels, tail, prices)
        for layout in {layout.grid: layout for layout in grouped}.values()
    )
    groups = tuple(Group(layout, tuple(numbers)) for layout, numbers in grouped.items())
    return groups, {}, cost, macs


def _conversion(layout: Layout, channels: int, tail: str, prices: CostProfile) -> float:
    """The cost of turning blocks into what the reader reads, and of adding that to the rest."""
    elements = channels * layout.rows.size_out * layout.columns.size_out
    if tail == "phases":
        return 5.0 * prices.element * elements
    return layout.image_cost(channels, prices) + 3.0 * prices.element * elements
