"""What compression did to a network: per layer and in total, requested and measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from waveedge.bounds import Count, Decibels, Name, Share, Text
from waveedge.decibels import power, ratio_db
from waveedge.reference import Reference, run
from waveedge.spec import Task

__all__ = [
    "COLLAPSED_DB",
    "LOW_DB",
    "CompressionReport",
    "LayerReport",
    "Quality",
    "ShrinkReport",
    "TuningReport",
    "measure",
]

COLLAPSED_DB = 10.0
"""Below this signal-to-noise ratio the output has little left of the float network's."""

LOW_DB = 20.0
"""Below this signal-to-noise ratio the output of a network of 8 bits is worth a second look."""

COLLAPSED_AGREEMENT = 0.9
"""Below this share of equal arg-max decisions a classifier or segmenter has changed its mind."""

_NAMED = 20
"""Layers that a sentence names; the table has all of them."""


# An exact network has an infinite signal-to-noise ratio, which plain JSON cannot hold.
_CONFIG = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

_Bits = Annotated[int, Field(ge=2, le=32)]


class LayerReport(BaseModel):
    """One layer of the compressed network, or a function that multiplies (matmul, FFT).

    ``transform_macs`` is the part of ``macs`` that is wavelet transforms, always in floating point;
    ``bops`` are multiply-adds x weight bits x activation bits (arXiv 2205.12268);
    ``feature_bits`` are the bits of the layer's input feature map, of which WCC keeps ``ratio``;
    ``snr_db`` compares its output with the float network's on the held-out images; ``note`` says
    why it is in floating point where 8 bits were asked for, or has 8 bits where fewer were.
    """

    model_config = _CONFIG

    name: Name
    type: Name
    weight_bits: _Bits
    activation_bits: _Bits
    ratio: Share
    macs: Count
    transform_macs: Count = 0
    bops: Count
    feature_bits: Count
    snr_db: Decibels | None
    note: Text = ""

    @property
    def in_integers(self) -> bool:
        """Whether it multiplies integers with integers."""
        return self.weight_bits < 32 and self.activation_bits < 32


class Quality(BaseModel):
    """How near the compressed network's output is to the float network's on held-out images."""

    model_config = _CONFIG

    images: Count
    snr_db: Decibels
    agreement: Share | None = None
    """Share of equal arg-max decisions (classes, or pixels); None where there is no arg-max."""

    @property
    def collapsed(self) -> bool:
        """Whether the compressed network should not be used as it is."""
        if self.agreement is not None:
            return self.agreement < COLLAPSED_AGREEMENT
        return not self.snr_db >= COLLAPSED_DB

    @property
    def low(self) -> bool:
        """Whether the output is so far from the float network's that it is worth a notice."""
        return self.collapsed or (self.agreement is None and self.snr_db < LOW_DB)


class ShrinkReport(BaseModel):
    """Which layers exchange fewer channels than the user's network has.

    ``forms`` has the layer that writes them, and what changed; ``snr_db`` is what that alone does
    to the output, in floating point, on the held-out images.
    """

    model_config = _CONFIG

    forms: tuple[tuple[Name, Text], ...]
    snr_db: Decibels


class TuningReport(BaseModel):
    """What training did: signal-to-noise ratio of the output on held-out images, before and after.

    ``steps`` were taken to the state that was kept; 0 where that is the one before training. With
    labels, ``accuracy`` is the share of those images that the network classifies as labelled.
    """

    model_config = _CONFIG

    steps: Count
    snr_db_before: Decibels
    snr_db: Decibels
    accuracy_before: Share | None = None
    accuracy: Share | None = None


class CompressionReport(BaseModel):
    """The whole account; saved with the artifact and printed by the command line."""

    model_config = _CONFIG

    layers: tuple[LayerReport, ...]
    decisions: tuple[tuple[Name, Text], ...]
    """(layer of the published network, what WCC did with it and why)."""
    rewrites: tuple[Text, ...]
    left_out: tuple[Text, ...] = ()
    """Rewrites that did not hold on this network, and why."""
    coefficients: Share = 1.0
    """Share of the inputs of the layers that WCC chose which they keep together."""
    shrunk: ShrinkReport | None = None
    """None where no channel was left out."""
    tuned: TuningReport | None = None
    """None where nothing was trained."""
    in_float: tuple[tuple[Name, Text], ...] = ()
    """(layer that stays in floating point although 8 bits were asked for, and why)."""
    in_eight: tuple[tuple[Name, Text], ...] = ()
    """(layer that has 8 bits although fewer were asked for, and why)."""
    bops_before: Count
    bops_after: Count
    macs_before: Count
    macs_after: Count
    feature_bits_before: Count
    feature_bits_after: Count
    quality: Quality
    calibration: Text

    @property
    def float_macs(self) -> int:
        """Multiply-adds of the compressed network that stay in floating point."""
        integers = (row.macs - row.transform_macs for row in self.layers if row.in_integers)
        return self.macs_after - sum(integers)

    def coverage(self) -> str | None:
        """Return which multiply-adds stay in floating point, naming the layers; else None."""
        if not self.float_macs:
            return None
        floats = sorted(
            (row for row in self.layers if not row.in_integers and row.macs > row.transform_macs),
            key=lambda row: -row.macs,
        )
        names = [f"{row.name} ({row.macs / self.macs_after:.1%})" for row in floats]
        if len(names) > _NAMED:
            names[_NAMED:] = [f"{len(names) - _NAMED} more"]
        transforms = self.macs_after - sum(row.macs - row.transform_macs for row in self.layers)
        if transforms:
            names.append(f"wavelet transforms ({transforms / self.macs_after:.1%})")
        return (
            f"{self.float_macs:,} of {self.macs_after:,} multiply-adds stay in floating point: "
            f"{', '.join(names)}"
        )

    def advice(self) -> str | None:
        """Return what to do where quality is low, naming the layers that lose most; else None."""
        if not self.quality.low:
            return None
        judged = [layer for layer in self.layers if layer.snr_db is not None]
        judged = [layer for layer in judged if layer.weight_bits < 32 or layer.activation_bits < 32]
        worst = sorted(judged, key=lambda layer: layer.snr_db or 0.0)[:3]
        names = ", ".join(f"{layer.name} ({layer.snr_db:.1f} dB)" for layer in worst)
        agreement = self.quality.agreement
        how_far = (
            f"the output's signal-to-noise ratio is {self.quality.snr_db:.1f} dB"
            if agreement is None
            else f"only {agreement:.1%} of its decisions are the float network's"
        )
        few = any(min(layer.weight_bits, layer.activation_bits) < 8 for layer in self.layers)
        mends = ["raise --bits"] if few else []
        if self.coefficients < 1:
            mends.insert(0, "raise --wcc-ratio, or use --wcc-ratio 1")
        mends.append("leave the worst layers alone with --skip")
        verdict = "collapsed" if self.quality.collapsed else "is low"
        return (
            f"Quality {verdict}: on {self.quality.images} held-out images {how_far}. "
            f"What to do: {'; '.join(mends)}: {names}."
        )


def measure(
    reference: Reference, plain: nn.Module, model: nn.Module, images: int, task: Task
) -> tuple[Quality, dict[str, float]]:
    """Compare ``model`` with the user's network on the first ``images`` of ``reference``.

    Args:
        plain: the same network as ``model`` without quantizers, for the comparison by layer.

    Returns:
        the quality of the output (of the worst one, where there are several), and the SNR in dB of
        every layer both networks have under one name with one output shape.
    """
    signal: dict[str, float] = defaultdict(float)
    noise: dict[str, float] = defaultdict(float)
    equal = decisions = 0
    for index in range(images):
        with _outputs(plain) as expected, _outputs(model) as found:
            run(plain, reference.images[index])
            got = run(model, reference.images[index])
        for name in expected.keys() & found.keys():
            if expected[name].shape == found[name].shape:
                signal[name] += power(expected[name])
                noise[name] += power(expected[name] - found[name])
        wanted = reference.outputs(index)
        for number, (one, other) in enumerate(zip(wanted, got, strict=True)):
            signal[f"output {number}"] += power(one)
            noise[f"output {number}"] += power(one - other)
        if task in ("classification", "segmentation"):
            same = wanted[0].argmax(1) == got[0].argmax(1)
            equal += int(same.sum())
            decisions += same.numel()
    by_layer = {name: ratio_db(signal[name], noise[name]) for name in signal}
    outputs = [by_layer.pop(name) for name in list(by_layer) if name.startswith("output ")]
    quality = Quality(
        images=images,
        snr_db=min(outputs, default=-math.inf),
        agreement=equal / decisions if decisions else None,
    )
    return quality, by_layer


@contextmanager
def _outputs(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the output of every layer with weights while the block runs the model."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs[name] = output.clone()

        return hook

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in model.named_modules()
        if name and "weight" in dict(module.named_parameters(recurse=False))
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
