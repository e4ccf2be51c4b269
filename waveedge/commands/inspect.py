"""``waveedge inspect``: what a checkpoint is, what it costs, and what compress would touch."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from waveedge import console
from waveedge.compression.recipe import Recipe
from waveedge.compression.wavelet import choose_layers
from waveedge.cost import profile
from waveedge.models.build import check_input_size, spec_of
from waveedge.normalise import normalise

__all__ = ["describe", "show"]

_WOULD_TOUCH = Recipe(wcc_ratio=0.5)


def describe(model: nn.Module, input_size: tuple[int, int] | None) -> dict[str, Any]:
    """Return everything ``inspect`` knows about ``model`` as plain JSON values."""
    spec = spec_of(model)
    size = input_size or spec.input_size
    check_input_size(spec, size)
    network = (
        model if isinstance(model, fx.GraphModule) else normalise(model, (spec.channels, *size))
    )
    cost = profile(network, size)
    kinds = (*dict.fromkeys(row.kind for row in cost.layers), "transform")
    decisions = choose_layers(network, cost, _WOULD_TOUCH) if not hasattr(model, "applied") else []
    return {
        "family": spec.family,
        "task": spec.task,
        "config": spec.config,
        "assumed": {name: spec.config.get(name) for name in spec.assumed},
        "preprocessing": spec.preprocessing.model_dump(mode="json"),
        "input": [1, spec.channels, *size],
        "size_multiple": spec.size_multiple,
        "parameters": cost.params,
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


def show(facts: dict[str, Any]) -> None:
    """Print :func:`describe`'s facts as tables."""
    config = ", ".join(f"{name}={value}" for name, value in facts["config"].items())
    assumed = ", ".join(f"{name}={value}" for name, value in facts["assumed"].items())
    rows = [
        ("family", facts["family"]),
        ("task", facts["task"]),
        ("configuration", config or "-"),
        ("assumed (--set changes it)", assumed or "nothing"),
        ("input", "x".join(map(str, facts["input"]))),
        ("height and width", f"multiples of {facts['size_multiple']}"),
        ("parameters", console.count(facts["parameters"])),
        ("multiply-adds", console.count(facts["multiply_adds"])),
        ("peak feature map (float32)", console.size(facts["peak_feature_map_bytes"])),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.out.print(f"{name:<{width}}  {value}", highlight=False, markup=False)
    console.table(
        "\nWhere the multiply-adds are",
        ("kind of layer", "share"),
        [
            (kind, f"{share:.1%}")
            for kind, share in sorted(
                facts["multiply_add_shares"].items(), key=lambda item: -item[1]
            )
        ],
    )
    if facts["wcc"]:
        touched = sum(item["wcc"] for item in facts["wcc"])
        console.table(
            f"\nWhat compress --wcc-ratio 0.5 would touch: {touched} of {len(facts['wcc'])} layers "
            "(quantizers go on all of them)",
            ("layer", "WCC", "why"),
            [
                (item["name"], "yes" if item["wcc"] else "no", item["reason"])
                for item in facts["wcc"]
            ],
        )
