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
from waveedge.models.config import NetworkConfig
from waveedge.models.evidence import Evidence, Shape
from waveedge.models.families import FAMILIES, describe
from waveedge.models.family import Family
from waveedge.spec import ModelSpec

__all__ = ["compare", "identify"]

_OWN_NETWORK = (
    "If it is a network of your own, name the function that builds it: "
    "--arch package.module:factory"
)


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
    fields, assumed = family.read(Evidence(shapes))
    try:
        config = family.config.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise CheckpointError(
            f"nearest to {family.title}, but {where or 'its configuration'} makes no sense: "
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


def _nearest_family(shapes: Mapping[str, Shape]) -> Family:
    best = max(
        FAMILIES.values(),
        key=lambda family: (family.own(shapes) + family.shared(shapes), family.name),
    )
    for pattern, what, hint in _FOREIGN:
        name = next((name for name in shapes if re.fullmatch(pattern, name)), None)
        if name is not None:
            raise CheckpointError(f"{what} (key {name})", hint=hint)
    if not best.own(shapes):
        first = next(iter(shapes), "none")
        raise CheckpointError(
            f"not a network that waveedge knows: none of its {len(shapes)} keys is part of a "
            f"block of a published network (the first is {first}); the nearest family is "
            f"{best.title}",
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


def _check_fit(config: NetworkConfig, family: Family, shapes: Mapping[str, Shape]) -> None:
    with torch.device("meta"):
        expected = {
            name: tuple(tensor.shape) for name, tensor in family.module(config).state_dict().items()
        }
    problems = compare(expected, shapes)
    if problems:
        fields = config.model_dump()
        told = ", ".join(f"{name} {fields[name]}" for name in family.telling)
        raise CheckpointError(
            f"nearest to {family.title} ({told}), but {'; '.join(problems)}",
            hint=f"The file is damaged, or holds a variant that was never published. "
            f"{_OWN_NETWORK}",
        )
