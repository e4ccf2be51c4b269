"""Shrinking as a whole: on the trained examples, within what it may cost."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import waveedge
from waveedge.calibration import open_images
from waveedge.compression.costs import CPU
from waveedge.compression.shrink import output_error, shrink
from waveedge.compression.shrink.allocate import Options, allocate
from waveedge.models.build import attach_spec
from waveedge.normalise import normalise
from waveedge.reference import run
from waveedge.spec import ModelSpec, Task

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def photos() -> NDArray[np.float32]:
    return np.concatenate(open_images(None, size=(48, 48)).calibration[:8])


def wide() -> nn.Module:
    """A network far wider than what it computes."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.GELU(), nn.Conv2d(32, 24, 1), nn.Conv2d(24, 3, 1)
    )
    with torch.no_grad():
        net[0].weight[8:] *= 1e-3  # type: ignore[operator]
    return net.eval()


def test_the_error_stays_below_what_is_allowed() -> None:
    images = [np.random.default_rng(n).random((1, 3, 24, 24), np.float32) for n in range(8)]
    net = wide()
    graph = normalise(net, (3, 24, 24))
    wanted = [run(net, image) for image in images[4:]]
    before = copy.deepcopy(graph.state_dict())
    sizes = []
    for allowed in (1e-1, 3e-3):
        found = shrink(graph, images[:4], images[4:], wanted, allowed, prices=CPU)
        assert found is not None
        assert output_error(found.graph, images[4:], wanted) == pytest.approx(found.error)
        assert found.error <= allowed
        sizes.append(sum(tensor.numel() for tensor in found.graph.parameters()))
    assert sizes[0] <= sizes[1] < sum(tensor.numel() for tensor in graph.parameters())
    assert all(torch.equal(before[name], graph.state_dict()[name]) for name in before)


def test_layers_to_keep_are_kept() -> None:
    images = [np.random.default_rng(n).random((1, 3, 24, 24), np.float32) for n in range(4)]
    net = wide()
    graph = normalise(net, (3, 24, 24))
    wanted = [run(net, image) for image in images]
    found = shrink(graph, images, images, wanted, 1e-2, prices=CPU, keep={"0", "3"})
    assert found is None


def test_the_allocation_is_the_best_for_its_budget() -> None:
    """Against every combination."""
    generator = torch.Generator().manual_seed(0)
    options = []
    for _ in range(3):
        errors = torch.rand(6, generator=generator).double().sort(descending=True).values ** 4
        errors[-1] = 0
        options.append(Options(torch.arange(1, 7), errors, torch.arange(1, 7).double()))
    chosen = allocate(options, error=0.05)
    spent = sum(float(o.errors[n - 1]) for o, n in zip(options, chosen, strict=True))
    price = sum(chosen)
    assert spent <= 0.05
    every = torch.cartesian_prod(*(o.errors for o in options)).sum(1).reshape(6, 6, 6)
    prices = torch.cartesian_prod(*(o.prices for o in options)).sum(1).reshape(6, 6, 6)
    # One rate finds the points of the convex hull: none is better in both.
    better = (every < spent - 1e-12) & (prices < price)
    assert not bool(better.any())


def test_the_super_resolution_network_needs_three_quarters_of_its_products(
    photos: NDArray[np.float32],
) -> None:
    path = EXAMPLES / "super_resolution" / "model.pt"
    whole = waveedge.compress(path, photos, shrink=False)
    small = waveedge.compress(path, photos)
    assert small.report.macs_after < 0.75 * whole.report.macs_after
    assert small.report.quality.snr_db > whole.report.quality.snr_db - 1.5
    assert whole.report.shrunk is None
    assert small.report.shrunk is not None
    assert small.report.shrunk.snr_db > whole.report.quality.snr_db + 8


def test_where_decisions_count_more_channels_go() -> None:
    images, found = torch.rand(6, 3, 24, 24), {}
    tasks: tuple[Task, ...] = ("restoration", "segmentation")
    for task in tasks:
        spec = ModelSpec(family="custom", task=task, input_size=(24, 24))
        network = wide()
        weight = network.get_submodule("0").get_parameter("weight")
        fading = 0.8 ** torch.arange(len(weight))  # channels that matter less and less
        weight.data = 0.5 * torch.randn_like(weight) * fading[:, None, None, None]
        found[task] = waveedge.compress(attach_spec(network, spec), images).report
    image, labels = found["restoration"], found["segmentation"]
    assert image.shrunk is not None
    assert labels.shrunk is not None
    assert labels.macs_after < image.macs_after
    # Together no worse than twice the rounding's error.
    assert labels.quality.snr_db > image.quality.snr_db - 3.5


def test_no_rounding_no_shrinking() -> None:
    images = torch.rand(6, 3, 24, 24)
    assert waveedge.compress(wide(), images, bits=32).report.shrunk is None


def test_excluded_layers_keep_their_channels() -> None:
    images = torch.rand(6, 3, 24, 24)
    small = waveedge.compress(wide(), images)
    assert small.report.shrunk is not None
    kept = waveedge.compress(wide(), images, skip=("0", "2"))
    assert kept.report.shrunk is None


def test_an_artifact_with_fewer_channels_survives(tmp_path: Path) -> None:
    images = torch.rand(6, 3, 24, 24)
    small = waveedge.compress(wide(), images)
    waveedge.save_artifact(small, tmp_path / "a.safetensors")
    loaded = waveedge.load_artifact(tmp_path / "a.safetensors")
    loaded.original = small.original
    assert loaded.report.shrunk == small.report.shrunk
    x = torch.rand(1, 3, 24, 24)
    assert torch.equal(loaded(x), small(x))
    bundle = waveedge.export(loaded, tmp_path / "b", target="ort", images=images.numpy())
    assert waveedge.Session(bundle.path).run(x.numpy()).shape == small(x).shape


@pytest.mark.parametrize("bits", [8, 32])
def test_a_share_of_the_multiply_adds_is_reached(bits: int) -> None:
    images = torch.rand(6, 3, 24, 24)
    whole = waveedge.compress(wide(), images, bits=bits, shrink=False)
    small = waveedge.compress(wide(), images, bits=bits, macs=0.4, tune=0)
    assert 0.2 < small.report.macs_after / whole.report.macs_after <= 0.4
