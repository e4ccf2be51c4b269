"""Networks whose code does what a plain graph of layers does not show: in-place writes, reused
modules, weights that are computed, shapes that are looked at."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm


class InPlace(nn.Module):
    """In-place activations that are read again, ``+=``, clamps and clones, assigned slices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        self.mix = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        z = self.mix(self.act(y))
        z += y
        kept = z.clone()
        z.clamp_(-0.2, 0.2).mul_(2)
        z[:, :4] = kept[:, 4:] * 0.5
        z[..., 0, :] = 0
        out: Tensor = self.head(torch.cat([z, y.sub_(kept)], 1))
        return out


class InPlaceOnViews(nn.Module):
    """Writes through chunks and transposed views, into an input and into a fresh buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(0.5)
        y = self.a(x)
        low, high = y.chunk(2, 1)
        low.relu_()
        high += low
        y.transpose(2, 3)[:, 1].neg_()
        canvas = torch.zeros_like(y)
        canvas[:, ::2] = y[:, 1::2]
        out: Tensor = self.b(y + canvas) + x.mean(1, keepdim=True)
        return out


class ComputedWeights(nn.Module):
    """Old and new weight norm, spectral norm, pruned weights, and a parametrized linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.old = weight_norm(nn.Conv2d(3, 8, 3, padding=1))
        self.new = parametrizations.weight_norm(nn.ConvTranspose2d(8, 8, 2, 2))
        self.power = spectral_norm(nn.Conv2d(8, 8, 1))
        self.sparse = nn.Conv2d(8, 8, 3, padding=1)
        prune.l1_unstructured(self.sparse, "weight", 0.4)
        prune.random_unstructured(self.power, "bias", amount=2)
        self.fc = nn.Linear(8, 5)
        parametrize.register_parametrization(self.fc, "weight", Symmetric())
        self.turn = parametrizations.orthogonal(nn.Linear(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.sparse(F.relu(self.power(self.new(F.relu(self.old(x))))))
        out: Tensor = self.turn(self.fc(y.mean((2, 3))))
        return out


class Symmetric(nn.Module):
    """Odd parametrization: every row without its mean."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight - weight.mean(1, keepdim=True)


class Shared(nn.Module):
    """One module under two names, a head called at two scales, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.PReLU(init=0.1)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Sequential(nn.Conv2d(8, 8, 1), self.act, nn.Conv2d(8, 6, 1))
        self.twin = nn.Conv2d(8, 8, 1)
        self.twin.weight = self.head[0].weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.stem(x))
        small = F.max_pool2d(self.act(self.twin(y)), 2)
        large: Tensor = F.interpolate(self.head(small), scale_factor=2, mode="nearest")
        return large + self.head(y)


class Hooked(nn.Module):
    """Hooks that change what goes into a layer and what comes out, one of them in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 3, 1)
        self.a.register_forward_hook(lambda _module, _inputs, output: output.relu_())
        self.b.register_forward_pre_hook(lambda _module, inputs: (inputs[0] * 2 - 1,))
        self.b.register_forward_hook(lambda _module, inputs, output: output + inputs[0][:, :3])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.a(x))
        return out


class Plain(nn.Conv2d):
    """A subclass that changes nothing."""


class Standardized(nn.Conv2d):
    """Weights with zero mean and unit variance, as of big-transfer ResNets."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        spread = self.weight.var((1, 2, 3), keepdim=True, unbiased=False)
        weight = (self.weight - mean) * torch.rsqrt(spread + 1e-5)
        return self._conv_forward(x, weight, self.bias)


class SamePadding(nn.Conv2d):
    """TensorFlow's "same": the padding follows from the size of the map."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for side, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        if any(pads):
            x = F.pad(x, pads)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class ScaledLinear(nn.Linear):
    """A gain on the weights, as of progressive GANs."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 0.7, self.bias)


class Upsampler(nn.ConvTranspose2d):
    """Trims what its own forward makes too much."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        return super().forward(x, output_size)[..., :-1, :-1]


class Subclasses(nn.Module):
    """Subclasses of layers, with and without a forward of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = Plain(3, 8, 3, padding=1)
        self.standard = Standardized(8, 8, 3, padding=1)
        self.same = SamePadding(8, 8, 5, stride=2, groups=8)
        self.up = Upsampler(8, 8, 3, stride=2)
        self.fc = ScaledLinear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.same(F.relu(self.standard(F.relu(self.plain(x))))))
        out: Tensor = self.fc(y.flatten(2).mean(-1))
        return out


class LooksAtSizes(nn.Module):
    """Branches, loops and integers that follow from ``x.shape``."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        below, beside = -height % 12, -width % 12
        if below or beside:
            x = F.pad(x, (0, beside, 0, below), mode="reflect")
        y = self.a(x)
        for _ in range(min(height, width).bit_length() - 3):
            y = F.avg_pool2d(y, 3, 1, 1)
        batch, channels = y.shape[:2]
        y = y.reshape(batch, channels, -1).softmax(-1).view(batch, channels, *x.shape[2:])
        out: Tensor = self.b(y * y.numel() / batch)
        return out[:, :, :height, :width]


class Constants(nn.Module):
    """Buffers and bare parameters in arithmetic; ``torch.where``; masks; positions."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("kernel", torch.ones(8, 1, 3, 3) / 9, persistent=False)
        self.gain = nn.Parameter(torch.rand(8, 1, 1))
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(10, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a((x - self.mean) / 0.25) * self.gain
        y = F.conv2d(y, self.kernel, padding=1, groups=8)
        y = torch.where(y > 0, y, 0.1 * y).masked_fill(y.abs() > 2, 0.0)
        rows = (
            torch.linspace(0, 1, x.shape[2]).view(1, 1, -1, 1).expand(x.shape[0], 1, -1, x.shape[3])
        )
        cols = torch.linspace(0, 1, x.shape[3]).expand(x.shape[0], 1, x.shape[2], -1)
        out: Tensor = self.b(torch.cat([y, rows, cols], 1)).clamp(0, 1)
        return out


class NestedOutputs(nn.Module):
    """A dict of lists and tuples, with None and numbers between the tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 2, 1)
        self.c = nn.Linear(8, 4)

    def forward(self, x: Tensor, scale: float = 0.5, mask: Tensor | None = None) -> dict[str, Any]:
        y = F.relu(self.a(x if mask is None else x * mask)) * scale
        pooled = self.c(y.mean((2, 3)))
        return {"maps": [self.b(y), None, (y, x.shape[0])], "logits": {"raw": pooled, "n": 4}}


NETWORKS: dict[str, type[nn.Module]] = {
    "in place": InPlace,
    "in place on views": InPlaceOnViews,
    "computed weights": ComputedWeights,
    "shared": Shared,
    "hooked": Hooked,
    "subclasses": Subclasses,
    "looks at sizes": LooksAtSizes,
    "constants": Constants,
    "nested outputs": NestedOutputs,
}
