"""The user's network in its exact forms, traced, for a bundle whose device chooses among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import fx, nn

from waveedge.compression.costs import PROFILES, CostProfile
from waveedge.compression.recipe import make_recipe
from waveedge.compression.reparameterize import Applied, exact_form
from waveedge.export.torch_to_onnx import Batch, to_onnx
from waveedge.normalise import normalise
from waveedge.reference import Reference
from waveedge.runtime.sizes import SizeRange

__all__ = ["BORDERLESS", "REWRITTEN", "exact_networks", "priced_otherwise"]

REWRITTEN, BORDERLESS = "rewritten", "borderless"

_BORDERS = "residual"
"""The rewrite that makes border pieces: they come of seeing through residual sums."""

_CONVOLUTIONS = ("Conv", "ConvTranspose")


def exact_networks(
    published: nn.Module,
    shape: tuple[int, int, int],
    images: Sequence[NDArray[np.float32]],
    *,
    cost: CostProfile,
    known: tuple[nn.Module, ir.Model] | None = None,
    batch: Batch = 1,
    sizes: SizeRange | None = None,
) -> dict[str, ir.Model]:
    """Rewrite the user's network, and once more without border pieces, where that is another form.

    A rewritten network computes the border of a map by small convolutions of their own, which save
    arithmetic and cost a launch each: which weighs more the device must say. Without them there
    are fewer convolutions; else the second form is left out.

    Args:
        published: the user's own network.
        shape: of its input: channels, height and width.
        images: float32 (1, C, H, W), by which every rewrite is judged.
        cost: prices of the device.
        known: the rewritten network and its trace, where they were made before.
        batch: images at once, or "dynamic".
        sizes: leaves height and width free.

    Raises:
        ExportError: torch cannot trace the network.
    """

    def form(*skip: str) -> fx.GraphModule:
        reference = Reference(published, list(images))
        return exact_form(normalise(published, shape), shape[1:], reference, cost=cost, skip=skip)

    def traced(graph: nn.Module) -> ir.Model:
        return to_onnx(graph, shape, batch=batch, sizes=sizes)

    if known is None:
        graph = form()
        known = graph, traced(graph)
    rewritten, model = known
    found = {REWRITTEN: model}
    applied: tuple[Applied, ...] = rewritten.applied  # type: ignore[assignment]
    if any(item.rule.partition(".")[0] == _BORDERS for item in applied):
        bare = traced(form(_BORDERS))
        if _convolutions(bare) < _convolutions(model):
            found[BORDERLESS] = bare
    return found


def priced_otherwise(recipe: dict[str, Any] | None, cost: CostProfile) -> list[str]:
    """What to say where integers were placed in the form for another kind of device."""
    chosen = cost.name if recipe is None else make_recipe(recipe).profile.name
    if chosen == cost.name or chosen not in PROFILES:
        return []
    return [
        f"compressed in the form for a {chosen.upper()}: waveedge compress --cost {cost.name} "
        "places the integers in the one for this target"
    ]


def _convolutions(model: ir.Model) -> int:
    return sum(node.op_type in _CONVOLUTIONS for node in model.graph)
