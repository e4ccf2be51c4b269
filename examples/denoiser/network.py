"""A small denoiser out of wavelet convolutions: ``factory`` is what ``--arch`` takes."""

from __future__ import annotations

from torch import Tensor, nn

from waveedge.nn import WTConv2d
from waveedge.spec import ModelSpec

__all__ = ["Denoiser", "factory"]


class Block(nn.Module):
    """Mix positions by a depthwise wavelet conv, then channels by two 1x1 convs; add the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = WTConv2d(channels, channels, kernel_size=5, wt_levels=2)
        self.widen = nn.Conv2d(channels, 2 * channels, 1)
        self.activation = nn.GELU()
        self.narrow = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.narrow(self.activation(self.widen(self.spatial(x))))
        return x + mixed


class Denoiser(nn.Module):
    """Predict the noise at half resolution and take it off.

    Maps a noisy image (N, 3, H, W), float32 around 0..1, to the image without noise, of the same
    shape. H and W must be even.

    Attributes:
        spec: what waveedge cannot see in the weights.
    """

    spec = ModelSpec(
        family="custom",
        arch="network:factory",
        task="restoration",
        input_size=(128, 128),
        size_multiple=2,
    )

    def __init__(self, channels: int = 32, depth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(depth)))
        self.head = nn.ConvTranspose2d(channels, 3, 4, stride=2, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        noise: Tensor = self.head(self.blocks(self.stem(noisy)))
        return noisy - noise


def factory() -> nn.Module:
    """Build the network that ``model.pt`` holds the weights of."""
    return Denoiser()
