"""Calibration of whole networks on real photos."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waveedge.calibration import ImageSet, calibrate_activations, choose_range, observe, open_images
from waveedge.calibration.ranges import Method
from waveedge.errors import CheckpointError, ImageError, RecipeError, WaveedgeError
from waveedge.models import WaveMix, WaveMixConfig
from waveedge.nn import ActivationQuantizer, QuantizedConv2d, WaveletCompressedConv2d
from waveedge.spec import ModelSpec

SPEC = ModelSpec(family="custom", task="super-resolution", input_size=(64, 64))


@pytest.fixture(scope="module")
def photos() -> ImageSet:
    return open_images(None, spec=SPEC, limit=12, held_out=6)


def small_network(bits: int) -> nn.Sequential:
    """A conv net with every kind of quantized layer, and one inside a WCC."""
    torch.manual_seed(0)
    return nn.Sequential(
        ActivationQuantizer(bits),
        QuantizedConv2d.from_float(nn.Conv2d(3, 16, 3, padding=1), 8),
        nn.ReLU(),
        ActivationQuantizer(bits),
        WaveletCompressedConv2d(16, 16, levels=2, ratio=0.5, activation_bits=bits),
        nn.GELU(),
        ActivationQuantizer(bits),
        nn.Conv2d(16, 3, 3, padding=1),
    )


def quantized_wavemix(bits: int) -> WaveMix:
    """A WaveMix, image to image, with a quantizer behind every GELU; random weights."""
    torch.manual_seed(0)
    config = WaveMixConfig(
        depth=2, dim=16, ff_channels=16, num_classes=3, levels=2, head="expand", head_widths=(8, 8)
    )
    model = WaveMix(config).eval()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GELU):
                setattr(parent, name, nn.Sequential(child, ActivationQuantizer(bits)))
    return model


def quantizers(model: nn.Module) -> Iterator[ActivationQuantizer]:
    return (module for module in model.modules() if isinstance(module, ActivationQuantizer))


def snr(model: nn.Module, images: list[NDArray[np.float32]]) -> float:
    """Signal-to-noise ratio of the quantized against the float activations' output, in dB."""
    signal = noise = 0.0
    with torch.no_grad():
        for image in map(torch.from_numpy, images):
            outputs = []
            for enabled in (True, False):
                for quantizer in quantizers(model):
                    quantizer.enabled = enabled
                outputs.append(model(image))
            signal += float(outputs[1].square().sum())
            noise += float((outputs[0] - outputs[1]).square().sum())
    return 10 * float(np.log10(signal / noise))


@pytest.mark.parametrize("bits", [4, 8])
def test_every_quantizer_gets_the_range_of_its_own_input(photos: ImageSet, bits: int) -> None:
    """Against ranges chosen from the tensors themselves, gathered layer by layer."""
    model = small_network(bits)
    observed = calibrate_activations(model, photos.calibration)
    assert list(observed) == ["0", "3", "4.activation_quantizer", "6"]
    plain = observe(model, photos.calibration)
    for name, result in observed.items():
        quantizer = model.get_submodule(name)
        assert isinstance(quantizer, ActivationQuantizer)
        assert quantizer.scale.item() == result.scale > 0
        expected = choose_range(plain[name], bits, must_be_signed=not quantizer.zero_is_open)
        assert (result.scale, result.zero_point) == pytest.approx(expected[:2])
        assert result.snr_db > (12 if bits == 4 else 30)
        assert 0 <= result.clipped_share < 0.1
    # The image and the ReLU cannot be negative; wavelet coefficients can.
    lowest = 0 if bits == 8 else -8
    assert observed["0"].zero_point == observed["3"].zero_point == lowest
    assert observed["4.activation_quantizer"].low < 0
    assert observed["0"].low >= 0
    assert observed["0"].high <= 1
    assert observed["3"].zero_share > 0.2


def test_wcc_coefficients_are_what_is_observed(photos: ImageSet) -> None:
    """A Haar low band of three levels is 8 times an image's mean, so ranges differ from pixels'."""
    wcc = WaveletCompressedConv2d(3, 3, levels=3, ratio=0.25, activation_bits=8)
    (result,) = calibrate_activations(wcc, photos.calibration).values()
    brightest = max(float(image.max()) for image in photos.calibration)
    assert 4 * brightest < result.high <= 8 * brightest + 1e-4


@pytest.mark.parametrize(("bits", "least"), [(8, 70.0), (4, 50.0)])
def test_calibrated_wavemix_stays_near_its_float_outputs(
    photos: ImageSet, bits: int, least: float
) -> None:
    model = quantized_wavemix(bits)
    uncalibrated = snr(model, photos.held_out)
    calibrate_activations(model, photos.calibration)
    assert snr(model, photos.held_out) > max(least, uncalibrated + 10)


def test_least_error_beats_covering_everything_at_four_bits(photos: ImageSet) -> None:
    scores = {}
    methods: tuple[Method, ...] = ("mse", "max")
    for method in methods:
        model = quantized_wavemix(4)
        calibrate_activations(model, photos.calibration, method=method)
        scores[method] = snr(model, photos.held_out)
    assert scores["mse"] > scores["max"]


def test_same_images_give_the_same_bits(photos: ImageSet) -> None:
    first, second = small_network(4), small_network(4)
    one = calibrate_activations(first, photos.calibration)
    two = calibrate_activations(second, photos.calibration)
    assert one == two
    # Again on a calibrated network: quantizers are off while observing, so nothing drifts.
    assert calibrate_activations(first, photos.calibration) == one
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])


def test_model_is_left_as_it_was(photos: ImageSet) -> None:
    quantizer = ActivationQuantizer(8)
    quantizer.enabled = False
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), quantizer)
    model.train()
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    calls: list[tuple[int, int]] = []
    calibrate_activations(
        model, photos.calibration[:3], progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert [model.training, model[1].training, quantizer.enabled] == [True, False, False]
    assert not quantizer._forward_pre_hooks
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) == (key != "2.scale")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e35])
def test_sick_activations_name_the_layer(photos: ImageSet, value: float) -> None:
    class Sick(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * value

    model = nn.Sequential()
    model.add_module("good", ActivationQuantizer(8))
    model.add_module("sick", Sick())
    model.add_module("after", ActivationQuantizer(8))
    with pytest.raises(CheckpointError, match="'after'") as caught:
        calibrate_activations(model, photos.calibration)
    assert "preprocessing" in caught.value.hint
    assert all(quantizer.enabled for quantizer in quantizers(model))
    assert not model.get_submodule("good")._forward_pre_hooks


def test_dead_activations_get_a_harmless_scale(photos: ImageSet) -> None:
    class Zero(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 0.0

    for bits, zero_point in ((8, 0), (4, -8)):
        model = nn.Sequential(Zero(), ActivationQuantizer(bits))
        (result,) = calibrate_activations(model, photos.calibration).values()
        assert result.zero_point == zero_point
        assert result.scale > 0
        assert result.zero_share == 1.0
        assert not model(torch.from_numpy(photos.calibration[0])).any()


def test_unreached_quantizer_is_named(photos: ImageSet) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = ActivationQuantizer(8), ActivationQuantizer(8)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    with pytest.raises(WaveedgeError, match="'unused'"):
        calibrate_activations(Branches(), photos.calibration)


def test_nothing_to_calibrate(photos: ImageSet) -> None:
    assert calibrate_activations(nn.Conv2d(3, 3, 1), photos.calibration) == {}
    with pytest.raises(ImageError, match="no images"):
        calibrate_activations(ActivationQuantizer(8), [])
    with pytest.raises(RecipeError, match="'entropy'"):
        calibrate_activations(
            ActivationQuantizer(8),
            photos.calibration,
            method="entropy",  # type: ignore[arg-type]
        )


def test_double_precision_network(photos: ImageSet) -> None:
    model = small_network(8)[:4].double()
    assert len(calibrate_activations(model, photos.calibration[:2])) == 2
