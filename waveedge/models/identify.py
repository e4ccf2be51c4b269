"""Tell a network's family and whole configuration from its state dict's names and shapes.

Three steps: choose the family whose names the keys resemble most; read its configuration, each
number by a majority of the keys that hold it, so that one damaged key cannot mislead; then build
the network without memory for its weights and compare it with the checkpoint, key by key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pydantic import ValidationError

from waveedge.errors import CheckpointError
from waveedge.models.evidence import Evidence, Shape
from waveedge.models.families import CONFIGS, Config, describe, network
from waveedge.spec import ModelSpec

__all__ = ["compare", "identify"]

_OWN_NETWORK = (
    "If it is a network of your own, name the function that builds it: "
    "--arch package.module:factory"
)

_NAMES = {"wavemix": "WaveMix", "wtconvnext": "WTConvNeXt"}

# Names that only this family has, and names that it shares with many networks.
_OWN = {
    "wavemix": r"layers\.\d+\.(feedforward\d*|reduction|ff\d+|depthconv)\..+",
    "wtconvnext": r"stages\.\d+\.(blocks\.\d+\.(conv_dw|norm|mlp)\..+|blocks\.\d+\.gamma)",
}
_SHARED = {
    "wavemix": r"(conv|pool|expand|segment|final)\.\d*.*",
    "wtconvnext": r"(stem|head|stages\.\d+\.downsample)\..+",
}


def identify(state: Mapping[str, Iterable[int]]) -> ModelSpec:
    """Identify a network from the names and shapes of its parameters and buffers.

    What shapes cannot tell takes the published default and is listed in ``assumed``.

    Args:
        state: the shape of every entry of the state dict, by name.

    Raises:
        CheckpointError: no known network has these names and shapes. The message names the
            nearest family and the key that is missing, extra, or of another shape.
    """
    shapes = {name: tuple(shape) for name, shape in state.items()}
    family = _nearest_family(shapes)
    evidence = Evidence(shapes)
    fields, assumed = _READERS[family](evidence)
    try:
        config = CONFIGS[family].model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise CheckpointError(
            f"nearest to {_NAMES[family]}, but {where or 'its configuration'} makes no sense: "
            f"{problem['msg']}",
            hint=_OWN_NETWORK,
        ) from error
    _check_fit(config, family, shapes)
    return describe(config, assumed)


def compare(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> list[str]:
    """List what keeps ``found`` from being loaded into ``expected``; empty where it fits.

    One phrase each for missing keys, misshaped keys and extra keys, with the first three by name.
    A count of training batches may be missing: torch wrote none before version 0.4.1, and no
    output depends on it.
    """
    missing = [
        name for name in expected if name not in found and not name.endswith("num_batches_tracked")
    ]
    extra = [name for name in found if name not in expected]
    misshaped = [
        f"{name} (expected {_text(expected[name])}, found {_text(found[name])})"
        for name in expected
        if name in found and tuple(found[name]) != tuple(expected[name])
    ]
    problems = []
    for kind, names in (("missing", missing), ("of another shape", misshaped), ("extra", extra)):
        if names:
            count = "1 key is" if len(names) == 1 else f"{len(names)} keys are"
            more = ", ..." if len(names) > 3 else ""
            problems.append(f"{count} {kind}: {', '.join(names[:3])}{more}")
    return problems


def _text(shape: Shape) -> str:
    return "x".join(str(extent) for extent in shape) or "a scalar"


def _nearest_family(shapes: Mapping[str, Shape]) -> str:
    own = {family: _matches(shapes, pattern) for family, pattern in _OWN.items()}
    shared = {family: _matches(shapes, pattern) for family, pattern in _SHARED.items()}
    best = max(_OWN, key=lambda family: (own[family] + shared[family], family))
    for pattern, what, hint in _FOREIGN:
        name = next((name for name in shapes if re.fullmatch(pattern, name)), None)
        if name is not None:
            raise CheckpointError(f"{what} (key {name})", hint=hint)
    if not own[best]:
        first = next(iter(shapes), "none")
        raise CheckpointError(
            f"not a network that waveedge knows: none of its {len(shapes)} keys is a block of "
            f"WaveMix or WTConvNeXt (the first is {first}); the nearest family is {_NAMES[best]}",
            hint=_OWN_NETWORK,
        )
    return best


_FOREIGN = (
    (
        r"(.*\.)?(act_quant\.a_alpha|weight_quant\.w_alpha|iwt_filters)",
        "it holds published WCC layers: a network that is compressed already",
        "Give the uncompressed checkpoint, or the function that builds this network with its "
        "waveedge.nn.PublishedWCC layers: --arch package.module:factory",
    ),
    (
        r"wavelet_convs\.\d+\.weight",
        "it holds one WTConv2d layer, not a network",
        "Load it with waveedge.nn.WTConv2d(...).load_state_dict, or name a network that "
        "contains it: --arch package.module:factory",
    ),
)


def _matches(shapes: Mapping[str, Shape], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in shapes)


def _check_fit(config: Config, family: str, shapes: Mapping[str, Shape]) -> None:
    with torch.device("meta"):
        expected = {
            name: tuple(tensor.shape) for name, tensor in network(config).state_dict().items()
        }
    problems = compare(expected, shapes)
    if problems:
        raise CheckpointError(
            f"nearest to {_NAMES[family]} ({_summary(config)}), but {'; '.join(problems)}",
            hint=f"The file is damaged, or holds a variant that was never published. "
            f"{_OWN_NETWORK}",
        )


def _summary(config: Config) -> str:
    fields = config.model_dump()
    told = ("block", "levels", "depth", "dim", "depths", "dims", "wt_levels", "stem", "head")
    return ", ".join(f"{name} {fields[name]}" for name in told if name in fields)


def _read_wavemix(evidence: Evidence) -> tuple[dict[str, Any], tuple[str, ...]]:
    vote, feed = evidence.vote, r"layers\.\d+\.feedforward\d*"
    patch = evidence.any(r"conv\.[24]\..+")
    last = r"conv\.(2\.(weight|bias)|4\.weight)" if patch else r"conv\.1\.(weight|bias)"
    dim = vote((r"layers\.\d+\.reduction\.weight", 1), (last, 0), default=4)
    fields: dict[str, Any] = {
        "depth": evidence.count(r"layers\.(\d+)\..+"),
        "dim": dim,
        "mult": max(1, vote((rf"{feed}\.0\.(weight|bias)", 0), default=dim) // dim),
        "in_channels": vote((r"conv\.0\.weight", 1), default=3),
        "stem": "patch" if patch else "strided",
    }
    if patch:
        fields["patch_size"] = vote((r"conv\.2\.weight", 2), (r"conv\.2\.weight", 3), default=4)

    upsampling = (rf"{feed}\.4\.weight", 0)
    if evidence.any(r"layers\.\d+\.(ff\d+|depthconv)\..+"):
        fields["block"] = "shared"
        fields["levels"] = evidence.count(r"layers\.\d+\.ff(\d+)\..+", first=1)
        upsampling = (r"layers\.\d+\.ff\d+\.weight", 0)
    elif vote((rf"{feed}\.4\.weight", 2), default=4) == 3:
        fields["block"] = "pixelshuffle"
    else:
        fields["block"] = "ladder"
        fields["levels"] = evidence.count(r"layers\.\d+\.feedforward(\d+)\..+", first=1)
    fields["ff_channels"] = vote((rf"{feed}\.3\.(weight|bias)", 0), upsampling, default=dim)
    fields.setdefault("levels", 1)

    dense = next((name for name in ("expand", "segment") if evidence.any(rf"{name}\..+")), None)
    if dense is None and evidence.any(r"pool\.(0|1)\..+"):
        dense = "pool"
    _read_head(evidence, fields, dense)
    assumed: dict[str, Any] = {"dropout": _published_dropout(fields)}
    if not patch:
        assumed["stride"] = _published_stride(fields)
    return {**fields, **assumed}, tuple(assumed)


def _read_head(evidence: Evidence, fields: dict[str, Any], dense: str | None) -> None:
    vote = evidence.vote
    if dense is None:
        fields["head"] = "pool"
        fields["num_classes"] = vote((r"pool\.2\.(weight|bias)", 0), default=1)
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
    if fields["head"] == "pool":
        return 1 if fields["levels"] == 1 else 2
    return 1 if len(fields["head_widths"]) == 1 else 2


def _published_dropout(fields: Mapping[str, Any]) -> float:
    trunk_of_classifier = fields["head"] in ("pool", "dense-pool")
    return 0.5 if trunk_of_classifier and fields["block"] != "shared" else 0.0


def _read_wtconvnext(evidence: Evidence) -> tuple[dict[str, Any], tuple[str, ...]]:
    vote = evidence.vote
    stages = [rf"stages\.{stage}\.blocks\.\d+" for stage in range(4)]
    depthwise = r"\.conv_dw\.(base_conv|wavelet_convs\.\d+)\.weight"
    classes = vote((r"head\.fc\.(weight|bias)", 0), default=0)
    blocks = evidence.number(r"stages\.\d+\.blocks\.\d+\.norm\.weight")
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
        "patch_size": vote((r"stem\.0\.weight", 2), (r"stem\.0\.weight", 3), default=4),
        "layer_scale": 2 * evidence.number(r"stages\.\d+\.blocks\.\d+\.gamma") >= blocks,
        "conv_mlp": evidence.any(r"stages\.\d+\.blocks\.\d+\.mlp\.fc[12]\.weight", dimensions=4),
    }
    return {**fields, "norm_eps": 1e-6}, ("norm_eps",)


_READERS = {"wavemix": _read_wavemix, "wtconvnext": _read_wtconvnext}
