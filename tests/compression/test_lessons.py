"""The batches of a tuning: whole images, or windows of large ones where outputs are maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import waveedge
from waveedge.compression.lessons import Lessons, windows_of
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


def lessons(network: nn.Module, window: tuple[int, int]) -> Lessons:
    return Lessons(IMAGES, network, 0, torch.float32, windows=[window])


@pytest.mark.parametrize("multiple", [1, 2, 32])
def test_windows_are_sizes_that_the_network_takes(multiple: int) -> None:
    sizes = Sizes(calibrated=LARGE, multiple=(multiple, multiple), least=(32, 32))
    small, large = windows_of(sizes, maps(), LARGE)
    assert sizes.admits(small)
    assert sizes.admits(large)
    assert all(64 - multiple < side <= 64 for side in small)
    assert all(181 - multiple < side <= 181 for side in large)


@pytest.mark.parametrize(
    ("sizes", "network", "size", "windows"),
    [
        (Sizes(calibrated=LARGE, bound="its code says so"), maps(), LARGE, []),
        (Sizes(calibrated=LARGE, least=(200, 200)), maps(), LARGE, []),
        (Sizes(calibrated=LARGE, least=(100, 100)), maps(), LARGE, [(181, 181)]),
        (Sizes(calibrated=(256, 256)), maps(), (256, 256), [(64, 64)]),
        (Sizes(calibrated=(48, 416)), maps(), (48, 416), [(48, 64)]),
        (Sizes(calibrated=(64, 64)), maps(), (64, 64), []),
        (Sizes(calibrated=LARGE), nn.Sequential(WaveletCompressedConv2d(3, 3)), LARGE, []),
    ],
    ids=["bound", "too small", "no small one", "no large one", "flat", "small", "k by size"],
)
def test_images_that_are_not_cut_stay_whole(
    sizes: Sizes, network: nn.Module, size: tuple[int, int], windows: list[tuple[int, int]]
) -> None:
    assert windows_of(sizes, network, size) == windows


class Global(nn.Module):
    """Its map depends on the whole image: on how far each pixel is from the mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spread = x.amax((2, 3), keepdim=True) * torch.tensor(x.shape[2] / 100)
        return x - spread


def test_small_windows_are_for_networks_that_see_them_as_they_see_the_whole() -> None:
    windows = [(64, 64), (181, 181)]
    small, large = (
        Lessons(IMAGES, network.eval(), 0, torch.float32, windows=windows)
        for network in (maps(), Global())
    )
    assert (small.window, small.batch) == ((64, 64), 8)
    assert (large.window, large.batch) == ((181, 181), 1)
    assert lessons(Global().eval(), (64, 64)).window is None


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
