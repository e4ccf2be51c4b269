"""The batches of a tuning: whole images, or windows of large ones where outputs are maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import waveedge
from waveedge.compression.lessons import Lessons, window_of
from waveedge.compression.tuning import Tuning
from waveedge.nn import WaveletCompressedConv2d
from waveedge.sizes import Sizes

LARGE = (320, 416)
IMAGES = list(np.random.default_rng(0).random((3, 1, 3, *LARGE), np.float32))


def maps() -> nn.Module:
    """Halves the map: an output in proportion to the image."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()


def classifier() -> nn.Module:
    torch.manual_seed(0)
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *pooled).eval()


def lessons(network: nn.Module, window: tuple[int, int] | None) -> Lessons:
    return Lessons(IMAGES, network, 0, torch.float32, window=window)


@pytest.mark.parametrize("multiple", [1, 2, 32])
def test_a_window_is_a_size_that_the_network_takes_and_of_64_pixels_at_most(multiple: int) -> None:
    sizes = Sizes(calibrated=LARGE, multiple=(multiple, multiple), least=(32, 32))
    window = window_of(sizes, maps(), LARGE)
    assert window is not None
    assert sizes.admits(window)
    assert all(64 - multiple < side <= 64 for side in window)


def test_a_side_that_is_short_stays_whole() -> None:
    assert window_of(Sizes(calibrated=(48, 416)), maps(), (48, 416)) == (48, 64)


@pytest.mark.parametrize(
    ("sizes", "network", "size"),
    [
        (Sizes(calibrated=LARGE, bound="its code says so"), maps(), LARGE),
        (Sizes(calibrated=LARGE, least=(200, 200)), maps(), LARGE),
        (Sizes(calibrated=(64, 64)), maps(), (64, 64)),
        (Sizes(calibrated=LARGE), nn.Sequential(WaveletCompressedConv2d(3, 3)), LARGE),
    ],
    ids=["bound", "too small a window", "small images", "k depends on the size"],
)
def test_images_stay_whole(sizes: Sizes, network: nn.Module, size: tuple[int, int]) -> None:
    assert window_of(sizes, network, size) is None


def test_windows_are_of_the_images_and_the_teacher_sees_just_them() -> None:
    network, window = maps(), (96, 128)
    drawing = lessons(network, window)
    assert drawing.window == window
    assert drawing.batch == 2**15 // (96 * 128) == 2
    x, (wanted,), _ = drawing.draw()
    assert x.shape == (drawing.batch, 3, *window)
    with torch.no_grad():
        assert torch.equal(wanted, network(x))
    views = [torch.from_numpy(image) for image in IMAGES]
    views += [view.flip(3) for view in views]
    assert all(any(_holds(view, cut) for view in views) for cut in x.split(1))


def test_of_few_images_more_windows_are_cut_than_there_are_images() -> None:
    drawing = lessons(maps(), (64, 64))
    assert drawing.batch == 8
    x, _, _ = drawing.draw()
    assert len(x) == 8 > len(IMAGES)
    assert len({cut.numpy().tobytes() for cut in x}) == 8


def _holds(view: torch.Tensor, cut: torch.Tensor) -> bool:
    """Whether ``cut`` is somewhere in ``view``."""
    starts = (view[0, 0, :-95, :-127] == cut[0, 0, 0, 0]).nonzero()
    return any(torch.equal(view[:, :, y : y + 96, x : x + 128], cut) for y, x in starts.tolist())


def test_the_same_seed_draws_the_same_windows() -> None:
    one, other = (lessons(maps(), (96, 128)).draw()[0] for _ in range(2))
    assert torch.equal(one, other)


def test_what_a_classifier_says_is_of_the_whole_image() -> None:
    drawing = lessons(classifier(), (96, 128))
    assert drawing.window is None
    assert drawing.draw()[0].shape[2:] == LARGE


def test_of_large_held_out_images_a_few_are_looked_at() -> None:
    images = np.random.default_rng(0).random((8, 3, *LARGE), np.float32)
    small = waveedge.compress(maps(), images, bits=4, tune=0)
    judged = list(images[:, None])
    tuning = Tuning(small.graph, maps(), judged, judged, 1, 0)
    assert len(tuning._judged) == 4
