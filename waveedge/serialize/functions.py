"""The functions and methods that a stored graph may call, by stable names.

To let graphs call one more function, add its name to a list below. Only functions without effects
belong here: none that reads files, draws random numbers or runs other code.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

__all__ = ["ATTRIBUTES", "METHODS", "function_named", "name_of_function"]

Function = Callable[..., Any]

_OPERATOR = """abs add and_ eq floordiv ge getitem gt invert le lt matmul mod mul ne neg not_ or_
pos pow sub truediv xor"""

_TORCH = """abs add addcmul addmm all amax amin any arange argmax argmin avg_pool1d baddbmm bmm
broadcast_to cat ceil chunk clamp clip clone concat conv1d conv2d conv_transpose2d cos cumsum div
einsum eq erf exp expm1 eye flatten flip floor full full_like gather ge gt index_select lerp le
linspace log log1p logical_and logical_not logical_or logsumexp lt masked_fill matmul max maximum
mean meshgrid min minimum mul narrow ne neg negative norm numel ones ones_like permute pow prod
reciprocal relu repeat_interleave reshape roll round rsqrt scatter selu sigmoid sign sin softmax
split sqrt square squeeze stack std sub sum tanh tile topk transpose tril triu true_divide unbind
unflatten unsqueeze var where zeros zeros_like movedim swapaxes bitwise_and bitwise_or
layer_norm group_norm batch_norm instance_norm dropout pixel_shuffle pixel_unshuffle atan2 hypot
view_as_real view_as_complex real imag complex sym_float sym_int sym_max sym_min sym_not"""

_FFT = "fft fft2 fftn fftshift ifft ifft2 ifftn ifftshift irfft irfft2 irfftn rfft rfft2 rfftn"

_FUNCTIONAL = """adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d
affine_grid alpha_dropout avg_pool1d avg_pool2d batch_norm celu channel_shuffle conv1d conv2d
conv_transpose1d conv_transpose2d dropout dropout1d dropout2d dropout3d elu embedding fold gelu glu
grid_sample group_norm hardshrink hardsigmoid hardswish hardtanh instance_norm interpolate
layer_norm leaky_relu linear local_response_norm log_softmax logsigmoid lp_pool2d max_pool1d
max_pool2d mish normalize pad pixel_shuffle pixel_unshuffle prelu relu relu6 rms_norm
scaled_dot_product_attention selu sigmoid silu softmax softmin softplus softshrink softsign tanh
tanhshrink threshold unfold upsample"""

_METHODS = """abs add add_ all amax amin any argmax argmin bmm bool chunk clamp clamp_ clamp_max
clamp_min clip clone contiguous cos cumsum detach dim div div_ double eq erf exp expand expand_as
flatten flip float floor gather ge gt half index_select int le log long lt masked_fill matmul max
mean min mul mul_ narrow ndimension ne neg new_ones new_zeros norm numel permute pow prod reciprocal
relu relu_ repeat repeat_interleave reshape reshape_as roll round rsqrt scatter sigmoid sign sin
size softmax split sqrt square squeeze std sub sub_ sum t tanh tile to topk transpose type_as unbind
unflatten unfold unsqueeze var view view_as where"""

METHODS = frozenset(_METHODS.split())
"""Methods of tensors."""

ATTRIBUTES = frozenset({"H", "T", "device", "dtype", "mH", "mT", "ndim", "shape"})
"""What ``getattr`` may read of a tensor."""


def _table(prefix: str, home: Any, names: str) -> dict[str, Function]:
    return {f"{prefix}.{name}": getattr(home, name) for name in names.split()}


_FUNCTIONS: dict[str, Function] = {
    **_table("operator", operator, _OPERATOR),
    **_table("math", math, "ceil floor sqrt trunc"),
    **_table("F", F, _FUNCTIONAL),
    **_table("torch", torch, _TORCH),
    **_table("torch.fft", torch.fft, _FFT),
    "getattr": getattr,
}
_NAMES = {function: name for name, function in reversed(_FUNCTIONS.items())}

_ATEN = re.compile(r"aten\.([a-z]\w*|_\w+)\.([A-Za-z]\w*)", re.ASCII)
# What ATen keeps for itself, but torch.export leaves in its functional graphs.
_PRIVATE = """_adaptive_avg_pool2d _cdist_forward _fft_c2c _fft_c2r _fft_r2c _log_softmax
_native_batch_norm_legit_no_training _pdist_forward _prelu_kernel _softmax _to_copy _trilinear
_unsafe_index _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa"""
# Uninitialised memory, files, other devices, storage layouts, kernels of one library.
_DENIED = re.compile(
    r"empty|from_file|resize|pin_memory|sparse|mkldnn|cudnn|miopen|mps|fbgemm|quantize|backward"
    r"|as_strided|to_padded|(set|data|grad|cuda|cpu|chalf|values|indices)$"
)


def function_named(name: str) -> Function:
    """Return the function of that stable name, such as ``torch.cat`` or ``aten.add.Tensor``.

    Raises:
        ValueError: there is none that a graph may call.
    """
    function = _FUNCTIONS.get(name) or _aten(name)
    if function is None:
        raise ValueError(f"no graph may call the function {name[:100]!r}")
    return function


def name_of_function(function: Any) -> str:
    """Return the stable name of a function.

    Raises:
        ValueError: it is none that a graph may call.
    """
    name = str(function) if isinstance(function, torch._ops.OpOverload) else _NAMES.get(function)
    if name is None or (name not in _FUNCTIONS and _aten(name) is None):
        raise ValueError(f"it calls {getattr(function, '__name__', function)}")
    return name


def _aten(name: str) -> Function | None:
    """Return an overload of an ATen operator that only computes tensors from its arguments."""
    match = _ATEN.fullmatch(name)
    if match is None or _DENIED.search(match[1]):
        return None
    if match[1].startswith("_") and match[1] not in _PRIVATE.split():
        return None
    packet = getattr(torch.ops.aten, match[1], None)
    overload = getattr(packet, match[2], None)
    if not isinstance(overload, torch._ops.OpOverload):
        return None
    schema = overload._schema
    # Attention draws random numbers only where it is told to drop values out.
    random = torch.Tag.nondeterministic_seeded in overload.tags and "attention" not in match[1]
    gives_tensors = all("Tensor" in str(item.type) for item in schema.returns)
    if schema.is_mutable or random or not schema.returns:
        return None
    return overload if gives_tensors or match[1] == "sym_size" else None
