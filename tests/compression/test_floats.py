"""Layers whose 8-bit grids cost too much stay in floating point, and the report says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waveedge.compression.compress import Compressed, compress
from waveedge.compression.report import LayerReport, Quality
from waveedge.models.build import attach_spec
from waveedge.nn import QuantizedConv2d
from waveedge.spec import ModelSpec

SIZE = (16, 16)


class Spectrum(nn.Module):
    """A Fourier transform of a map far from zero: its mean leaves the rest few grid points."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.mix = nn.Conv2d(16, 16, 1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        f = torch.fft.rfft2(torch.relu(self.stem(x)) + 5, norm="ortho")
        real, imaginary = self.mix(torch.cat([f.real, f.imag], 1)).chunk(2, 1)
        y = torch.fft.irfft2(torch.complex(real, imaginary), s=x.shape[-2:], norm="ortho")
        z: Tensor = self.head(y - y.mean(dim=(2, 3), keepdim=True))
        return z


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.relu(self.stem(x)))
        return y


def images() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((12, 3, *SIZE), np.float32)


def compressed(make: Callable[[], nn.Module], **fields: object) -> Compressed:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = attach_spec(make(), ModelSpec(family="custom", input_size=SIZE))
    return compress(model, images=images(), **fields)


@pytest.fixture(scope="module")
def spectrum() -> Compressed:
    return compressed(Spectrum, bits=8)


def test_the_costly_layer_is_in_float_and_the_output_is_near(spectrum: Compressed) -> None:
    assert [name for name, _ in spectrum.report.in_float][:1] == ["mix"]
    assert spectrum.report.quality.snr_db > 20
    assert type(spectrum.graph.get_submodule("mix")) is nn.Conv2d
    assert isinstance(spectrum.graph.get_submodule("stem"), QuantizedConv2d)


def test_the_report_counts_it_as_float_and_says_why(spectrum: Compressed) -> None:
    rows = {layer.name: layer for layer in spectrum.report.layers}
    assert (rows["mix"].weight_bits, rows["mix"].activation_bits) == (32, 32)
    assert rows["mix"].note == dict(spectrum.report.in_float)["mix"]
    assert "8-bit grids alone" in rows["mix"].note
    assert (rows["stem"].weight_bits, rows["stem"].note) == (8, "")


def test_the_recipe_stays_the_users(spectrum: Compressed) -> None:
    assert spectrum.recipe.skip == ()


def test_a_network_that_is_near_enough_keeps_all_its_layers_in_integers() -> None:
    report = compressed(Plain, bits=8).report
    assert report.in_float == ()
    assert {layer.activation_bits for layer in report.layers} == {8}


def test_fewer_bits_are_what_was_asked_for() -> None:
    report = compressed(Spectrum, bits=4).report
    assert report.in_float == ()
    weighted = [layer for layer in report.layers if layer.type.startswith("Quantized")]
    assert {layer.activation_bits for layer in weighted} <= {4, 8}


def layer(name: str, snr_db: float, bits: int = 8) -> LayerReport:
    return LayerReport(name=name, type="QuantizedConv2d", weight_bits=bits, activation_bits=bits,
                       ratio=1.0, macs=1, bops=1, feature_bits=1, snr_db=snr_db)  # fmt: skip


@pytest.mark.parametrize(
    ("snr_db", "verdict"), [(9.0, "Quality collapsed"), (15.0, "Quality is low"), (21.0, "")]
)
def test_low_quality_names_the_layers_that_lose_most(
    spectrum: Compressed, snr_db: float, verdict: str
) -> None:
    layers = (layer("a", 40.0), layer("b", 12.0), layer("c", 3.0, 32), layer("d", 5.0),
              layer("e", 30.0))  # fmt: skip
    quality = Quality(images=2, snr_db=snr_db)
    advice = spectrum.report.model_copy(update={"layers": layers, "quality": quality}).advice()
    if not verdict:
        assert advice is None
        return
    assert advice is not None
    assert verdict in advice
    assert "--skip: d (5.0 dB), b (12.0 dB), e (30.0 dB)" in advice  # c is in float already
    assert "--bits" not in advice  # which has its largest value


def test_low_quality_is_said_where_it_is_made() -> None:
    said: list[str] = []
    fields: dict[str, object] = {"bits": 2, "weight_bits": 2, "uniform": True, "tune": 0}
    low = compressed(Spectrum, **fields, warn=said.append)
    assert low.report.quality.low
    assert said == [low.report.advice()]
    compressed(Plain, warn=said.append)
    assert len(said) == 1


def test_equal_decisions_count_for_more_than_decibels() -> None:
    assert not Quality(images=2, snr_db=15.0, agreement=1.0).low
    assert Quality(images=2, snr_db=30.0, agreement=0.5).low
