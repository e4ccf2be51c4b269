"""Recognise published wavelet layers inside any network, and replace them by this package's own.

A layer is recognised by the name of its class and by what it holds; no module of the user's is
imported for that. Classes of that name may differ from release to release, so a replacement stands
only if it computes the same on random data.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pywt
import torch
from torch import Tensor, nn

from waveedge.errors import ExportError
from waveedge.models.agreement import check_agreement, noise, tensors_of
from waveedge.models.joined_bands import joined_analysis, joined_synthesis
from waveedge.models.wavemix_blocks import LadderBlock
from waveedge.nn.dwt import DWT2d, IDWT2d, filter_bank
from waveedge.nn.kernels import wavelet_kernels
from waveedge.nn.published import PublishedWCC
from waveedge.nn.wtconv import WTConv2d

__all__ = ["Adoption", "adopt_published"]


# Layers keep their filters in float32.
_ROUNDING = 1e-6


class Adoption(NamedTuple):
    """What became of one published layer.

    Attributes:
        name: its qualified name in the network, empty for the network itself.
        published: the name of its class.
        replacement: the name of the class that replaced it; None where it was left as it is.
        reason: why it was left as it is, in words.
    """

    name: str
    published: str
    replacement: str | None = None
    reason: str = ""

    def __str__(self) -> str:
        where = f"{self.name or 'the network'} ({self.published})"
        if self.replacement is None:
            return f"{where}: left as it is, {self.reason}"
        return f"{where}: taken over as waveedge's {self.replacement}"


def adopt_published(model: nn.Module) -> tuple[nn.Module, list[Adoption]]:
    """Replace published wavelet layers by equal ones of this package, with their numbers.

    Taken over are: the transforms of ``pytorch_wavelets`` and of copies of it (any named wavelet;
    every border mode of :class:`~waveedge.nn.DWT2d`), Haar transforms by slices as MWCNN's, the
    authors' ``WTConv2d`` (Haar), the blocks of the ``wavemix`` package, and the authors' ``WCC``.
    Device, dtype and mode (training or evaluation) stay. A layer that occurs twice is replaced by
    one that occurs twice.

    Args:
        model: changed in place: hand over a copy.

    Returns:
        The model (its replacement, where it is such a layer itself), and what became of each
        published layer in it. A layer that carries hooks, that has no equal here, or whose
        replacement computes something else stays, with the reason.
    """
    adoptions: list[Adoption] = []
    seen: dict[nn.Module, nn.Module] = {}
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))

    def visit(module: nn.Module, name: str) -> nn.Module:
        if module in seen:
            return seen[module]
        seen[module] = module
        builder = _builder(module)
        if builder is not None:
            seen[module], adoption = _replace(module, name, builder, like)
            adoptions.append(adoption)
        else:
            for child_name, child in list(module._modules.items()):
                if child is not None:
                    path = f"{name}.{child_name}" if name else child_name
                    replacement = visit(child, path)
                    if replacement is not child:
                        setattr(module, child_name, replacement)
        return seen[module]

    return visit(model, ""), adoptions


class _Trial(NamedTuple):
    """A replacement, and inputs on which it has to agree with the published layer."""

    layer: nn.Module
    inputs: list[Any]


_Builder = Callable[[Any], _Trial]


def _builder(module: nn.Module) -> _Builder | None:
    """Return what builds the replacement of a published layer; None for any other module."""
    if type(module).__module__.startswith("waveedge."):
        return None
    for pattern, attributes, builder in _PUBLISHED:
        if re.fullmatch(pattern, type(module).__name__) and (
            all(hasattr(module, attribute) for attribute in attributes)
            if attributes
            else _is_fixed(module)
        ):
            return builder
    return None


def _is_fixed(module: nn.Module) -> bool:
    """Whether a module is one layer that training does not change."""
    return not any(module.children()) and not any(p.requires_grad for p in module.parameters())


def _replace(
    module: nn.Module, name: str, builder: _Builder, like: Tensor
) -> tuple[nn.Module, Adoption]:
    """Device and dtype are those of the module, or of ``like`` where it holds no tensors."""
    published = type(module).__name__
    try:
        hooked = any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
        if hooked:
            raise ExportError("it carries hooks, which a replacement would not run")
        # The random weights that are about to be replaced must not advance the user's seed.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            trial = builder(module)
            check_agreement(module, trial.layer, trial.inputs)
    # A class of that name may hold anything, and fail in any way where it is another.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        return module, Adoption(name, published, reason=reason)
    tensor = next(tensors_of(module.state_dict()), like)
    layer = trial.layer.to(device=tensor.device, dtype=tensor.dtype).train(module.training)
    return layer, Adoption(name, published, replacement=type(layer).__name__)


def _fill(layer: nn.Module, module: nn.Module) -> None:
    """Give ``layer`` the published layer's numbers."""
    published = module.state_dict()
    layer.to(next(tensors_of(published)).dtype)
    try:
        layer.load_state_dict({name: published[name] for name in layer.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise ExportError(f"its weights are not those of a {type(layer).__name__}") from error


def _analysis(module: Any) -> _Trial:
    wavelet, filters = _filters_of("h", module)
    layer = DWT2d(module.J, wavelet, module.mode)
    layer.filters = filters
    return _Trial(layer, _images(2, module.J, layer.filters.shape[1]))


def _synthesis(module: Any) -> _Trial:
    wavelet, filters = _filters_of("g", module)
    layer = IDWT2d(wavelet, module.mode)
    layer.filters = filters
    # Two levels show whether a level's size is cut to that of the details.
    transform = DWT2d(2, wavelet, module.mode, dtype=torch.float64)
    inputs = []
    for image in _images(2, 2, layer.filters.shape[1]):
        low, details = transform(image)
        inputs.append((low, [noise(*detail.shape) for detail in details]))
    return _Trial(layer, inputs)


def _images(channels: int, levels: int, taps: int) -> list[Tensor]:
    """Images with even and with odd sides, none smaller than the filter at any level."""
    side = 2**levels * (taps + 2)
    return [noise(1, channels, side, side + 2), noise(1, channels, side + 1, side + 3)]


def _filters_of(kind: str, module: Any) -> tuple[str, Tensor]:
    """Return the wavelet whose analysis (h) or synthesis (g) filters a layer holds, and them."""
    columns, rows = (
        torch.stack([getattr(module, f"{kind}{band}_{axis}").flatten() for band in (0, 1)])
        for axis in ("col", "row")
    )
    if not torch.equal(columns, rows):
        raise ExportError("its filters differ between rows and columns")
    distances = {
        name: float((bank.to(columns) - columns).abs().max())
        for name, bank in _banks(kind).items()
        if bank.shape == columns.shape
    }
    nearest = min(distances, key=distances.__getitem__, default=None)
    if nearest is None or distances[nearest] > _ROUNDING:
        raise ExportError("its filters are those of no wavelet that PyWavelets names")
    return nearest, columns


@functools.cache
def _banks(kind: str) -> dict[str, Tensor]:
    """The filters of all discrete wavelets, as transforms keep them: (2, taps), low and high."""
    # Several names may have one filter: the Haar wavelet is db1.
    names = sorted(pywt.wavelist(kind="discrete"), key=lambda name: not name.startswith("db"))
    banks = {}
    for name in names:
        bank = filter_bank(name)
        filters = [bank.synthesis_low, bank.synthesis_high]
        if kind == "h":
            filters = [bank.analysis_low[::-1], bank.analysis_high[::-1]]
        banks[name] = torch.tensor(filters, dtype=torch.float64)
    return banks


def _wavelet_convolution(module: Any) -> _Trial:
    channels, conv = module.base_conv.in_channels, module.base_conv
    haar = torch.cat(wavelet_kernels("db1", channels))
    kernels = torch.cat([module.wt_filter.detach(), module.iwt_filter.detach()]).to(haar)
    if kernels.shape != haar.shape or not torch.allclose(kernels, haar, rtol=0, atol=_ROUNDING):
        raise ExportError("its wavelet is not Haar")
    layer = WTConv2d(
        channels,
        channels,
        conv.kernel_size[0],
        module.stride,
        bias=conv.bias is not None,
        wt_levels=module.wt_levels,
    )
    _fill(layer, module)
    side = 2**module.wt_levels
    return _Trial(layer, [noise(1, channels, side + 3, 2 * side + 1)])


def _waveblock(module: Any) -> _Trial:
    levels = int(re.sub(r"\D", "", type(module).__name__))
    feed = module.feedforward if levels == 1 else module.feedforward1
    dim = module.reduction.in_channels
    layer = LadderBlock(
        dim,
        feed[3].out_channels,
        mult=feed[0].out_channels // dim,
        levels=levels,
        dropout=feed[2].p,
    )
    _fill(layer, module)
    return _Trial(layer, [noise(1, dim, 2 * 2**levels, 3 * 2**levels)])


def _compressed(module: Any) -> _Trial:
    layer = PublishedWCC(
        module.in_channels,
        module.out_channels,
        bias=module.bias is not None,
        levels=module.levels,
        ratio=module.compress_rate,
        weight_bits=module.bit_w,
        activation_bits=module.bit_a,
        wavelet=module.wt_type,
    )
    _fill(layer, module)
    side = 2**module.levels
    return _Trial(layer, [noise(1, module.in_channels, 2 * side, 3 * side)])


def _joined_analysis(module: Any) -> _Trial:
    return _Trial(joined_analysis(module), [noise(2, 3, 6, 10)])


def _joined_synthesis(module: Any) -> _Trial:
    return _Trial(joined_synthesis(module), [noise(2, 12, 3, 5)])


# Class name, attributes that tell it from others of that name, and what builds its replacement.
# Where there are none to tell by, it is a layer without weights.
_PUBLISHED: tuple[tuple[str, tuple[str, ...], _Builder], ...] = (
    ("DWTForward", ("h0_col", "h1_col", "h0_row", "h1_row", "J", "mode"), _analysis),
    ("DWTInverse", ("g0_col", "g1_col", "g0_row", "g1_row", "mode"), _synthesis),
    (
        "_?WTConv2d",
        ("wt_filter", "iwt_filter", "base_conv", "base_scale", "wavelet_convs", "wt_levels"),
        _wavelet_convolution,
    ),
    ("Level[1-4]Waveblock", ("reduction",), _waveblock),
    ("WCC", ("wt_filters", "iwt_filters", "compress_rate", "bit_w", "bit_a"), _compressed),
    (r"(?i).*(idwt|iwt|inverse_?(haar|wavelet)).*", (), _joined_synthesis),
    (r"(?i).*(dwt|haar|wavelet).*", (), _joined_analysis),
)
