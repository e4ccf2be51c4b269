"""Exported operations as the layers of torch.nn that they are.

An operation becomes a layer only where everything but its input is constant, so that the layer
holds plain weights, whatever computed them (a parametrization, a hook, a mask of pruning).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from waveedge.normalise.arguments import Arguments, is_constant, pair

__all__ = ["LAYERS", "GlobalMean"]

aten = torch.ops.aten


class GlobalMean(nn.AdaptiveAvgPool2d):
    """The mean over a map, (N, C, H, W) to (N, C, 1, 1).

    torch exports its own pooling of a map with channels last as a gather by strides, which no
    runtime computes in integers and which fixes the batch.
    """

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, input: Tensor) -> Tensor:
        return input.mean((2, 3), keepdim=True)


def _with(layer: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """``layer`` with these parameters and buffers."""
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        kept = tensor.detach().clone().contiguous()
        if name in layer._buffers:
            layer._buffers[name] = kept
        else:
            setattr(layer, name, nn.Parameter(kept))
    return layer


def _unfilled(kind: type[nn.Module], *arguments: Any, **options: Any) -> nn.Module:
    """A layer whose weights are about to be set: none are drawn at random."""
    return kind(*arguments, device="meta", **options)


def _convolution(kind: type[nn.Module]) -> Callable[[Arguments], nn.Module | None]:
    def build(a: Arguments) -> nn.Module | None:
        weight, bias = a["weight"], a["bias"]
        padding = a["padding"] if isinstance(a["padding"], str) else _list(a["padding"], weight)
        if weight is None or not is_constant(weight, bias):
            return None
        options = {"padding": padding} if isinstance(padding, str) else {"padding": tuple(padding)}
        return _with(
            _unfilled(
                kind,
                weight.shape[1] * a["groups"],
                weight.shape[0],
                tuple(weight.shape[2:]),
                stride=tuple(_list(a["stride"], weight)),
                dilation=tuple(_list(a["dilation"], weight)),
                groups=a["groups"],
                bias=bias is not None,
                **options,
            ),
            weight=weight,
            bias=bias,
        )

    return build


def _conv_transpose(a: Arguments) -> nn.Module | None:
    weight, bias = a["weight"], a["bias"]
    if not is_constant(weight, bias):
        return None
    layer = _unfilled(
        nn.ConvTranspose2d,
        weight.shape[0],
        weight.shape[1] * a["groups"],
        tuple(weight.shape[2:]),
        stride=tuple(_list(a["stride"], weight)),
        padding=tuple(_list(a["padding"], weight)),
        output_padding=tuple(_list(a["output_padding"], weight)),
        dilation=tuple(_list(a["dilation"], weight)),
        groups=a["groups"],
        bias=bias is not None,
    )
    return _with(layer, weight=weight, bias=bias)


def _list(values: Any, weight: Tensor) -> list[int]:
    """One value for each spatial axis of a convolution."""
    sides: list[int] = [values] if isinstance(values, int) else list(values)
    return sides * (weight.dim() - 2) if len(sides) == 1 else sides


def _linear(a: Arguments) -> nn.Module | None:
    weight, bias = a["weight"], a["bias"]
    if weight is None or not is_constant(weight, bias) or weight.dim() != 2:
        return None
    layer = _unfilled(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None)
    return _with(layer, weight=weight, bias=bias)


def _matmul(a: Arguments) -> nn.Module | None:
    other = a["other"] if "other" in a else a["mat2"]
    if not isinstance(other, Tensor) or other.dim() != 2 or isinstance(_input(a), Tensor):
        return None
    return _linear({"weight": other.T, "bias": None})


def _addmm(a: Arguments) -> nn.Module | None:
    bias, weight = a["self"], a["mat2"]
    plain = isinstance(bias, Tensor) and isinstance(weight, Tensor) and bias.dim() == 1
    if not plain or (a["alpha"], a["beta"]) != (1, 1):
        return None
    return _linear({"weight": weight.T, "bias": bias})


def _input(a: Arguments) -> Any:
    return a["input"] if "input" in a else a["self"]


def _batch_norm(a: Arguments) -> nn.Module | None:
    mean, variance = a["running_mean"], a["running_var"]
    if mean is None or not is_constant(a["weight"], a["bias"], mean, variance):
        return None
    kind = nn.BatchNorm2d if a["input"].meta["val"].dim() == 4 else nn.BatchNorm1d
    if a["input"].meta["val"].dim() == 5:
        return None
    weight, bias = a["weight"], a["bias"]
    if (weight is None) != (bias is None):
        weight = torch.ones_like(mean) if weight is None else weight
        bias = torch.zeros_like(mean) if bias is None else bias
    layer = kind(len(mean), eps=a["eps"], affine=weight is not None).to(mean.dtype)
    return _with(layer, weight=weight, bias=bias, running_mean=mean, running_var=variance)


def _layer_norm(a: Arguments) -> nn.Module | None:
    shape, weight, bias = a["normalized_shape"], a["weight"], a["bias"]
    if not all(isinstance(side, int) for side in shape) or not is_constant(weight, bias):
        return None
    if weight is None and bias is not None:
        weight = torch.ones_like(bias)
    layer = nn.LayerNorm(
        list(shape),
        eps=a["eps"],
        elementwise_affine=weight is not None,
        bias=bias is not None,
    )
    return _with(layer, weight=weight, bias=bias)


def _group_norm(a: Arguments) -> nn.Module | None:
    weight, bias, channels = a["weight"], a["bias"], a["input"].meta["val"].shape[1]
    if not is_constant(weight, bias) or (weight is None) != (bias is None):
        return None
    layer = nn.GroupNorm(a["num_groups"], int(channels), a["eps"], affine=weight is not None)
    return _with(layer, weight=weight, bias=bias)


def _instance_norm(a: Arguments) -> nn.Module | None:
    weight, bias, value = a["weight"], a["bias"], a["input"].meta["val"]
    plain = is_constant(weight, bias) and (weight is None) == (bias is None)
    if not plain or value.dim() != 4 or not a["use_input_stats"]:
        return None
    layer = nn.InstanceNorm2d(int(value.shape[1]), a["eps"], affine=weight is not None)
    return _with(layer, weight=weight, bias=bias)


def _prelu(a: Arguments) -> nn.Module | None:
    weight = a["weight"]
    if not isinstance(weight, Tensor) or weight.dim() != 1:
        return None
    return _with(nn.PReLU(len(weight)), weight=weight)


def _max_pool(a: Arguments) -> nn.Module | None:
    sides = [pair(a[name]) for name in ("kernel_size", "padding", "dilation")]
    stride = pair(a["stride"]) if a["stride"] else sides[0]
    if None in sides or stride is None:
        return None
    kernel, padding, dilation = sides
    return nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=a["ceil_mode"])  # type: ignore[arg-type]


def _avg_pool(a: Arguments) -> nn.Module | None:
    kernel, padding = pair(a["kernel_size"]), pair(a["padding"])
    stride = pair(a["stride"]) if a["stride"] else kernel
    if kernel is None or padding is None or stride is None:
        return None
    return nn.AvgPool2d(
        kernel, stride, padding, a["ceil_mode"], a["count_include_pad"], a["divisor_override"]
    )


def _adaptive_pool(a: Arguments) -> nn.Module | None:
    size = pair(a["output_size"])
    if size is None:
        return None
    return GlobalMean() if size == (1, 1) else nn.AdaptiveAvgPool2d(size)


def _mean(a: Arguments) -> nn.Module | None:
    """The mean over a whole map; the axes go afterwards if they are not kept."""
    value = a["self"].meta["val"]
    dims = sorted(dim % value.dim() for dim in a["dim"] or range(value.dim()))
    if value.dim() != 4 or dims != [2, 3] or a["dtype"] is not None:
        return None
    return GlobalMean()


def _hardtanh(a: Arguments) -> nn.Module | None:
    limits = a["min_val"], a["max_val"]
    return nn.ReLU6() if limits == (0, 6) else nn.Hardtanh(float(limits[0]), float(limits[1]))


def _clamp_min(a: Arguments) -> nn.Module | None:
    return nn.ReLU() if a["min"] == 0 else None


def _clamp(a: Arguments) -> nn.Module | None:
    limits = a["min"], a["max"]
    if limits == (0, None):
        return nn.ReLU()
    return nn.ReLU6() if limits == (0, 6) else None


Builder = Callable[[Arguments], nn.Module | None]

LAYERS: dict[Any, Builder] = {
    aten.conv1d.default: _convolution(nn.Conv1d),
    aten.conv1d.padding: _convolution(nn.Conv1d),
    aten.conv2d.default: _convolution(nn.Conv2d),
    aten.conv2d.padding: _convolution(nn.Conv2d),
    aten.conv_transpose2d.input: _conv_transpose,
    aten.linear.default: _linear,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.addmm.default: _addmm,
    aten.batch_norm.default: _batch_norm,
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
    aten.layer_norm.default: _layer_norm,
    aten.group_norm.default: _group_norm,
    aten.instance_norm.default: _instance_norm,
    aten.prelu.default: _prelu,
    aten.max_pool2d.default: _max_pool,
    aten.avg_pool2d.default: _avg_pool,
    aten.adaptive_avg_pool2d.default: _adaptive_pool,
    aten.mean.dim: _mean,
    aten.pixel_shuffle.default: lambda a: nn.PixelShuffle(a["upscale_factor"]),
    aten.pixel_unshuffle.default: lambda a: nn.PixelUnshuffle(a["downscale_factor"]),
    aten.relu.default: lambda a: nn.ReLU(),
    aten.relu6.default: lambda a: nn.ReLU6(),
    aten.hardtanh.default: _hardtanh,
    aten.clamp_min.default: _clamp_min,
    aten.clamp.default: _clamp,
    aten.gelu.default: lambda a: nn.GELU(a["approximate"]),
    aten.silu.default: lambda a: nn.SiLU(),
    aten.mish.default: lambda a: nn.Mish(),
    aten.hardswish.default: lambda a: nn.Hardswish(),
    aten.hardsigmoid.default: lambda a: nn.Hardsigmoid(),
    aten.sigmoid.default: lambda a: nn.Sigmoid(),
    aten.tanh.default: lambda a: nn.Tanh(),
    aten.leaky_relu.default: lambda a: nn.LeakyReLU(float(a["negative_slope"])),
}
"""Operation -> the layer that it is, or None where it is not that layer after all."""
