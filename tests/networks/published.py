"""Parts of networks that people publish, each small: restoration, classification, segmentation,
transformers, style transfer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Restoration(nn.Module):
    """Residual blocks with in-place activations, upsampled by pixels and by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1),
                nn.LeakyReLU(0.2, True),
                nn.Conv2d(8, 8, 3, padding=1),
            )
            for _ in range(2)
        )
        self.up = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 12, 3, padding=1)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = skip = self.first(x)
        for block in self.blocks:
            y = y + block(y) * 0.2
        y = F.interpolate(y + skip, scale_factor=2, mode="nearest")
        y = F.pixel_shuffle(self.last(self.act(self.up(y))), 2)
        return y + F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)


class Mobile(nn.Module):
    """Inverted residuals: depthwise, squeeze-and-excitation, hard activations, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(inplace=True)
        )
        self.expand = nn.Sequential(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.ReLU6(inplace=True))
        self.depthwise = nn.Conv2d(16, 16, 5, padding=4, dilation=2, groups=16)
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(16, 4, 1),
            nn.ReLU(),
            nn.Conv2d(4, 16, 1),
            nn.Hardsigmoid(),
        )
        self.project = nn.Sequential(nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        z = self.depthwise(self.expand(y))
        out: Tensor = self.head(y + self.project(z * self.squeeze(z)))
        return out


class Shuffle(nn.Module):
    """Channel split and shuffle; grouped convolutions; average pooling with a remainder."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.branch = nn.Sequential(
            nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1, groups=4), nn.Conv2d(4, 4, 1)
        )
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.pool = nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)
        self.fc = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.split(F.relu(self.stem(x)), [4, 4], dim=1)
        y = torch.cat((left, self.branch(right)), dim=1)
        b, c, h, w = y.size()
        y = y.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        y = self.pool(F.max_pool2d(F.relu(self.grouped(y)), 2))
        out: Tensor = self.fc(y.amax((2, 3)))
        return out


class UNet(nn.Module):
    """Transposed convolutions with output padding; skips cropped and padded to fit; two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True))
        self.down2 = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(True))
        self.up = nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.mix = nn.Conv2d(16, 8, 3, padding="same", padding_mode="replicate")
        self.head = nn.Conv2d(8, 4, 1)
        self.aux = nn.ConvTranspose2d(16, 4, 4, stride=2, padding=1, groups=4)

    def forward(self, x: Tensor) -> list[Tensor]:
        skip = self.down1(x)
        low = self.down2(skip)
        up = self.up(low)
        dy, dx = skip.size(2) - up.size(2), skip.size(3) - up.size(3)
        up = F.pad(up, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return [self.head(F.relu(self.mix(torch.cat([skip, up], 1)))), self.aux(low)]


class Style(nn.Module):
    """Reflection padding, instance norm, interpolation by size and by scale, tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(2)
        self.a = nn.Conv2d(3, 8, 5)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1, padding_mode="reflect")
        self.group = nn.GroupNorm(4, 16)
        self.c = nn.Conv2d(16, 8, 1)
        self.out = nn.Conv2d(8, 3, 3, padding=1, padding_mode="circular")

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.a(self.pad(x))))
        z = self.c(F.elu(self.group(self.down(y))))
        z = F.interpolate(z, size=y.shape[-2:], mode="bilinear", align_corners=True)
        w = F.interpolate(F.avg_pool2d(y, 2), scale_factor=2, mode="bicubic", align_corners=False)
        return torch.tanh(self.out(y + z + w)) * 0.5 + 0.5


class Activations(nn.Module):
    """Many activations, as modules and as functions."""

    def __init__(self) -> None:
        super().__init__()
        acts = (
            nn.SiLU(), nn.PReLU(8), nn.Mish(), nn.ELU(0.5), nn.Softplus(), nn.Hardtanh(-1, 2),
            nn.GELU("tanh"), nn.LeakyReLU(0.3), nn.SELU(), nn.CELU(), nn.Softsign(),
            nn.LogSigmoid(),
        )  # fmt: skip
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1)]
        for act in acts:
            layers += [act, nn.Conv2d(8, 8, 1)]
        self.body = nn.Sequential(*layers)
        self.gated = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.glu(self.body(x), dim=1)
        y = self.gated(y * torch.sigmoid(y)) + F.hardswish(y) - F.softshrink(y).exp().log1p()
        return torch.minimum(y, torch.ones_like(y)).softmax(1)


class Attention(nn.Module):
    """A windowed transformer block: roll, windows, a bias table by index."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, stride=4)
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16, bias=False)
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        self.table = nn.Parameter(torch.randn(7, 2) * 0.1)
        self.register_buffer("index", torch.arange(4)[:, None] - torch.arange(4)[None] + 3)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def windows(self, y: Tensor) -> Tensor:
        b, h, w, c = y.shape
        return y.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x).permute(0, 2, 3, 1)
        b, h, w, c = y.shape
        cut = self.windows(torch.roll(self.norm1(y), (-1, -1), (1, 2)))
        q, k, v = self.qkv(cut).reshape(-1, 4, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(4, 4, 2).permute(2, 0, 1)
        scores = (q @ k.transpose(-2, -1) / 8**0.5 + bias).softmax(-1)
        cut = self.proj(torch.einsum("bhij,bhjd->bhid", scores, v).transpose(1, 2).flatten(2))
        back = cut.view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        tokens = (y + torch.roll(back, (1, 1), (1, 2))).flatten(1, 2)
        out: Tensor = self.head((tokens + self.mlp(self.norm2(tokens))).mean(1))
        return out


class ChannelAttention(nn.Module):
    """Attention over channels of normalised queries, with a learnt temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(3, 24, 1)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.temperature = nn.Parameter(torch.ones(2, 1, 1))
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        q, k, v = (
            part.reshape(b, 2, 4, h * w) for part in self.depthwise(self.qkv(x)).chunk(3, dim=1)
        )
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature
        y = F.scaled_dot_product_attention(q, k, v) + scores.softmax(-1) @ v
        return x + self.out(y.reshape(b, 8, h, w))


class Moves(nn.Module):
    """Unfold and fold, grids, flips, stacks, pixel unshuffle, indices, repeated values."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(36, 4, 1)
        self.c = nn.Conv2d(16, 8, 1)
        self.out = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        b, c, h, w = y.shape
        y = self.b(F.unfold(y, 3, padding=1).view(b, c * 9, h, w)).flip(3)
        z = F.fold(F.unfold(y, 2, stride=2), (h, w), 2, stride=2)
        theta = torch.tensor([[[0.9, 0.1, 0.0], [-0.1, 0.9, 0.1]]]).expand(b, -1, -1)
        grid = F.affine_grid(theta, [b, c, h, w], align_corners=False)
        z = F.grid_sample(z, grid, mode="bilinear", padding_mode="border", align_corners=False)
        low = self.c(F.pixel_unshuffle(z, 2))[:, [0, 2, 1, 3]].repeat_interleave(2, 2)
        wide = torch.stack([low, low], -1).flatten(-2)
        out: Tensor = self.out(torch.max(y, wide) + z.repeat(1, 1, 1, 1))
        return out


class Fourier(nn.Module):
    """Convolutions in the frequency domain beside one in space."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.spectral = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x))
        spectrum = torch.fft.rfft2(y, norm="ortho")
        both = F.relu(self.spectral(torch.cat([spectrum.real, spectrum.imag], 1)))
        real, imaginary = both.chunk(2, 1)
        y = y + torch.fft.irfft2(torch.complex(real, imaginary), s=y.shape[-2:], norm="ortho")
        out: Tensor = self.head(y)
        return out


class Dynamic(nn.Module):
    """A convolution whose kernels are computed from the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.kernels = nn.Linear(4, 36)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x))
        kernels = self.kernels(y.mean((0, 2, 3))).view(4, 1, 3, 3).softmax(0)
        out: Tensor = self.head(F.conv2d(y, kernels, padding=1, groups=4))
        return out


class Volume(nn.Module):
    """A three-dimensional convolution over stacked channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.volume = nn.Conv3d(1, 2, 3, padding=1)
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.volume(F.relu(self.stem(x)).unsqueeze(1))
        out: Tensor = self.head(y.flatten(1, 2))
        return out


NETWORKS: dict[str, type[nn.Module]] = {
    "restoration": Restoration,
    "mobile": Mobile,
    "shuffle": Shuffle,
    "unet": UNet,
    "style": Style,
    "activations": Activations,
    "attention": Attention,
    "channel attention": ChannelAttention,
    "moves": Moves,
    "fourier": Fourier,
    "dynamic": Dynamic,
    "volume": Volume,
}
