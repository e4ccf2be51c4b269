"""What ``waveedge inspect`` prints."""

from __future__ import annotations

from typing import Any

from waveedge import console

__all__ = ["show"]


def show(facts: dict[str, Any]) -> None:
    """Print what :func:`waveedge.inspect` returned as tables."""
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
