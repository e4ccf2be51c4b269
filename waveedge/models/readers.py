"""Read each family's configuration from a state dict's names and shapes.

A reader returns the fields of the configuration, and the names of those that no shape tells and
that hold the published default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from waveedge.models.evidence import Evidence
from waveedge.models.wtconvnext_mmseg import published_name

__all__ = ["READERS"]

Reading = tuple[dict[str, Any], tuple[str, ...]]


def _read_wavemix(evidence: Evidence) -> Reading:
    vote, feed = evidence.vote, r"layers\.\d+\.feedforward\d*"
    patch = evidence.any(r"conv\.[24]\..+")
    last = r"conv\.(2\.(weight|bias)|4\.weight)" if patch else r"conv\.1\.(weight|bias)"
    fields = {
        **_read_block(evidence, "", (last, 0)),
        "depth": evidence.count(r"layers\.(\d+)\..+"),
        "in_channels": vote((r"conv\.0\.weight", 1), default=3),
        "stem": "patch" if patch else "strided",
    }
    if patch:
        fields["patch_size"] = vote((r"conv\.2\.weight", 2), (r"conv\.2\.weight", 3), default=4)
    if evidence.any(r"layers\.\d+\.(ff\d+|depthconv)\..+"):
        fields["block"] = "shared"
        fields["levels"] = evidence.count(r"layers\.\d+\.ff(\d+)\..+", first=1)
        upsampling = (r"layers\.\d+\.ff\d+\.weight", 0)
        fields["ff_channels"] = vote(
            (rf"{feed}\.3\.(weight|bias)", 0), upsampling, default=fields["dim"]
        )
    elif vote((rf"{feed}\.4\.weight", 2), default=4) == 3:
        fields |= {"block": "pixelshuffle", "levels": 1}
    else:
        fields["block"] = "ladder"

    dense = next((name for name in ("expand", "segment") if evidence.any(rf"{name}\..+")), None)
    if dense is None and evidence.any(r"pool\.(0|1)\..+"):
        dense = "pool"
    _read_head(evidence, fields, dense)
    assumed: dict[str, Any] = {"dropout": _published_dropout(fields)}
    if not patch:
        assumed["stride"] = _published_stride(fields)
    return {**fields, **assumed}, tuple(assumed)


def _read_block(evidence: Evidence, prefix: str, *stem: tuple[str, int]) -> dict[str, Any]:
    """Read the ladder of feed-forwards that most WaveMix networks are made of.

    Args:
        prefix: pattern of what stands before ``layers`` in the names.
        stem: what else tells the channels between blocks, for :meth:`Evidence.vote`.
    """
    vote, layers = evidence.vote, rf"{prefix}layers\.\d+"
    feed = rf"{layers}\.feedforward\d*"
    dim = vote((rf"{layers}\.reduction\.weight", 1), *stem, default=4)
    return {
        "dim": dim,
        "mult": max(1, vote((rf"{feed}\.0\.(weight|bias)", 0), default=dim) // dim),
        "ff_channels": vote(
            (rf"{feed}\.3\.(weight|bias)", 0), (rf"{feed}\.4\.weight", 0), default=dim
        ),
        "levels": evidence.count(rf"{layers}\.feedforward(\d+)\..+", first=1),
    }


def _read_head(evidence: Evidence, fields: dict[str, Any], dense: str | None) -> None:
    vote = evidence.vote
    if dense is None:
        name = "head" if evidence.any(r"head\..+") else "pool"
        fields["head"] = name
        fields["num_classes"] = vote((rf"{name}\.2\.(weight|bias)", 0), default=1)
        if evidence.any(r"final\..+"):
            fields["embedding"] = vote((r"final\.(weight|bias)", 0), default=1)
        return
    last = evidence.count(rf"{dense}\.(\d+)\..+") - 1
    fields["head"] = "dense-pool" if dense == "pool" else dense
    fields["num_classes"] = vote((rf"{dense}\.{last}\.(weight|bias)", 0), default=1)
    fields["head_widths"] = tuple(
        vote(
            (rf"{dense}\.{index}\.weight", 1),
            (rf"{dense}\.{index}\.bias", 0),
            # The next layer's input: a transposed conv's weight is (in, out), a conv's (out, in).
            (rf"{dense}\.{index + 1}\.weight", 1 if index + 1 == last else 0),
            default=1,
        )
        for index in range(last)
    )


def _published_stride(fields: Mapping[str, Any]) -> int:
    """One-level classifiers (WaveMix-Lite) and super-resolution keep the image's resolution."""
    if fields["block"] != "ladder":
        return 1
    if "head_widths" not in fields:
        return 1 if fields["levels"] == 1 else 2
    return 1 if len(fields["head_widths"]) == 1 else 2


def _published_dropout(fields: Mapping[str, Any]) -> float:
    trunk_of_classifier = fields["head"] in ("pool", "head", "dense-pool")
    return 0.5 if trunk_of_classifier and fields["block"] != "shared" else 0.0


def _read_wavemixsr(evidence: Evidence) -> Reading:
    stage = r"(?:SR_blocks\.\d+\.)?"
    fields = _read_block(evidence, stage, (rf"{stage}path1\.2\.(weight|bias)", 0))
    del fields["levels"]
    fields["depth"] = evidence.count(rf"{stage}layers\.(\d+)\..+")
    fields["dropout"] = 0.3
    if evidence.any(r"SR_blocks\..+"):
        stages = evidence.count(r"SR_blocks\.(\d+)\..+")
        fields |= {"version": 2, "stages": stages, "ff_channels": 4 * fields["dim"]}
        return fields, ("dropout",)
    return {**fields, "scale": 2, "interpolation": "bicubic"}, ("dropout", "scale", "interpolation")


def _read_wavepaint(evidence: Evidence) -> Reading:
    module = r"wavemodules\.\d+\."
    fields = {
        **_read_block(
            evidence,
            module,
            (rf"{module}conv\.1\.(weight|bias)", 0),
            (rf"{module}depthconv\.[02]\.(weight|bias)", 0),
        ),
        "modules": evidence.count(r"wavemodules\.(\d+)\..+"),
        "depth": evidence.count(rf"{module}layers\.(\d+)\..+"),
        "reads_mask": evidence.vote((rf"{module}conv\.0\.weight", 1), default=4) == 4,
    }
    return {**fields, "dropout": 0.0}, ("dropout",)


def _read_wavemixlite(evidence: Evidence) -> Reading:
    vote, block = evidence.vote, r"wavemixlite\.wavemixlite\.\d+"
    dim = vote(
        (rf"{block}\.conv_input\.weight", 1),
        (rf"{block}\.batch_norm\.(weight|bias)", 0),
        (r"conv\.1\.(weight|bias)", 0),
        default=4,
    )
    fields = {
        "depth": evidence.count(r"wavemixlite\.wavemixlite\.(\d+)\..+"),
        "dim": dim,
        "mult": max(1, vote((rf"{block}\.fc\.0\.(weight|bias)", 0), default=dim) // dim),
        "num_classes": vote((r"(fc|segmentation)\.(weight|bias)", 0), default=1),
        "dense": evidence.any(r"(convT|segmentation)\..+"),
    }
    return {**fields, "dropout": 0.5}, ("dropout",)


def _read_wtconvnext(evidence: Evidence) -> Reading:
    if evidence.any(r"downsample_layers\..+"):
        names = {published_name(name): shape for name, shape in evidence.shapes.items()}
        read, _ = _read_wtconvnext(Evidence(names))
        norms = (rf"norm{stage}\.(weight|bias)" for stage in range(4))
        out_stages = tuple(stage for stage, norm in enumerate(norms) if evidence.any(norm))
        return {**read, "out_stages": out_stages}, ("norm_eps",)
    vote = evidence.vote
    stages = [rf"stages\.{stage}\.blocks\.\d+" for stage in range(4)]
    depthwise = r"\.conv_dw\.(base_conv|wavelet_convs\.\d+)\.weight"
    classes = vote((r"head\.fc\.(weight|bias)", 0), default=0)
    blocks = evidence.number(r"stages\.\d+\.blocks\.\d+\.norm\.weight")
    overlap = evidence.any(r"stem\.1\.weight", dimensions=4)
    biased = r"(stem\.[01]|stages\.\d+\.(downsample\.1|blocks\.\d+\.conv_dw\.base_conv))\."
    fields: dict[str, Any] = {
        "depths": tuple(
            evidence.count(rf"stages\.{stage}\.blocks\.(\d+)\..+") for stage in range(4)
        ),
        "dims": tuple(
            vote(
                (rf"{stage}\.norm\.(weight|bias)", 0),
                (rf"{stage}\.conv_dw\.base_conv\.(weight|bias)", 0),
                (rf"{stage}\.mlp\.fc2\.(weight|bias)", 0),
                default=1,
            )
            for stage in stages
        ),
        "kernel_sizes": tuple(
            vote((f"{stage}{depthwise}", 2), (f"{stage}{depthwise}", 3), default=5)
            for stage in stages
        ),
        "wt_levels": tuple(
            max(1, evidence.count(rf"{stage}\.conv_dw\.wavelet_(?:convs|scale)\.(\d+)\..+"))
            for stage in stages
        ),
        "num_classes": classes,
        "in_channels": vote((r"stem\.0\.weight", 1), default=3),
        "layer_scale": 2 * evidence.number(r"stages\.\d+\.blocks\.\d+\.gamma") >= blocks,
        "grn": 2 * evidence.number(r"stages\.\d+\.blocks\.\d+\.mlp\.grn\.weight") >= max(blocks, 1),
        # The norm after a patch stem has the name of a convolution after an overlap stem.
        "conv_bias": evidence.number(f"{biased}bias") > evidence.number(f"{biased}weight") // 2,
        "head_norm": "map" if evidence.any(r"norm_pre\..+") else "pooled",
        "conv_mlp": evidence.any(r"stages\.\d+\.blocks\.\d+\.mlp\.fc[12]\.weight", dimensions=4),
    }
    if overlap:
        fields |= {
            "stem": "overlap",
            "stem_width": vote((r"stem\.0\.(weight|bias)", 0), (r"stem\.1\.weight", 1), default=1),
        }
    else:
        sides = (r"stem\.0\.weight", 2), (r"stem\.0\.weight", 3)
        fields["patch_size"] = vote(*sides, default=4)
    hidden = r"head\.pre_logits\.fc\.(weight|bias)"
    if evidence.any(hidden):
        fields["head_hidden"] = vote((hidden, 0), (r"head\.fc\.weight", 1), default=1)
    return {**fields, "norm_eps": 1e-6, "output_stride": 32}, ("norm_eps", "output_stride")


READERS: dict[str, Callable[[Evidence], Reading]] = {
    "wavemix": _read_wavemix,
    "wavemixsr": _read_wavemixsr,
    "wavepaint": _read_wavepaint,
    "wavemixlite": _read_wavemixlite,
    "wtconvnext": _read_wtconvnext,
}
