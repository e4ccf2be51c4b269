"""Two-dimensional discrete wavelet transforms as plain convolutions.

One level is three steps, each a fixed tensor operation with no loop and no data-dependent shape:

1. *extend* the image at its borders as the mode says (``Pad``, or ``Gather`` of constant indices),
2. *filter* with stride 2: a low and a high band per axis (``Conv``),
3. *group* the 4C outputs as (C, 4): low, then the three detail bands.

The inverse filters with ``ConvTranspose``. Borders, sizes and band order are those of
``pytorch_wavelets`` (F. Cotter, 2019), so either library reads the other's coefficients:
band 1 is high-pass along the height, band 2 along the width, band 3 along both.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pywt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveedge.errors import RecipeError

__all__ = ["DWT2d", "IDWT2d", "Mode"]

Mode = Literal["zero", "symmetric", "reflect", "periodization", "periodic"]

_NUMPY_PAD: dict[str, Literal["symmetric", "reflect", "wrap"]] = {
    "symmetric": "symmetric",
    "reflect": "reflect",
    "periodic": "wrap",
}
_MODES = ("zero", "periodization", *_NUMPY_PAD)


class DWT2d(nn.Module):
    """Two-dimensional discrete wavelet transform of each channel.

    Equal to ``pytorch_wavelets.DWTForward(levels, wavelet, mode)``. The filters are buffers that
    stay out of the state dict; like that library's they are made in ``dtype`` (default: torch's
    default) and then follow the module, so ask for ``dtype=torch.float64`` where their last digits
    matter: ``.double()`` keeps filters that were rounded to float32.

    >>> low, details = DWT2d(levels=2)(torch.zeros(1, 3, 32, 48))
    >>> tuple(low.shape), [tuple(detail.shape) for detail in details]
    ((1, 3, 8, 12), [(1, 3, 3, 16, 24), (1, 3, 3, 8, 12)])

    Args:
        levels: number of levels; level l + 1 transforms the low band of level l.
        wavelet: name of any discrete PyWavelets wavelet.
        mode: how the image continues beyond its border.
        dtype: floating-point type of the filters.

    Raises:
        RecipeError: no level, or an unknown wavelet or mode.
    """

    filters: Tensor

    def __init__(
        self,
        levels: int = 1,
        wavelet: str = "db1",
        mode: str = "zero",
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if levels < 1:
            raise RecipeError(
                f"DWT2d: levels is {levels}", hint="Use 1 or more levels of decomposition."
            )
        self.levels = levels
        self.wavelet = wavelet
        self.mode = checked_mode(mode)
        bank = filter_bank(wavelet)
        # Convolution layers correlate: the analysis filters are stored reversed in time.
        analysis = [bank.analysis_low[::-1], bank.analysis_high[::-1]]
        self.register_buffer(
            "filters",
            torch.tensor(analysis, dtype=dtype or torch.get_default_dtype()),
            persistent=False,
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Transforms ``x`` of shape (N, C, H, W).

        Returns:
            The low band (N, C, h, w) of the last level, and the detail bands (N, C, 3, h, w) of
            every level, finest first.
        """
        low, details = x, []
        for _ in range(self.levels):
            bands = self._analyse(low)
            low = bands[:, :, 0]
            details.append(bands[:, :, 1:])
        return low, details

    def _analyse(self, x: Tensor) -> Tensor:
        channels, taps = x.shape[1], self.filters.shape[1]
        x = _extend(x, taps, self.mode)
        if taps == 2:
            # As many multiply-adds as two passes, and one pass over memory.
            kernel = outer(self.filters).repeat(channels, 1, 1, 1)
            x = F.conv2d(x, kernel, stride=2, groups=channels)
        else:
            rows = self.filters.reshape(2, 1, 1, taps).repeat(channels, 1, 1, 1)
            columns = self.filters.reshape(2, 1, taps, 1).repeat(2 * channels, 1, 1, 1)
            x = F.conv2d(x, rows, stride=(1, 2), groups=channels)
            x = F.conv2d(x, columns, stride=(2, 1), groups=2 * channels)
        return x.reshape(x.shape[0], channels, 4, *x.shape[2:])

    def extra_repr(self) -> str:
        return f"levels={self.levels}, wavelet={self.wavelet!r}, mode={self.mode!r}"


class IDWT2d(nn.Module):
    """Inverse of :class:`DWT2d`; equal to ``pytorch_wavelets.DWTInverse(wavelet, mode)``.

    The result has even height and width: crop it where the transformed image had an odd one.
    With mode ``periodization`` the inverse is exact as long as no level is smaller than the
    filter (``pytorch_wavelets`` wraps once around the image, and so does this).

    Args:
        wavelet: name of any discrete PyWavelets wavelet.
        mode: the mode of the forward transform.
        dtype: floating-point type of the filters (default: torch's default).

    Raises:
        RecipeError: an unknown wavelet or mode.
    """

    filters: Tensor

    def __init__(
        self, wavelet: str = "db1", mode: str = "zero", *, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.wavelet = wavelet
        self.mode = checked_mode(mode)
        bank = filter_bank(wavelet)
        self.register_buffer(
            "filters",
            torch.tensor(
                [bank.synthesis_low, bank.synthesis_high], dtype=dtype or torch.get_default_dtype()
            ),
            persistent=False,
        )

    def forward(self, coefficients: tuple[Tensor, Sequence[Tensor | None]]) -> Tensor:
        """Rebuilds (N, C, H, W) from ``(low, details)``, details finest first.

        A level whose details are None is taken as zero.
        """
        low, details = coefficients
        for detail in reversed(details):
            if detail is None:
                detail = low.new_zeros((*low.shape[:2], 3, *low.shape[2:]))
            # An odd size one level up came back one larger: the details know the true size.
            low = low[..., : detail.shape[-2], : detail.shape[-1]]
            low = self._synthesise(torch.cat([low.unsqueeze(2), detail], dim=2))
        return low

    def _synthesise(self, bands: Tensor) -> Tensor:
        channels, taps = bands.shape[1], self.filters.shape[1]
        x = bands.flatten(1, 2)
        if self.mode == "periodization":
            x = _extend_coefficients(x, taps)
        crop = taps - 2
        if taps == 2:
            kernel = outer(self.filters).repeat(channels, 1, 1, 1)
            x = F.conv_transpose2d(x, kernel, stride=2, groups=channels)
        else:
            columns = self.filters.reshape(2, 1, taps, 1).repeat(2 * channels, 1, 1, 1)
            rows = self.filters.reshape(2, 1, 1, taps).repeat(channels, 1, 1, 1)
            x = F.conv_transpose2d(
                x, columns, stride=(2, 1), padding=(crop, 0), groups=2 * channels
            )
            x = F.conv_transpose2d(x, rows, stride=(1, 2), padding=(0, crop), groups=channels)
        if self.mode == "periodization":
            for dim in (-2, -1):
                shift = _rotation(x.shape[dim], taps // 2 - 1)
                if shift:
                    x = torch.roll(x, -shift, dims=dim)
        return x

    def extra_repr(self) -> str:
        return f"wavelet={self.wavelet!r}, mode={self.mode!r}"


class FilterBank(NamedTuple):
    """The four filters of a wavelet in PyWavelets' order; all have the same even length."""

    analysis_low: list[float]
    analysis_high: list[float]
    synthesis_low: list[float]
    synthesis_high: list[float]


def filter_bank(wavelet: str) -> FilterBank:
    """Filters of a discrete PyWavelets wavelet; raises RecipeError where there is none."""
    try:
        return FilterBank(*pywt.Wavelet(wavelet).filter_bank)
    except (ValueError, TypeError, AttributeError) as error:
        raise RecipeError(
            f"{wavelet!r} is not a discrete wavelet of PyWavelets",
            hint="Use a name of pywt.wavelist(kind='discrete'), such as db1, sym4 or bior2.2.",
        ) from error


def checked_mode(mode: str) -> Mode:
    """The mode under its full name; raises RecipeError where it is unknown."""
    full = "periodization" if mode == "per" else mode
    if full not in _MODES:
        raise RecipeError(
            f"{mode!r} is not a border mode of the wavelet transform",
            hint=f"Use one of {', '.join(_MODES)}.",
        )
    return full  # type: ignore[return-value]


def outer(filters: Tensor) -> Tensor:
    """(2, taps) filters as the four separable kernels (4, 1, taps, taps) in band order."""
    taps = filters.shape[1]
    kernels = filters.reshape(2, 1, 1, taps) * filters.reshape(1, 2, taps, 1)
    return kernels.reshape(4, 1, taps, taps)


def _extend(x: Tensor, taps: int, mode: Mode) -> Tensor:
    """Continues an image beyond its borders by what one level of analysis reads there."""
    pads: list[int] = []
    for dim in (-1, -2):
        size = x.shape[dim]
        if mode == "zero":
            pads += [taps - 2, taps - 2 + size % 2]
            continue
        zeros, sources = _border(size, taps, mode)
        pads += [zeros, 0]
        x = _select(x, sources, dim)
    return F.pad(x, pads) if any(pads) else x


def _extend_coefficients(x: Tensor, taps: int) -> Tensor:
    """Wraps periodic coefficients around, so that a cropped transposed conv is circular."""
    pads: list[int] = []
    reach = taps // 2 - 1
    for dim in (-1, -2):
        size = x.shape[dim]
        wrapped = min(reach, size)
        pads += [reach - wrapped, 0]
        x = _select(x, (*range(size - wrapped, size), *range(size)), dim)
    return F.pad(x, pads) if any(pads) else x


@functools.lru_cache(maxsize=1024)
def _border(size: int, taps: int, mode: Mode) -> tuple[int, tuple[int, ...]]:
    """Leading zeros, then the source position of every sample of an extended axis."""
    if mode != "periodization":
        reach = (taps - 2, taps - 2 + size % 2)
        extended = np.pad(np.arange(size), reach, mode=_NUMPY_PAD[mode])
        return 0, tuple(extended.tolist())
    circle = [*range(size), *[size - 1] * (size % 2)]
    shift = _rotation(len(circle), taps // 2)
    circle = circle[shift:] + circle[:shift]
    wrapped = min(taps - 1, len(circle))
    return taps - 1 - wrapped, (*circle[len(circle) - wrapped :], *circle[:-1])


def _rotation(size: int, shift: int) -> int:
    """How far pytorch_wavelets turns a periodic axis by ``shift``.

    Images smaller than half a filter are turned once at most, not modulo their size; we follow,
    because a network trained with that library expects its numbers.
    """
    return shift % size if shift <= size else min(shift - size, size) % size


def _select(x: Tensor, sources: tuple[int, ...], dim: int) -> Tensor:
    if sources == tuple(range(x.shape[dim])):
        return x
    return x.index_select(dim, torch.tensor(sources, device=x.device))
