"""The kinds of layers that a stored graph may hold, each with the arguments that make it again.

To let graphs hold one more kind of layer, add a line to a table below: the class, and its
constructor's arguments, which are read from attributes of the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import nn

from waveedge import nn as layers
from waveedge.compression.reparameterize.phases import PhaseToSpace, SpaceToPhase
from waveedge.compression.reparameterize.pooled import FramePool
from waveedge.normalise.layers import GlobalMean

from .arguments import decode, encode

__all__ = ["describe_layer", "make_layer"]


@dataclass(frozen=True)
class _Kind:
    """How layers of one class are made.

    Attributes:
        layer: the class itself; layers of a subclass are of another kind.
        arguments: what reads the value of each argument from a layer.
        make: takes the arguments by name and gives the layer.
        earlier: names of further arguments, which earlier versions wrote.
    """

    layer: type[nn.Module]
    arguments: Mapping[str, Callable[[Any], Any]]
    make: Callable[..., nn.Module]
    earlier: frozenset[str] = frozenset()


def _has_bias(layer: Any) -> bool:
    return layer.bias is not None


def _kind(layer: type[nn.Module], arguments: str = "", **others: Callable[[Any], Any]) -> _Kind:
    read = {name: attrgetter(name) for name in arguments.split()}
    if "bias" in read:
        others = {"bias": _has_bias, **others}
    return _Kind(layer, {**read, **others}, layer)


_CONV = "in_channels out_channels kernel_size stride padding dilation groups bias"
_NORM = "num_features eps momentum affine track_running_stats"
_MAX_POOL = "kernel_size stride padding dilation return_indices ceil_mode"
_AVG_POOL = "kernel_size stride padding ceil_mode count_include_pad"
_RECURRENT = "input_size hidden_size num_layers bias batch_first dropout bidirectional"
_UPSAMPLE = "size scale_factor"

_TORCH = (
    _kind(nn.AdaptiveAvgPool1d, "output_size"),
    _kind(nn.AdaptiveAvgPool2d, "output_size"),
    _kind(nn.AdaptiveMaxPool1d, "output_size return_indices"),
    _kind(nn.AdaptiveMaxPool2d, "output_size return_indices"),
    _kind(nn.AlphaDropout, "p inplace"),
    _kind(nn.AvgPool1d, _AVG_POOL),
    _kind(nn.AvgPool2d, f"{_AVG_POOL} divisor_override"),
    _kind(nn.BatchNorm1d, _NORM),
    _kind(nn.BatchNorm2d, _NORM),
    _kind(nn.CELU, "alpha inplace"),
    _kind(nn.ChannelShuffle, "groups"),
    _kind(nn.CircularPad1d, "padding"),
    _kind(nn.CircularPad2d, "padding"),
    _kind(nn.ConstantPad1d, "padding value"),
    _kind(nn.ConstantPad2d, "padding value"),
    _kind(nn.Conv1d, f"{_CONV} padding_mode"),
    _kind(nn.Conv2d, f"{_CONV} padding_mode"),
    _kind(nn.ConvTranspose1d, f"{_CONV} output_padding padding_mode"),
    _kind(nn.ConvTranspose2d, f"{_CONV} output_padding padding_mode"),
    _kind(nn.Dropout, "p inplace"),
    _kind(nn.Dropout1d, "p inplace"),
    _kind(nn.Dropout2d, "p inplace"),
    _kind(nn.Dropout3d, "p inplace"),
    _kind(nn.ELU, "alpha inplace"),
    _kind(nn.Embedding, "num_embeddings embedding_dim padding_idx"),
    _kind(nn.FeatureAlphaDropout, "p inplace"),
    _kind(nn.Flatten, "start_dim end_dim"),
    _kind(nn.Fold, "output_size kernel_size dilation padding stride"),
    _kind(nn.GELU, "approximate"),
    _kind(nn.GLU, "dim"),
    _kind(nn.GroupNorm, "num_groups num_channels eps affine"),
    _kind(nn.GRU, _RECURRENT, bias=attrgetter("bias")),
    _kind(nn.Hardshrink, "lambd"),
    _kind(nn.Hardsigmoid, "inplace"),
    _kind(nn.Hardswish, "inplace"),
    _kind(nn.Hardtanh, "min_val max_val inplace"),
    _kind(nn.Identity),
    _kind(nn.InstanceNorm1d, _NORM),
    _kind(nn.InstanceNorm2d, _NORM),
    _kind(nn.LayerNorm, "normalized_shape eps elementwise_affine", bias=_has_bias),
    _kind(nn.LeakyReLU, "negative_slope inplace"),
    _kind(nn.Linear, "in_features out_features bias"),
    _kind(nn.LocalResponseNorm, "size alpha beta k"),
    _kind(nn.LogSigmoid),
    _kind(nn.LogSoftmax, "dim"),
    _kind(nn.LPPool2d, "norm_type kernel_size stride ceil_mode"),
    _kind(nn.LSTM, f"{_RECURRENT} proj_size", bias=attrgetter("bias")),
    _kind(nn.MaxPool1d, _MAX_POOL),
    _kind(nn.MaxPool2d, _MAX_POOL),
    _kind(nn.Mish, "inplace"),
    _kind(
        nn.MultiheadAttention,
        "embed_dim num_heads dropout add_zero_attn kdim vdim batch_first",
        bias=lambda layer: layer.in_proj_bias is not None,
        add_bias_kv=lambda layer: layer.bias_k is not None,
    ),
    _kind(nn.PixelShuffle, "upscale_factor"),
    _kind(nn.PixelUnshuffle, "downscale_factor"),
    _kind(nn.PReLU, "num_parameters"),
    _kind(nn.ReflectionPad1d, "padding"),
    _kind(nn.ReflectionPad2d, "padding"),
    _kind(nn.ReLU, "inplace"),
    _kind(nn.ReLU6, "inplace"),
    _kind(nn.ReplicationPad1d, "padding"),
    _kind(nn.ReplicationPad2d, "padding"),
    _kind(nn.RMSNorm, "normalized_shape eps elementwise_affine"),
    _kind(nn.RNN, f"{_RECURRENT} nonlinearity", bias=attrgetter("bias")),
    _kind(nn.RReLU, "lower upper inplace"),
    _kind(nn.SELU, "inplace"),
    _kind(nn.Sigmoid),
    _kind(nn.SiLU, "inplace"),
    _kind(nn.Softmax, "dim"),
    _kind(nn.Softmax2d),
    _kind(nn.Softmin, "dim"),
    _kind(nn.Softplus, "beta threshold"),
    _kind(nn.Softshrink, "lambd"),
    _kind(nn.Softsign),
    _kind(nn.Tanh),
    _kind(nn.Tanhshrink),
    _kind(nn.Threshold, "threshold value inplace"),
    _kind(nn.Unflatten, "dim unflattened_size"),
    _kind(nn.Unfold, "kernel_size dilation padding stride"),
    _kind(nn.Upsample, f"{_UPSAMPLE} mode align_corners recompute_scale_factor"),
    _kind(nn.UpsamplingBilinear2d, _UPSAMPLE),
    _kind(nn.UpsamplingNearest2d, _UPSAMPLE),
    _kind(nn.ZeroPad1d, "padding"),
    _kind(nn.ZeroPad2d, "padding"),
)

_WCC = "in_channels out_channels bias levels ratio wavelet"


def _activation_quantizer(
    bits: int,
    pixel_step: float | None,
    zero_point: int = 0,
    zero_is_open: bool = True,
    signed: bool = True,
    sign_is_open: bool = True,
) -> nn.Module:
    """``signed`` and ``sign_is_open`` were of grids whose only other zero point was the lowest."""
    quantizer = layers.ActivationQuantizer(
        bits,
        zero_point=zero_point if signed else -(1 << bits - 1),
        zero_is_open=zero_is_open and sign_is_open,
    )
    quantizer.pixel_step = pixel_step
    return quantizer


_OWN = (
    _Kind(
        layers.ActivationQuantizer,
        {name: attrgetter(name) for name in ("bits", "pixel_step", "zero_point", "zero_is_open")},
        _activation_quantizer,
        frozenset({"signed", "sign_is_open"}),
    ),
    _Kind(
        layers.ChannelScale,
        {"channels": lambda layer: layer.weight.shape[1]},
        lambda channels: layers.ChannelScale(channels, 1.0),
    ),
    _kind(layers.DWT2d, "levels wavelet mode"),
    _kind(FramePool, "rows columns"),
    _Kind(GlobalMean, {}, GlobalMean),
    _kind(layers.IDWT2d, "wavelet mode"),
    _Kind(PhaseToSpace, {"up": attrgetter("upscale_factor")}, PhaseToSpace),
    _kind(layers.PixelCopy, "in_channels out_channels kernel_size stride step"),
    _kind(
        layers.PublishedWCC,
        _WCC,
        weight_bits=attrgetter("weight_quant.bits"),
        activation_bits=attrgetter("act_quant.bits"),
    ),
    _kind(layers.QuantizedConv2d, f"{_CONV} padding_mode weight_bits"),
    _kind(layers.QuantizedConvTranspose2d, f"{_CONV} output_padding weight_bits"),
    _kind(layers.QuantizedLinear, "in_features out_features bias weight_bits"),
    # Its offset is a tensor, and comes from there.
    _Kind(layers.Shift, {"step": attrgetter("step")}, lambda step: layers.Shift(0.0, step)),
    _kind(layers.SigmoidGELU),
    _Kind(SpaceToPhase, {}, SpaceToPhase),
    *(_kind(layer, layer.arguments) for layer in layers.SELECTIONS.values()),
    _kind(
        layers.WTConv2d,
        "in_channels out_channels kernel_size stride wt_levels wt_type",
        bias=lambda layer: layer.base_conv.bias is not None,
    ),
)

_KINDS = {kind.layer.__name__: kind for kind in (*_TORCH, *_OWN)}
_NAMES = {kind.layer: name for name, kind in _KINDS.items()}

# What no tensor's shape bounds, but a layer makes as many steps or numbers of.
_LARGEST = {"levels": 16, "wt_levels": 16, "rows": 4096, "columns": 4096, "num_layers": 64}


def describe_layer(layer: nn.Module) -> tuple[str, dict[str, Any]]:
    """Return the kind of a layer, and its arguments as JSON.

    Raises:
        ValueError: it is of no kind that a file may hold, or of one that has other arguments.
    """
    name = _NAMES.get(type(layer))
    if name is None:
        raise ValueError(f"it is a {type(layer).__name__}")
    try:
        return name, {key: encode(read(layer)) for key, read in _KINDS[name].arguments.items()}
    except AttributeError as error:
        raise ValueError(f"this {name} was changed by hand: {error}") from error


def make_layer(kind: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Undo :func:`describe_layer`; the numbers in the layer are those of its constructor.

    Raises:
        ValueError: the kind or an argument is unknown, or an argument has no value it may have.
        Exception: whatever the layer's constructor raises on arguments that make no sense.
    """
    known = _KINDS.get(kind)
    if known is None:
        raise ValueError(f"there is no layer of kind {kind[:100]!r}")
    unknown = arguments.keys() - known.arguments.keys() - known.earlier
    if unknown:
        raise ValueError(f"{kind} has no argument {min(unknown)[:100]!r}")
    values = {name: decode(value) for name, value in arguments.items()}
    for name, largest in _LARGEST.items():
        given = values.get(name, 0)
        if any(part > largest for part in (given if isinstance(given, tuple) else (given,))):
            raise ValueError(f"{kind}: {name} is larger than {largest}")
    return known.make(**values)
