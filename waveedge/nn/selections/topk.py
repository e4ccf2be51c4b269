"""The published selection: the k strongest coefficients (WCC; Finder et al., arXiv 2205.12268).

A 1x1 convolution acts on every pixel alone, so it may as well act on every coefficient of a
wavelet transform; there, most of an image's energy sits in few positions, and the rest is skipped:

    transform -> keep the k positions of largest energy -> quantize -> 1x1 conv
        -> put back, zeros elsewhere -> inverse transform -> add the bias
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveedge.errors import RecipeError
from waveedge.nn.coefficients import pack, transform_multiply_adds, unpack
from waveedge.nn.dwt import DWT2d, IDWT2d
from waveedge.nn.quantizers import WeightQuantizer, activation_quantizer, weight_quantizer
from waveedge.nn.selection import Selection

__all__ = ["SELECTION", "TOPK_LIMIT", "WaveletCompressedConv2d"]

TOPK_LIMIT = 3840
"""The largest k for which TensorRT builds a TopK."""


class WaveletCompressedConv2d(Selection):
    """A 1x1 convolution that keeps only the strongest wavelet coefficients of its input.

    The energy of a position is the sum of its squared coefficients over the channels; all channels
    share the positions that are kept. Other than in the authors' layer, the bias is added to the
    image and not to the coefficients, so that with ratio 1 and no quantizers this *is* the 1x1
    convolution (for the authors' layer see :class:`~waveedge.nn.PublishedWCC`).

    Every level that has an odd size repeats its last row or column, so any image is transformed
    exactly. Zeros would do as well for the sum, but put an edge there, whose coefficients take
    places from the image, and whose bands tie in energy, so that two runtimes would keep
    different ones. Sizes that 2^levels divides need no padding and are the published definition.

    Args:
        in_channels: channels I of the input.
        out_channels: channels O of the output.
        levels: wavelet levels.
        ratio: share of the positions that is kept, in (0, 1].
        weight_bits: 2 to 8, or 32 for a float weight.
        activation_bits: 2 to 8, or 32 for float coefficients.
        wavelet: any discrete PyWavelets wavelet.
        bias: whether to add a bias.
        tiles: number of top-k selections that share the work. 1 is the published definition. With
            T tiles, tile t selects among the positions p with p mod T == t: an even sample of all
            bands, so that the union differs little from one selection. An exporter's limit on k
            sets it: see :meth:`tiles_for`.

    Attributes:
        weight: parameter (O, I, 1, 1), as in ``nn.Conv2d``.
        bias: parameter (O,) or None, as in ``nn.Conv2d``.
        weight_quantizer: :class:`~waveedge.nn.WeightQuantizer` or identity.
        activation_quantizer: :class:`~waveedge.nn.ActivationQuantizer` or identity; it quantizes
            the coefficients that were kept.

    Raises:
        RecipeError: a value out of range, or an unknown wavelet.
    """

    selection = "topk"
    arguments = (
        "in_channels out_channels bias levels ratio wavelet weight_bits activation_bits tiles"
    )
    chooses_by = "TopK"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        levels: int = 3,
        ratio: float = 0.5,
        weight_bits: int = 8,
        activation_bits: int = 8,
        wavelet: str = "db1",
        bias: bool = True,
        tiles: int = 1,
    ) -> None:
        super().__init__()
        if not 0 < ratio <= 1:
            raise RecipeError(
                f"WCC ratio is {ratio}",
                hint="Use a share in (0, 1]: 0.5 keeps half of the coefficients, 1 all of them.",
            )
        if tiles < 1:
            raise RecipeError(f"WCC in {tiles} tiles", hint="Use 1 tile or more.")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.levels = levels
        self.ratio = ratio
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        self.wavelet = wavelet
        self.tiles = tiles

        self.transform = DWT2d(levels, wavelet, "periodization")
        self.inverse = IDWT2d(wavelet, "periodization")
        conv = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
        self.weight, self.bias = conv.weight, conv.bias
        self.weight_quantizer = weight_quantizer(weight_bits, out_channels)
        # Wavelet coefficients have both signs, and the published grid is signed.
        self.activation_quantizer = activation_quantizer(activation_bits, zero_is_open=False)
        self._fit_weight()

    @classmethod
    def refusal(cls, map_size: tuple[int, int], levels: int) -> str:
        """See :class:`~waveedge.nn.selection.Selection`."""
        height, width = map_size
        smallest = 2 ** (levels + 1)
        if min(height, width) >= smallest:
            return ""
        return (
            f"feature map {height}x{width} is smaller than {smallest}x{smallest}, "
            f"which {levels} levels need"
        )

    @classmethod
    def compress(
        cls,
        conv: nn.Conv2d,
        map_size: tuple[int, int],
        *,
        levels: int,
        ratio: float,
        weight_bits: int,
        activation_bits: int,
    ) -> WaveletCompressedConv2d:
        """See :class:`~waveedge.nn.selection.Selection`."""
        layer = cls.from_conv(
            conv,
            levels=levels,
            ratio=ratio,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
        )
        # TensorRT limits the size of one selection; the tiling is part of what is calibrated.
        layer.tiles = layer.tiles_for(*map_size)
        return layer

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        *,
        levels: int = 3,
        ratio: float = 0.5,
        weight_bits: int = 8,
        activation_bits: int = 8,
        wavelet: str = "db1",
        tiles: int = 1,
    ) -> WaveletCompressedConv2d:
        """A compressed copy of a 1x1 convolution; its weight scales are fitted.

        The activation quantizer still has to be calibrated.

        Raises:
            RecipeError: the convolution is not 1x1 with stride 1, one group and no padding.
        """
        shape = (conv.kernel_size, conv.stride, conv.groups, conv.padding)
        if shape not in (((1, 1), (1, 1), 1, (0, 0)), ((1, 1), (1, 1), 1, "same")):
            raise RecipeError(
                f"WCC cannot replace {conv}",
                hint="Only 1x1 convolutions with stride 1, one group and no padding qualify.",
            )
        new = cls(
            conv.in_channels,
            conv.out_channels,
            levels=levels,
            ratio=ratio,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            wavelet=wavelet,
            bias=conv.bias is not None,
            tiles=tiles,
        )
        new.to(device=conv.weight.device, dtype=conv.weight.dtype)
        new.weight.data.copy_(conv.weight.data)
        if new.bias is not None and conv.bias is not None:
            new.bias.data.copy_(conv.bias.data)
        new._fit_weight()
        return new.train(conv.training)

    def to_conv(self) -> nn.Conv2d:
        """The plain 1x1 convolution with this layer's weight and bias, in floating point."""
        conv = nn.Conv2d(self.in_channels, self.out_channels, 1, bias=self.bias is not None)
        conv.to(device=self.weight.device, dtype=self.weight.dtype)
        conv.weight.data.copy_(self.weight.data)
        if conv.bias is not None and self.bias is not None:
            conv.bias.data.copy_(self.bias.data)
        return conv.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, I, H, W) to (N, O, H, W)."""
        height, width = x.shape[-2:]
        low, details = self._transform(x)
        convolved = self._convolve(self._tiled(low, details)).flatten(2)
        sizes = [detail.shape[-2:] for detail in details]
        y: Tensor = self.inverse(unpack(convolved, sizes))[..., :height, :width]
        return y if self.bias is None else y + self.bias.reshape(1, -1, 1, 1)

    def selected(self, x: Tensor) -> Tensor:
        """The positions that ``x`` (N, I, H, W) keeps: (N, k * tiles) int64, in no set order.

        Position p counts through the low band, then the detail bands from coarse to fine, each row
        by row. Index i of tile t in the exported TopK is position ``i * tiles + t``.
        """
        coefficients = self._tiled(*self._transform(x))
        if self.ratio == 1:
            positions = self.positions(*x.shape[-2:])
            return torch.arange(positions, device=x.device).expand(x.shape[0], -1)
        indices = self._select(_energy(coefficients))
        tile = torch.arange(self.tiles, device=x.device)
        return (indices * self.tiles + tile).flatten(1)

    def indices(self, x: Tensor) -> Tensor | None:
        """Indices (N, k, tiles) of the TopK; None where everything is kept."""
        if self.ratio == 1:
            return None
        positions = self.selected(x)
        return positions.reshape(len(positions), -1, self.tiles) // self.tiles

    def kept_coefficients(self, x: Tensor) -> Tensor:
        """What the 1x1 convolution inside reads: (N, I, k, tiles), quantized."""
        coefficients = self._tiled(*self._transform(x))
        if self.ratio < 1:
            chosen = self._select(_energy(coefficients)).unsqueeze(1)
            coefficients = coefficients.gather(2, chosen.expand(-1, self.in_channels, -1, -1))
        kept: Tensor = self.activation_quantizer(coefficients)
        return kept

    def multiply_adds(self, height: int, width: int) -> tuple[int, int]:
        """Of the kept coefficients, and of both transforms; the latter alone."""
        kept = self.kept(height, width)
        transforms = transform_multiply_adds(
            self.in_channels + self.out_channels,
            self.map_size(height, width),
            levels=self.levels,
            taps=int(self.transform.filters.shape[-1]),
        )
        return kept * self.in_channels * self.out_channels + transforms, transforms

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """The size that is transformed: the image's, or the smallest that the wavelet inverts."""
        # The deepest level must not be shorter than the filter; for Haar any size will do.
        smallest = (self.transform.filters.shape[1] - 2) * 2 ** (self.levels - 1) + 1
        return max(height, smallest), max(width, smallest)

    def positions(self, height: int, width: int) -> int:
        """How many coefficients a channel of an image of this size has, all bands together."""
        rows, columns = self.map_size(height, width)
        details = 0
        for _ in range(self.levels):
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
            details += 3 * rows * columns
        return details + rows * columns

    def kept(self, height: int, width: int) -> int:
        """How many positions are kept of an image of this size, all tiles together."""
        positions = self.positions(height, width)
        return positions if self.ratio == 1 else self.tiles * self._share(positions, self.tiles)

    def tiles_for(self, height: int, width: int, limit: int = TOPK_LIMIT) -> int:
        """The fewest tiles with which no selection is larger than ``limit`` for this image size."""
        if self.ratio == 1:
            return 1
        positions = self.positions(height, width)
        return next(t for t in itertools.count(1) if self._share(positions, t) <= limit)

    def _share(self, positions: int, tiles: int) -> int:
        """How many positions each tile keeps."""
        return max(1, int(-(-positions // tiles) * self.ratio))

    def _transform(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        height, width = x.shape[-2:]
        rows, columns = self.map_size(height, width)
        if (rows, columns) != (height, width):
            x = F.pad(x, (0, columns - width, 0, rows - height), mode="replicate")
        transformed: tuple[Tensor, list[Tensor]] = self.transform(x)
        return transformed

    def _tiled(self, low: Tensor, details: list[Tensor]) -> Tensor:
        """All coefficients as (N, I, positions / tiles, tiles), filled up with zeros."""
        coefficients = pack(low, details)
        missing = -coefficients.shape[2] % self.tiles
        if missing:
            coefficients = F.pad(coefficients, (0, missing))
        return coefficients.reshape(*coefficients.shape[:2], -1, self.tiles)

    def _select(self, energy: Tensor) -> Tensor:
        """Indices (N, k, tiles) of the largest energies (N, positions / tiles, tiles) per tile."""
        return energy.topk(self._share(energy.shape[1], 1), dim=1).indices

    def _convolve(self, coefficients: Tensor) -> Tensor:
        """The 1x1 convolution of the kept coefficients; zeros elsewhere."""
        weight = self.weight_quantizer(self.weight)
        if self.ratio == 1:
            return F.conv2d(self.activation_quantizer(coefficients), weight)
        energy = _energy(coefficients)
        indices = self._select(energy).unsqueeze(1)
        kept = coefficients.gather(2, indices.expand(-1, self.in_channels, -1, -1))
        kept = F.conv2d(self.activation_quantizer(kept), weight)
        # Zeros that depend on the input: an exporter would store a constant as large as the image.
        zeros = energy.clamp(max=0).unsqueeze(1).expand(-1, self.out_channels, -1, -1)
        return zeros.scatter(2, indices.expand(-1, self.out_channels, -1, -1), kept)

    def _fit_weight(self) -> None:
        if isinstance(self.weight_quantizer, WeightQuantizer):
            self.weight_quantizer.fit(self.weight)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, levels={self.levels}, ratio={self.ratio}, "
            f"wavelet={self.wavelet!r}, bias={self.bias is not None}, tiles={self.tiles}"
        )


SELECTION = WaveletCompressedConv2d


def _energy(coefficients: Tensor) -> Tensor:
    """Sum of squares over the channels; it only ranks positions, so it carries no gradient."""
    detached = coefficients.detach()
    return (detached * detached).sum(dim=1)
