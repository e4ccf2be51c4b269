"""Tell a network's family and whole configuration from its state dict's names and shapes.

Three steps: choose the family whose names the keys resemble most; read its configuration, each
number by a majority of the keys that hold it, so that one damaged key cannot mislead; then build
the network without memory for its weights and compare it with the checkpoint, key by key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from pydantic import ValidationError

from waveedge.errors import CheckpointError
from waveedge.models.evidence import Evidence, Shape
from waveedge.models.families import CONFIGS, TITLES, Config, describe, network
from waveedge.models.readers import READERS
from waveedge.spec import ModelSpec

__all__ = ["compare", "identify"]

_OWN_NETWORK = (
    "If it is a network of your own, name the function that builds it: "
    "--arch package.module:factory"
)

# Names that only this family has, and names that it shares with many networks.
_OWN = {
    "wavemix": r"layers\.\d+\.(feedforward\d*|reduction|ff\d+|depthconv)\..+",
    "wavemixsr": r"(SR_blocks\.\d+\.(layers|final|path1)|path1)\..+",
    "wavepaint": r"wavemodules\.\d+\..+",
    "wavemixlite": r"wavemixlite\.wavemixlite\.\d+\..+",
    "wtconvnext": r"stages\.\d+\.(blocks\.\d+\.((conv_dw|norm|mlp)\..+|gamma)"
    r"|\d+\.(depthwise_conv|pointwise_conv[12])\..+)",
}
_SHARED = {
    "wavemix": r"(conv|pool|head|expand|segment|final)\.\d*.*",
    "wavemixsr": r"(layers\.\d+\.(feedforward|reduction)|final\.\d)\..+",
    "wavepaint": r"depthconv\..+",
    "wavemixlite": r"(conv|convT|fc|segmentation)\..+",
    "wtconvnext": r"(stem|head|norm_pre|stages\.\d+\.downsample"
    r"|downsample_layers|norm[0-3]|stages\.\d+\.\d+\.norm)\..+",
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
    fields, assumed = READERS[family](evidence)
    try:
        config = CONFIGS[family].model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise CheckpointError(
            f"nearest to {TITLES[family]}, but {where or 'its configuration'} makes no sense: "
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
            f"not a network that waveedge knows: none of its {len(shapes)} keys is part of a "
            f"block of a published network (the first is {first}); the nearest family is "
            f"{TITLES[best]}",
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
            f"nearest to {TITLES[family]} ({_summary(config)}), but {'; '.join(problems)}",
            hint=f"The file is damaged, or holds a variant that was never published. "
            f"{_OWN_NETWORK}",
        )


def _summary(config: Config) -> str:
    fields = config.model_dump()
    told = ("block", "levels", "depth", "dim", "depths", "dims", "wt_levels", "stem", "head")
    return ", ".join(f"{name} {fields[name]}" for name in told if name in fields)
