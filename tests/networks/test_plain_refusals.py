"""What no bundle can hold is refused where a network is first looked at, with the line to blame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization

import waveedge
from waveedge.compression.reparameterize import reparameterize
from waveedge.errors import WaveedgeError
from waveedge.normalise import normalise
from waveedge.reference import FLOAT_ERROR, Reference


class _Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)


class Autocast(_Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y: Tensor = self.head(self.conv(x))
        return y.float()


class Masked(_Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.conv(x))
        return y[y > 0]


@dataclass
class Result:
    scores: Tensor


class ReturnsAnObject(_Base):
    def forward(self, x: Tensor) -> Result:
        return Result(self.head(self.conv(x)))


def quantized() -> nn.Module:
    return quantization.quantize_dynamic(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)), {nn.Linear}
    )


def prepared() -> nn.Module:
    net = nn.Sequential(quantization.QuantStub(), nn.Conv2d(3, 4, 3))
    net.qconfig = quantization.default_qconfig  # type: ignore[assignment]
    return quantization.prepare(net.eval())


def scripted() -> nn.Module:
    inner = torch.jit.script(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 2, 1)))
    return nn.Sequential(nn.Conv2d(3, 4, 3), inner)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (scripted, "1 is TorchScript"),
        (Autocast, "casts to bfloat16"),
        (Masked, "values as the image decides (aten.index.Tensor) at test_plain_refusals.py"),
        (ReturnsAnObject, "returns no tensor"),
        (quantized, "torch quantized this network already, first at 2"),
        (prepared, "torch quantized this network already, first at 0"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_that_cannot_ship_is_refused_by_inspect(
    make: Callable[[], nn.Module], said: str
) -> None:
    with pytest.raises(WaveedgeError) as caught:
        waveedge.inspect(make().eval(), (8, 8))
    assert said in caught.value.what
    assert caught.value.hint


def test_a_network_without_weights_is_not_compressed() -> None:
    images = np.random.default_rng(0).random((3, 3, 8, 8), np.float32)
    with pytest.raises(WaveedgeError, match="no convolution and no linear layer"):
        waveedge.compress(nn.Sequential(nn.AvgPool2d(2), nn.ReLU()).eval(), images)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_weights_may_be_of_any_precision(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).to(dtype)
    assert waveedge.inspect(net.eval(), (8, 8))["multiply_adds"] == 36 * (27 * 4 + 8)
    assert next(net.parameters()).dtype == dtype


def test_a_network_that_torch_exported_is_one_like_another() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    exported = torch.export.export(net, (torch.zeros(1, 3, 8, 8),), strict=False).module()
    assert waveedge.inspect(exported, (8, 8))["parameters"] == 27 * 4 + 4 + 8 + 2


class OddOutputs(_Base):
    """Outputs of integers and truths, and a filter of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.ones(2, 6, 4, dtype=torch.complex64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.head(self.conv(x))
        y = torch.fft.irfft2(torch.fft.rfft2(y) * self.filter, s=(6, 6))
        return y, y.argmax(1), y > 0


def test_outputs_and_weights_may_be_of_other_types() -> None:
    net = OddOutputs().eval()
    small = reparameterize(normalise(net, (3, 8, 8)), (8, 8))
    assert not small.left_out
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    error = Reference(net, [x.numpy()]).error(small)
    assert error <= FLOAT_ERROR


def test_shared_weights_count_once() -> None:
    class Tied(_Base):
        def forward(self, x: Tensor) -> Tensor:
            y = self.head(self.conv(self.conv(x).mean(1, keepdim=True).expand(-1, 3, -1, -1)))
            return torch.nn.functional.conv_transpose2d(y, self.head.weight)

    facts = waveedge.inspect(Tied().eval(), (8, 8))
    assert facts["parameters"] == 27 * 4 + 4 + 8 + 2
    frozen = waveedge.inspect(Tied().eval().requires_grad_(False), (8, 8))
    assert frozen["parameters"] == facts["parameters"]
