"""Contract chains of linear layers where one convolution does their work with less."""

from __future__ import annotations

from torch import fx

from waveedge.compression.costs import CostProfile
from waveedge.macs import layer_macs

from .block_layout import chain_cost, plan, sizes_of
from .graph_builder import Builder
from .linear_steps import Step, step_of
from .rewrite import Applied, Rewrite, Shapes, called, only_user, prune, source

__all__ = ["Chains", "chain_from"]


class Chains(Rewrite):
    """Convolutions with nothing between them (a stem of two or three, a dense head) are one linear
    map, and often a smaller one: 3 -> 72 -> 144 channels by two 3x3 kernels take nine times the
    multiply-adds of one 5x5 kernel from 3 to 144.

    Rules:

    1. A stretch of a chain of Conv2d, ConvTranspose2d and BatchNorm2d becomes one convolution, and
       a PixelShuffle if it enlarges. Which stretches is found by the cost of every way to divide
       the chain (block_layout.py). Inside a chain each value has one reader.
    2. Where an inner layer pads with zeros, outputs near the border get kernels of their own (up to
       nine regions), because the padding replaces what the contracted kernel would compute outside.
    """

    name = "chains"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied, seen = [], set[fx.Node]()
        for node in list(graph_module.graph.nodes):
            if node in seen or node.op != "call_module":
                continue
            chain = chain_from(self, graph_module, node)
            seen.update(layer for layer, _ in chain)
            if len(chain) > 1:
                applied += _contract(graph_module, shapes, chain, self.prices)
        return applied


def chain_from(
    rewrite: Rewrite, graph_module: fx.GraphModule, node: fx.Node
) -> list[tuple[fx.Node, Step]]:
    """The longest chain of linear layers that starts with ``node``."""
    chain: list[tuple[fx.Node, Step]] = []
    current: fx.Node | None = node
    while current is not None and rewrite.free(current):
        step = step_of(called(current, graph_module))
        if step is None:
            break
        chain.append((current, step))
        current = only_user(current)
    return chain


def _contract(
    graph_module: fx.GraphModule,
    shapes: Shapes,
    chain: list[tuple[fx.Node, Step]],
    prices: CostProfile,
) -> list[Applied]:
    steps = [step for _, step in chain]
    size = shapes[source(chain[0][0])][2:]
    sizes = sizes_of(steps, size)
    applied, start = [], 0
    for end in chain_cost(steps, size, prices)[1]:
        if end - start > 1:
            stretch, nodes = steps[start:end], [node for node, _ in chain[start:end]]
            layout = plan(stretch, sizes[start])
            assert layout is not None
            before = sum(layer_macs(called(node, graph_module), shapes[node]) for node in nodes)
            after = layout.macs(stretch[0].in_channels, stretch[-1].out_channels)
            build, name = Builder(graph_module, nodes[0]), str(nodes[-1].target)
            terms = [(source(nodes[0]), stretch)]
            blocks = build.blocks(name, terms, layout)
            image = build.image(name, blocks, layout)
            shapes[image] = shapes[nodes[-1]]  # the next chain may start from it
            nodes[-1].replace_all_uses_with(image)
            prune(nodes[-1])
            rule = 1 if layout.regions == 1 else 2
            applied.append(Applied(f"chains.{rule}", name, before, after))
        start = end
    return applied
