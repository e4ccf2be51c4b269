"""The trained networks in examples/: small, known from their file, as good as their READMEs say."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from waveedge.checkpoint import load
from waveedge.models import WaveMixConfig

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "denoiser")]

import scoring  # noqa: E402

CLASSIFIER = WaveMixConfig(depth=4, dim=48, ff_channels=48, num_classes=10, patch_size=2)
ENLARGER = WaveMixConfig(
    depth=4,
    dim=48,
    ff_channels=48,
    num_classes=3,
    stem="strided",
    stride=1,
    head="expand",
    head_widths=(24,),
)
SEGMENTER = WaveMixConfig(
    depth=4,
    dim=48,
    ff_channels=32,
    levels=3,
    num_classes=9,
    stem="strided",
    head="expand",
    head_widths=(24, 12),
)
CONFIGURATIONS = {
    "fashion_mnist": CLASSIFIER,
    "super_resolution": ENLARGER,
    "brain_mri": SEGMENTER,
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(name: str) -> nn.Module:
    arch = "network:factory" if name == "denoiser" else None
    return load(EXAMPLES / name / "model.pt", arch=arch)


def promised(name: str) -> float:
    """The score that the README states in its line ``Score: ... **figure**``."""
    found = re.search(r"^Score:.*?\*\*([\d.]+)", (EXAMPLES / name / "README.md").read_text(), re.M)
    assert found, f"{name}/README.md states no score"
    return float(found[1])


@pytest.mark.parametrize("name", scoring.NAMES)
def test_weights_are_a_small_plain_float32_state_dict(name):
    file = EXAMPLES / name / "model.pt"
    assert file.stat().st_size < 2_000_000
    state = torch.load(file, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    floats = [value for value in state.values() if value.is_floating_point()]
    assert {value.dtype for value in floats} == {torch.float32}
    assert all(value.is_contiguous() and value.isfinite().all() for value in floats)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_file_alone_tells_the_whole_configuration(name):
    config = load(EXAMPLES / name / "model.pt").config
    # Dropout leaves no trace in a file and does nothing outside training.
    found = config.model_copy(update={"dropout": 0.0})
    assert found == CONFIGURATIONS[name]


@pytest.mark.parametrize(
    ("name", "batch", "tolerance"),
    [
        ("fashion_mnist", 250, 0.1),
        ("super_resolution", 1, 0.05),
        ("denoiser", 1, 0.05),
        ("brain_mri", 6, 0.1),
    ],
)
def test_scores_what_the_readme_says(name, batch, tolerance):
    model = trained(name)
    with torch.inference_mode():
        result = scoring.score(name, lambda x: model(torch.from_numpy(x)).numpy(), batch=batch)
    scale = 1 if result["metric"] == "psnr_db" else 100  # shares are written in percent
    assert scale * result["value"] == pytest.approx(promised(name), abs=tolerance)
    if result["baseline"] is not None:
        assert scale * result["value"] > scale * result["baseline"] + 0.4


def test_psnr_of_a_known_error():
    targets = np.full((1, 3, 16, 16), 100, np.uint8)
    images = targets.copy()
    images[..., 0] = 255  # inside the border that is left out
    images[..., 8] += 10
    expected = 10 * np.log10(255**2 / (10**2 / 8))
    assert scoring.psnr(images, targets, border=4) == pytest.approx(expected)


def test_mean_iou_of_known_overlaps():
    targets = np.array([[0, 0, 0, 0], [1, 1, 2, 2]], np.uint8)
    classes = np.array([[0, 0, 0, 1], [1, 1, 2, 3]], np.uint8)
    # Class 3 is predicted where it is not: it counts, with nothing; classes 4 to 8 do not.
    assert scoring.mean_iou(classes, targets) == pytest.approx((3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)


def test_the_brain_is_scored_over_all_pixels_together():
    whole = scoring.load_test_set("brain_mri")
    planes = np.eye(scoring.CLASSES, dtype=np.float32)[whole.targets[:2]].transpose(0, 3, 1, 2)
    right = scoring.score("brain_mri", lambda x: planes[: len(x)], batch=2, limit=2)
    assert right["value"] == right["pixel_accuracy"] == 1
    assert right["each"] == [1, 1]
    planes[0] = np.roll(planes[0], 3, axis=2)  # one of the two moved to the side
    moved = scoring.score("brain_mri", lambda x: planes[: len(x)], batch=2, limit=2)
    assert moved["each"][0] < moved["value"] < moved["each"][1] == 1
    assert moved["value"] < moved["pixel_accuracy"] < 1


def test_a_slice_of_the_brain_lies_between_its_neighbours_in_the_channels():
    inputs = scoring.load_test_set("brain_mri").inputs
    assert np.array_equal(inputs[:-1, 2], inputs[1:, 1])
    assert np.array_equal(inputs[1:, 0], inputs[:-1, 1])
    # From the ear to the middle: the first slice shows less of the head than the last.
    assert (inputs[0, 0] > 0.1).mean() < (inputs[-1, 2] > 0.1).mean()


def test_photos_are_cut_to_the_input_size_and_stay_aligned():
    whole = scoring.load_test_set("super_resolution")
    cut = scoring.load_test_set("super_resolution", input_size=(64, 96))
    assert cut.inputs.shape == (6, 3, 64, 96)
    assert cut.targets.shape == (6, 3, 128, 192)
    assert np.array_equal(cut.targets, whole.targets[:, :, 128:256, 160:352])
    # Away from the border the input, and with it its enlargement, is that of the whole photo.
    assert cut.baseline is not None
    assert whole.baseline is not None
    inner = cut.baseline[:, :, 8:-8, 8:-8]
    assert np.array_equal(inner, whole.baseline[:, :, 136:248, 168:344])


def test_the_noise_is_the_same_each_time_and_has_sigma_25():
    first, second = (scoring.load_test_set("denoiser", input_size=(64, 64)) for _ in range(2))
    assert np.array_equal(first.inputs, second.inputs)
    noise = first.inputs - first.targets / 255
    assert noise.std() * 255 == pytest.approx(25, rel=0.02)


@pytest.mark.parametrize("name", scoring.NAMES)
def test_calibration_images_are_inputs_and_none_is_in_the_test_set(name):
    size = (64, 64)
    images = scoring.calibration_images(name, input_size=size)
    test = scoring.load_test_set(name, input_size=size if name != "fashion_mnist" else None).inputs
    assert len(images) >= 12
    assert all(image.shape == (1, *test.shape[1:]) for image in images)
    assert all(image.dtype == np.float32 for image in images)
    seen = {image.tobytes() for image in test}
    assert not any(image[0].tobytes() in seen for image in images)
