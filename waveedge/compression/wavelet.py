"""Which 1x1 convolutions become Wavelet Compressed Convolutions, and why the others do not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import fx, nn

from waveedge.bounds import Name, Text
from waveedge.compression.costs import CPU, CostProfile
from waveedge.compression.graph_queries import is_pointwise
from waveedge.compression.recipe import STATIC, Recipe
from waveedge.compression.shrink import select_inputs
from waveedge.cost import Cost
from waveedge.nn.selections import find_selection

__all__ = ["LayerDecision", "choose_layers", "replace_layers", "select_static"]

_Extent = Annotated[int, Field(ge=0, le=2**16)]


class LayerDecision(BaseModel):
    """What WCC does to one layer of the published network, and the reason in words.

    ``map_size`` is (height, width) of the layer's feature map at calibration, ``inputs`` how many
    channels that has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    type: Name
    selection: Name = "topk"
    ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    levels: Annotated[int, Field(ge=0, le=16)] = 0
    map_size: tuple[_Extent, _Extent] = (0, 0)
    inputs: _Extent = 0
    weight_bits: Annotated[int, Field(ge=2, le=32)] = 32
    activation_bits: Annotated[int, Field(ge=2, le=32)] = 32
    reason: Text

    @property
    def compressed(self) -> bool:
        """Whether the layer becomes a WCC."""
        return self.ratio < 1

    @property
    def coefficients(self) -> int:
        """Numbers of one image that the layer of the published network reads."""
        return self.inputs * self.map_size[0] * self.map_size[1]


def choose_layers(model: nn.Module, cost: Cost, recipe: Recipe) -> list[LayerDecision]:
    """Decide for every layer with weights, in execution order.

    Args:
        model: the network in its published form.
        cost: its profile at the input size that calibration uses; gives the feature-map sizes.
        recipe: what the user asked for.

    Raises:
        RecipeError: the recipe names no known selection.
    """
    static = recipe.wcc_select == STATIC
    rows = [row for row in cost.layers if row.is_layer and _has_weights(model, row.name)]
    decisions = []
    for position, row in enumerate(rows):
        module = model.get_submodule(row.name)
        settings = recipe.settings(row.name)
        height, width = (1, *row.input_shape)[-2:]  # a linear layer may read a vector
        if settings.wcc_ratio >= 1:
            reason = "ratio is 1"
        elif not is_pointwise(module):
            reason = "not a 1x1 convolution of stride 1"
        elif (excluded := recipe.excluded(row.name)) is not None:
            reason = excluded
        elif position in (0, len(rows) - 1) and row.name not in recipe.only:
            reason = "first layer" if position == 0 else "last layer"
        elif not static and (
            refusal := find_selection(recipe.wcc_select).refusal(
                (height, width), settings.wcc_levels
            )
        ):
            reason = refusal
        else:
            decisions.append(
                LayerDecision(
                    name=row.name,
                    type=type(module).__name__,
                    selection=recipe.wcc_select,
                    ratio=settings.wcc_ratio,
                    levels=0 if static else settings.wcc_levels,
                    map_size=(height, width),
                    inputs=module.in_channels,
                    weight_bits=settings.weight_bits,
                    activation_bits=settings.bits,
                    reason=f"1x1 on {height}x{width}: {settings.wcc_ratio:.1%} of the coefficients",
                )
            )
            continue
        decisions.append(LayerDecision(name=row.name, type=type(module).__name__, reason=reason))
    return decisions


def select_static(
    model: fx.GraphModule,
    decisions: Sequence[LayerDecision],
    images: Sequence[NDArray[np.float32]],
    prices: CostProfile = CPU,
    keep: Collection[str] = (),
) -> tuple[tuple[LayerDecision, ...], list[str]]:
    """Let the chosen layers read a share of their inputs, in place: static WCC.

    Args:
        model: the network, which may have fewer channels than the decisions were made for.
        decisions: of all layers.
        images: (1, C, H, W) float32.
        prices: of the device that the network shall run on.
        keep: names of layers that stay as they are.

    Returns:
        the decisions, with what each layer keeps of the inputs that it had; and the names of layers
        that yield principal directions.
    """
    present = dict(model.named_modules())
    chosen = {
        item.name: item
        for item in decisions
        if item.compressed and is_pointwise(present.get(item.name))
    }
    wanted = sum(item.ratio * item.coefficients for item in chosen.values())
    kept = select_inputs(model, chosen, wanted, images, prices, keep)
    found = []
    for item in decisions:
        if item.name in kept:
            (count, positions, _), (height, width) = kept[item.name], item.map_size
            cells = height * width == 4 * positions
            of = f"{4 * item.inputs} (channel, subband) pairs" if cells else f"{item.inputs} inputs"
            reason = f"1x1 on {height}x{width}: {count} of {of}"
            ratio = count * positions / item.coefficients
            item = item.model_copy(update={"ratio": ratio, "reason": reason})
        elif item.compressed:
            reason = "an exact rewrite made another layer of it"
            item = LayerDecision(name=item.name, type=item.type, reason=reason)
        found.append(item)
    return tuple(found), [one.writer for one in kept.values() if one.writer is not None]


def replace_layers(model: nn.Module, decisions: list[LayerDecision]) -> None:
    """Put a WCC in the place of every chosen layer of ``model``, which is changed."""
    for decision in decisions:
        if not decision.compressed or decision.selection == STATIC:
            continue
        conv = model.get_submodule(decision.name)
        assert isinstance(conv, nn.Conv2d)
        compressed = find_selection(decision.selection).compress(
            conv,
            decision.map_size,
            levels=decision.levels,
            ratio=decision.ratio,
            weight_bits=decision.weight_bits,
            activation_bits=decision.activation_bits,
        )
        model.set_submodule(decision.name, compressed)


def _has_weights(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name), nn.Conv2d | nn.Linear | nn.ConvTranspose2d)
