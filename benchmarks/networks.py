"""The networks that are measured: full-size configurations, and the trained ones in ``examples``.

Published weights cannot be shipped, so the full-size networks have random ones (see
:mod:`benchmarks.weights`). Time and memory do not depend on them; the accuracy of a quantized
network does, which is why quality is judged on the trained networks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.weights import unit_variance
from waveedge import load
from waveedge.calibration import ImageSet, open_images
from waveedge.models import WaveMixConfig, WTConvNeXtConfig, build
from waveedge.models.build import attach_spec, spec_of
from waveedge.models.config import NetworkConfig
from waveedge.models.families import describe
from waveedge.nn import WTConv2d
from waveedge.opening import wanted_of
from waveedge.runtime.sizes import Size, size_text
from waveedge.spec import ModelSpec

__all__ = ["EXAMPLES", "NETWORKS", "QUICK", "Loaded", "Network", "scoring"]

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
_CALIBRATION, _HELD_OUT = 16, 4  # of full-size networks
_NOISE_SEED = 27  # the first of those that training, calibration and the test set do not use


@dataclass(frozen=True)
class Loaded:
    """A network ready to be exported: in eval mode, with ``spec``; and images for it."""

    model: nn.Module
    images: ImageSet


@dataclass(frozen=True)
class Network:
    """One network of the benchmark.

    Attributes:
        name: in records and file names.
        title: for readers.
        size: (height, width) of the input in pixels.
        make: makes the network, and images of a size as a seed draws them; takes seconds.
        typed: the size that ``waveedge compress`` takes where nobody names one; None: ``size``.
        example: its folder in ``examples``, where it is trained; quality is then scored.
        int8: whether quantizing it makes sense; a lone depthwise layer is measured in float only.
    """

    name: str
    title: str
    size: Size
    make: Callable[[int, Size], Loaded]
    typed: Size | None = None
    example: str | None = None
    int8: bool = True

    def load(self, seed: int, size: Size | None = None) -> Loaded:
        """Make the network, and images of ``size``, its own by default; takes seconds."""
        return self.make(seed, size or self.size)


def scoring() -> Any:
    """Return ``examples/scoring.py``, which is a script folder and no package."""
    _importable(EXAMPLES)
    import scoring as module  # type: ignore[import-not-found]

    return module


def _full_size(name: str, title: str, size: Size, config: NetworkConfig) -> Network:
    def make(seed: int, size: Size) -> Loaded:
        model = build(describe(config))
        images = open_images(
            None,
            spec=spec_of(model),
            size=size,
            limit=_CALIBRATION,
            held_out=_HELD_OUT,
            seed=seed,
        )
        # Neighbouring images are windows of one photo; every third shows more.
        return Loaded(unit_variance(model, images.calibration[::3]), images)

    return Network(name, title, size, make)


class _Layer(nn.Module):
    """One WTConv layer as a network of its own."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.layer = WTConv2d(channels, channels, kernel_size=5, wt_levels=levels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


def _wtconv(levels: int) -> Network:
    channels, size = 96, (56, 56)

    def make(seed: int, size: Size) -> Loaded:
        with torch.random.fork_rng(devices=[]):
            model = _Layer(channels, levels)
        spec = ModelSpec(family="custom", channels=channels, input_size=size)
        noise = np.random.default_rng(seed).standard_normal((8, 1, channels, *size), np.float32)
        images = ImageSet(list(noise[:4]), list(noise[4:]), "noise", "")
        return Loaded(unit_variance(attach_spec(model, spec), images.calibration), images)

    title = f"WTConv layer, 96 channels, 5x5, {levels} levels"
    return Network(f"wtconv_l{levels}", title, size, make, int8=False)


def _trained(
    name: str, title: str, size: Size, typed: Size | None = None, **options: Any
) -> Network:
    given = options.pop("settings", {})

    def make(seed: int, size: Size) -> Loaded:
        folder = EXAMPLES / name
        _importable(folder)
        settings = {"input_size": size_text(size), **given}
        model = load(folder / "model.pt", settings=settings, **options)
        assert isinstance(model, nn.Module)
        return Loaded(model, _example_images(name, spec_of(model), seed))

    return Network(f"trained_{name}", title, size, make, typed, example=name)


def _example_images(name: str, spec: ModelSpec, seed: int) -> ImageSet:
    """Images that the example was neither trained nor is tested on, as many as compress takes."""
    limit, held_out = wanted_of(spec.input_size)
    if name in ("fashion_mnist", "brain_mri"):
        own = scoring().calibration_images(name, input_size=spec.input_size)
        return open_images(own, spec=spec, seed=seed, limit=limit, held_out=held_out)
    images = open_images(None, spec=spec, seed=seed, limit=limit, held_out=held_out)
    if name != "denoiser":
        return images
    rng = np.random.default_rng(_NOISE_SEED + seed)

    def noisy(image: Any) -> Any:
        noise = rng.standard_normal(image.shape, np.float32)
        return image + np.float32(scoring().SIGMA) * noise

    return replace(
        images,
        calibration=[noisy(image) for image in images.calibration],
        held_out=[noisy(image) for image in images.held_out],
    )


def _importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _classifier(depth: int) -> WaveMixConfig:
    """Released as WaveMix-192/16 (level 3) for ImageNet."""
    return WaveMixConfig(depth=depth, dim=192, ff_channels=192, levels=3, num_classes=1000)


# Released as WaveMix-144/4 for super-resolution.
_SUPER_RESOLUTION = WaveMixConfig(
    depth=4,
    dim=144,
    ff_channels=144,
    num_classes=3,
    stem="strided",
    stride=1,
    head="expand",
    head_widths=(72,),
)
# Half as wide and a quarter as deep as the released WaveMix-256/16 for Cityscapes.
_SEGMENTER = WaveMixConfig(
    depth=4,
    dim=128,
    ff_channels=128,
    levels=4,
    num_classes=20,
    stem="strided",
    stride=2,
    head="expand",
    head_widths=(64, 32),
)
# Released as WTConvNeXt-T for ImageNet.
_WTCONVNEXT_T = WTConvNeXtConfig(
    depths=(3, 3, 9, 3), dims=(96, 192, 384, 768), wt_levels=(5, 4, 3, 2), num_classes=1000
)

_ALL = (
    _full_size("super_resolution_144x4", "WaveMix x2 144/4", (128, 128), _SUPER_RESOLUTION),
    _full_size("classifier_192x4", "WaveMix classifier 192/4, level 3", (256, 256), _classifier(4)),
    _full_size(
        "classifier_192x16", "WaveMix classifier 192/16, level 3", (256, 256), _classifier(16)
    ),
    _full_size("segmenter_128x4", "WaveMix segmenter 128/4, level 4", (256, 512), _SEGMENTER),
    _wtconv(2),
    _wtconv(3),
    _full_size("wtconvnext_t", "WTConvNeXt-T", (224, 224), _WTCONVNEXT_T),
    _trained("super_resolution", "trained WaveMix x2", (192, 256), (128, 128)),
    _trained("fashion_mnist", "trained WaveMix, Fashion-MNIST", (28, 28)),
    _trained(
        "denoiser",
        "trained WTConv denoiser",
        (384, 512),
        (128, 128),
        arch="network:factory",
        settings={"task": "restoration"},
    ),
    _trained(
        "brain_mri",
        "trained WaveMix segmenter, brain",
        (192, 224),
        settings={"mean": "0", "std": "1"},
    ),
)

NETWORKS = {network.name: network for network in _ALL}
QUICK = ("super_resolution_144x4", "trained_super_resolution")
