"""What a verb is given: a network in memory or in a file, and images in any form."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from torch import fx, nn

from waveedge.calibration import ImageSet, Source, open_images
from waveedge.checkpoint import load
from waveedge.compression.compressed import Compressed
from waveedge.errors import InputError
from waveedge.models.build import attach_spec, spec_of
from waveedge.models.channels import input_channels
from waveedge.models.source import find_source
from waveedge.normalise import check_inputs, detached_copy
from waveedge.spec import ModelSpec

__all__ = [
    "CALIBRATED",
    "HELD_OUT",
    "Loader",
    "Network",
    "checkpoint_of",
    "open_float",
    "open_network",
    "spec_for",
    "wanted_of",
    "with_images",
]

Network: TypeAlias = nn.Module | Compressed | str | Path
"""A module, what :func:`waveedge.compress` returned, or the path of a checkpoint or an artifact."""

CALIBRATED, HELD_OUT = 64, 16
"""Images that show ranges and moments, and that judge, at most."""
_LEARNT, _PIXELS = 256, 2**24
"""Images to learn from, at most, and their pixels, where these are more than calibrate."""

Loader: TypeAlias = Callable[[Path], nn.Module | Compressed]


def open_network(network: Network, loader: Loader = load) -> nn.Module | Compressed:
    """Return the network, from its file where it is a path.

    Raises:
        InputError: it is no network; or, a module, the graph of a compressed one.
        CheckpointError: the path holds no network that is known.
        ArtifactError: the path is a damaged artifact.
    """
    if isinstance(network, (str, Path)):
        return loader(Path(network))
    if isinstance(network, fx.GraphModule) and hasattr(network, "applied"):
        raise InputError(
            "this module is the graph of a compressed or rewritten network",
            hint="Give what waveedge.compress or waveedge.load returned, not its graph.",
        )
    if isinstance(network, nn.Module):
        return _single(network)
    if isinstance(network, Compressed):
        return network
    raise InputError(
        f"there is no network in a {type(network).__name__}",
        hint="Give a torch nn.Module, what waveedge.compress returned, or the path of a file.",
    )


def _single(network: nn.Module) -> nn.Module:
    """The network, or a copy in float32 of one in float64, as images and runtimes are."""
    doubles = any(tensor.dtype == torch.float64 for tensor in network.parameters())
    return detached_copy(network).float() if doubles else network


def open_float(network: Network, name: str = "", loader: Loader = load) -> nn.Module:
    """Return the network as of :func:`open_network`, and refuse a compressed one.

    Args:
        name: what messages call it.
    """
    opened = open_network(network, loader)
    if isinstance(opened, Compressed):
        name = name or str(opened.path or "this network")
        raise InputError(
            f"{name} is already compressed", hint="Compress the original checkpoint instead."
        )
    return opened


def checkpoint_of(compressed: Compressed) -> Path | None:
    """The checkpoint that an artifact was made from, where that still lies there, unchanged."""
    folders = [compressed.path.parent] if compressed.path else []
    return find_source(compressed.source_name, compressed.source_sha256, (*folders, Path()))


def _has_spec(model: nn.Module) -> bool:
    """Whether a module says what it is."""
    return isinstance(getattr(model, "spec", None), ModelSpec)


def spec_for(model: nn.Module) -> ModelSpec:
    """The specification that a module carries; else one with the channels that it takes.

    Raises:
        InputError: the network takes more than an image.
    """
    if _has_spec(model):
        return spec_of(model)
    check_inputs(model)
    return ModelSpec(family="custom", channels=input_channels(detached_copy(model)))


def wanted_of(size: tuple[int, int]) -> tuple[int, int]:
    """How many images of (height, width) are learnt from, and held out; some calibrate.

    Tuning overfits to few images; as many large ones would fill the memory.
    """
    return max(CALIBRATED, min(_LEARNT, _PIXELS // (size[0] * size[1]))), HELD_OUT


def with_images(
    model: nn.Module,
    images: Source | ImageSet | None,
    *,
    size: tuple[int, int] | None,
    seed: int = 0,
    wanted: tuple[int, int] | None = None,
    warn: Callable[[str], object] = warnings.warn,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[nn.Module, ImageSet]:
    """Open images for a network; each tells what the other leaves open.

    Args:
        model: a module with or without a ``spec``; it is not changed.
        size: (height, width) in pixels; where None, that of arrays, or of the spec.
        wanted: most images to learn from, and to hold out; by default as of :func:`wanted_of`.
        warn: called with what is suspicious about the images; not for an image set, which whoever
            opened it has looked at.

    Returns:
        The module, and the images. One without ``spec`` comes back as a copy with one: of the
        family ``custom``, with channels and input size of the images.

    Raises:
        InputError: the network takes more than an image, or the image set has another size.
        ImageError: there are no usable images.
    """
    check_inputs(model)
    described = _has_spec(model)
    wanted = wanted or wanted_of(size or spec_for(model).input_size)
    opened = open_images(
        images,
        spec=spec_of(model) if described else None,
        channels=spec_for(model).channels,
        size=size,
        limit=wanted[0],
        held_out=wanted[1],
        seed=seed,
        progress=progress,
    )
    _, channels, height, width = opened.calibration[0].shape
    if size is not None and size != (height, width):
        raise InputError(
            f"the images are {height}x{width}, and the input size is {size[0]}x{size[1]}",
            hint="Open the images with this size.",
        )
    if not described:
        spec = ModelSpec(family="custom", channels=channels, input_size=(height, width))
        model = attach_spec(detached_copy(model), spec)
    if opened is not images:
        for suspicion in opened.suspicions:
            warn(f"suspicious images: {suspicion}")
    return model, opened
