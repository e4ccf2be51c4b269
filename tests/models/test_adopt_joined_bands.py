"""Haar transforms written with slices are taken over, whatever order and signs they have."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from waveedge.compression.reparameterize import reparameterize
from waveedge.models.adopt import adopt_published
from waveedge.nn import DWT2d, IDWT2d
from waveedge.normalise import normalise


def cells(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels of 2x2 cells: column by column, as MWCNN numbers them."""
    return x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]


class DWT(nn.Module):
    """MWCNN's: halves, sums, and the bands joined."""

    scale = 0.5

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d = (part * self.scale for part in cells(x))
        return torch.cat([a + b + c + d, -a - b + c + d, -a + b - c + d, a - b - c + d], 1)


class IWT(nn.Module):
    """Its inverse: into a map of zeros, slice by slice, in float32 whatever it reads."""

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        a, b, c, d = (part / 2 for part in x.split(channels // 4, 1))
        y = torch.zeros([n, channels // 4, 2 * height, 2 * width]).float()
        y[:, :, 0::2, 0::2] = a - b - c + d
        y[:, :, 1::2, 0::2] = a - b + c - d
        y[:, :, 0::2, 1::2] = a + b - c - d
        y[:, :, 1::2, 1::2] = a + b + c + d
        return y


class HaarAverages(DWT):
    """A quarter for a half: averages, which Haar's bands are twice of."""

    scale = 0.25


class Denoiser(nn.Module):
    """A small MWCNN: two levels, convolutions between, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.DWT, self.IWT = DWT(), IWT()
        self.head = nn.Conv2d(3, 4, 3, padding=1)
        self.down = nn.Conv2d(16, 6, 3, padding=1)
        self.up = nn.Conv2d(6, 16, 3, padding=1)
        self.tail = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        z = self.down(self.DWT(y)).relu()
        out: Tensor = self.tail(self.IWT(self.up(z)) + y) + x
        return out


@pytest.mark.parametrize("layer", [DWT(), HaarAverages()], ids=["halves", "quarters"])
def test_an_analysis_is_taken_over_with_signs_order_and_scale(layer: nn.Module) -> None:
    model, (adoption,) = adopt_published(nn.Sequential(layer))
    assert adoption.replacement == "JoinedDWT"
    assert any(isinstance(module, DWT2d) for module in model.modules())
    x = torch.randn(2, 5, 8, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(x), layer(x), rtol=0, atol=1e-6)


def test_a_synthesis_is_taken_over() -> None:
    layer = IWT()
    model, (adoption,) = adopt_published(nn.Sequential(layer))
    assert adoption.replacement == "JoinedIDWT"
    assert any(isinstance(module, IDWT2d) for module in model.modules())
    x = torch.randn(2, 20, 4, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(x), layer(x), rtol=0, atol=1e-6)


class WaveletPool(nn.Module):
    """A wavelet by its name alone."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d = cells(x)
        return torch.cat([a + b, a - b, c * d, d], 1)


class DWTLearned(DWT):
    """A transform of which training changes the scale."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain


class HaarNet(nn.Sequential):
    """A network by the name of a transform."""


@pytest.mark.parametrize("layer", [WaveletPool(), DWTLearned()], ids=["another", "learned"])
def test_a_name_alone_changes_nothing(layer: nn.Module) -> None:
    model, adoptions = adopt_published(nn.Sequential(layer))
    assert not any(adoption.replacement for adoption in adoptions)
    assert model[0] is layer  # type: ignore[index]


def test_a_network_of_such_a_name_is_looked_into() -> None:
    _, (adoption,) = adopt_published(HaarNet(DWT()))
    assert (adoption.name, adoption.replacement) == ("0", "JoinedDWT")


def test_a_denoiser_computes_the_same_and_folds() -> None:
    torch.manual_seed(0)
    net = Denoiser().eval()
    normal = normalise(net, (3, 16, 24))
    assert len(normal.adopted) == 2  # type: ignore[arg-type]
    small = reparameterize(normal, (16, 24))
    assert not small.left_out
    assert not any(isinstance(module, DWT2d | IDWT2d) for module in small.modules())
    x = torch.randn(1, 3, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(small(x), net(x), rtol=0, atol=1e-5)
