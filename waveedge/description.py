"""What a network is and what it costs, in plain values."""

from __future__ import annotations

from typing import Any

from waveedge.compression.compressed import Compressed
from waveedge.compression.recipe import Recipe
from waveedge.compression.wavelet import choose_layers
from waveedge.cost import parameters, profile
from waveedge.models.build import check_input_size
from waveedge.normalise import normalise, preserve
from waveedge.opening import Network, open_network, spec_for

__all__ = ["inspect"]

_WOULD_TOUCH = Recipe(wcc_ratio=0.5)


def inspect(network: Network, input_size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return what a network is, what it costs, and what compression would touch.

    ::

        facts = waveedge.inspect("model.pt", (32, 32))
        print(facts["family"], facts["multiply_adds"], facts["assumed"])

    Args:
        network: any module that takes images (N, C, H, W), what :func:`waveedge.compress` returned,
            or the path of a checkpoint or an artifact. It is not changed.
        input_size: (height, width) in pixels; by default that of compression, or of the network's
            ``spec``.

    Returns:
        Plain JSON values: ``family``, ``task``, ``config``, ``assumed`` (what shapes cannot tell,
        and what it was taken to be), ``preprocessing``, ``input`` (shape), ``size_multiple``,
        ``parameters`` (shared ones once), ``multiply_adds``, ``multiply_add_shares`` (by kind of
        layer), ``peak_feature_map_bytes``, ``layers``, and ``wcc`` (which layers a ``wcc_ratio`` of
        0.5 would touch, and why).

    Raises:
        InputError: there is no network, it takes more than an image, or none of this size.
        CheckpointError: the path holds no network that is known.
        ArtifactError: it is a damaged artifact.
        ExportError: the network's code cannot be followed; the message names the line.
    """
    opened = open_network(network)
    if isinstance(opened, Compressed):
        spec, graph = opened.spec, opened.graph
        size = input_size or opened.input_size
        check_input_size(spec, size)
    else:
        spec = spec_for(opened)
        size = input_size or spec.input_size
        check_input_size(spec, size)
        graph = normalise(opened, (spec.channels, *size))
        preserve(graph, spec=spec)
    cost = profile(graph, size)
    kinds = (*dict.fromkeys(row.kind for row in cost.layers), "transform")
    decisions = [] if isinstance(opened, Compressed) else choose_layers(graph, cost, _WOULD_TOUCH)
    return {
        "family": spec.family,
        "task": spec.task,
        "config": spec.config,
        "assumed": {name: spec.config.get(name) for name in spec.assumed},
        "preprocessing": spec.preprocessing.model_dump(mode="json"),
        "input": [1, spec.channels, *size],
        "size_multiple": spec.size_multiple,
        "parameters": cost.params if isinstance(opened, Compressed) else parameters(opened),
        "multiply_adds": cost.macs,
        "peak_feature_map_bytes": cost.peak.peak_bytes if cost.peak else 0,
        "multiply_add_shares": {kind: cost.share(kind) for kind in kinds},
        "layers": [
            {
                "name": row.name,
                "type": row.type,
                "kind": row.kind,
                "input": list(row.input_shape),
                "output": list(row.output_shape),
                "parameters": row.params,
                "multiply_adds": row.macs,
            }
            for row in cost.layers
        ],
        "wcc": [
            {"name": item.name, "wcc": item.compressed, "reason": item.reason} for item in decisions
        ],
    }
