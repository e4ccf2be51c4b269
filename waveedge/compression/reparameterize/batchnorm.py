"""Fold batch normalisation into a neighbouring convolution."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from waveedge.macs import layer_macs

from .rewrite import Applied, Rewrite, Shapes, called, drop, only_user, source, split

__all__ = ["BatchNorm"]

Producer = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class BatchNorm(Rewrite):
    """In eval mode a BatchNorm is ``y = scale * x + shift`` per channel, with constants.

    Rules:

    1. Conv2d (or Linear) then BatchNorm: the convolution's output channels take the scale, its
       bias takes the shift.
    2. ConvTranspose2d then BatchNorm: the same along the transposed weight's output channels.
    3. BatchNorm then Conv2d: input channels take the scale, and the bias takes the shift through
       the kernel. Only where the convolution pads with nothing: a padded zero would have to
       become ``-shift / scale``.

    In each rule the value between the two layers has no other user.
    """

    name = "batchnorm"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied = []
        for node, norm in self.modules(graph_module, nn.BatchNorm2d, nn.BatchNorm1d):
            if norm.running_mean is None:
                continue
            scale, shift = affine(norm)
            before, after = source(node), only_user(node)
            producer, consumer = called(before, graph_module), called(after, graph_module)
            if (
                isinstance(producer, Producer)
                and self.free(before)
                and only_user(before) is node
                and not (isinstance(producer, nn.Linear) and len(shapes[before]) != 2)
            ):
                rule = 2 if isinstance(producer, nn.ConvTranspose2d) else 1
                scale_outputs(producer, scale, shift)
                layer, where = before, before
            elif (
                isinstance(consumer, nn.Conv2d)
                and self.free(after)
                and _pads_nothing(consumer)
                and isinstance(norm, nn.BatchNorm2d)
            ):
                rule = 3
                assert after is not None
                affine_inputs(consumer, scale, shift)
                layer, where = after, before
            else:
                continue
            cost = layer_macs(called(layer, graph_module), shapes[layer])
            applied.append(Applied(f"batchnorm.{rule}", str(node.target), cost, cost))
            drop(node, where)
        return applied


def affine(norm: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """``(scale, shift)`` of a BatchNorm in eval mode, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return scale.detach(), shift.detach()


@torch.no_grad()
def scale_outputs(
    layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, scale: Tensor, shift: Tensor | None = None
) -> None:
    """Make ``layer`` yield ``scale * y + shift`` per output channel (float64 vectors)."""
    weight = layer.weight.double()
    if isinstance(layer, nn.ConvTranspose2d):  # (I, O/groups, k, k)
        grouped = split(weight, layer.groups)
        weight = (grouped * scale.view(layer.groups, 1, -1, 1, 1)).flatten(0, 1)
    else:
        weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    layer.weight.copy_(weight)
    if layer.bias is not None or shift is not None:
        bias = torch.zeros_like(scale) if layer.bias is None else layer.bias.double() * scale
        _set_bias(layer, bias if shift is None else bias + shift)


@torch.no_grad()
def affine_inputs(layer: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    """Make a convolution that pads nothing read ``scale * x + shift`` (float64 vectors)."""
    weight = layer.weight.double()
    grouped = split(weight, layer.groups)  # (groups, O/groups, I/groups, k, k)
    per_input = shift.view(layer.groups, 1, -1, 1, 1)
    bias = (grouped * per_input).sum(dim=(2, 3, 4)).flatten()
    layer.weight.copy_((grouped * scale.view(layer.groups, 1, -1, 1, 1)).flatten(0, 1))
    _set_bias(layer, bias if layer.bias is None else bias + layer.bias.double())


def _set_bias(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, bias: Tensor) -> None:
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype))


def _pads_nothing(conv: nn.Conv2d) -> bool:
    if conv.padding == "same":
        return conv.kernel_size == (1, 1)
    return conv.padding in ("valid", (0, 0))
