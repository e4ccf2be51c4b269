"""The forms whose quality is measured: what a user types, and the rows of the paper's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.variants import Own

__all__ = [
    "INT8",
    "LINE",
    "PAPER_STEPS",
    "PUBLISHED",
    "QUICK",
    "SELECTIONS",
    "WHOLE",
    "paper_forms",
    "series",
    "typed_forms",
]

PUBLISHED = "published"
WHOLE, INT8, LINE = "int8_whole", "int8", "line"

PAPER_STEPS = 50
"""Of tuning that every row of the paper's table gets: a quarter of what the command takes at least,
so that 120 rows of two networks and three seeds are four hours of CPU time, not ten."""
_QUICK_STEPS = 2

_RATIOS = (0.5, 0.25, 0.125)
SELECTIONS = ("static", "topk")
_ACTIVATIONS = (8, 6, 4, 2)
_WEIGHTS = (8, 4)

QUICK = {
    "quality_targets": (WHOLE, INT8, LINE),
    "paper_table": ("w8a8", "w8a8-topk50"),
}
"""Table -> the forms of it that a quick run makes."""


def typed_forms(*, quick: bool = False) -> dict[str, Own]:
    """What ``waveedge compress`` makes of a network, by the flags that are typed."""
    line = {"bits": 4, "wcc_ratio": 0.5}
    tuned = {"tune": _QUICK_STEPS} if quick else {}
    forms = {
        WHOLE: Own("--bits 8 --no-shrink", {"bits": 8, "shrink": False}),
        INT8: Own("--bits 8", {"bits": 8}),
        "line_untuned": Own("--bits 4 --wcc-ratio 0.5 --no-tune", {**line, "tune": 0}),
        LINE: Own("--bits 4 --wcc-ratio 0.5", {**line, **tuned}),
    }
    return _some(forms, "quality_targets") if quick else forms


def paper_forms(*, quick: bool = False) -> dict[str, Own]:
    """The rows of the paper's table (Finder et al., arXiv 2205.12268), under one budget of tuning.

    They are not shrunk: the paper weighs plain quantization against WCC, and nothing else.
    """
    common = {"shrink": False, "tune": _QUICK_STEPS if quick else PAPER_STEPS}
    forms: dict[str, Own] = {}

    def row(name: str, title: str, **fields: Any) -> None:
        forms[name] = Own(title, {**fields, **common})

    for weights in _WEIGHTS:
        for bits in _ACTIVATIONS:
            row(f"w{weights}a{bits}", f"{weights}/{bits}", weight_bits=weights, bits=bits)
        for ratio in _RATIOS:
            for select in SELECTIONS:
                row(
                    f"w{weights}a8-{select}{100 * ratio:g}",
                    f"{weights}/8, WCC {100 * ratio:g} %, {select}",
                    weight_bits=weights,
                    bits=8,
                    wcc_ratio=ratio,
                    wcc_select=select,
                )
    return _some(forms, "paper_table") if quick else forms


def series(name: str) -> tuple[str, int]:
    """Of a row of the paper's table: "plain", "static" or "topk", and its weight bits."""
    bits, _, wcc = name.partition("-")
    return wcc.rstrip(".0123456789") or "plain", int(bits[1])


def _some(forms: Mapping[str, Own], table: str) -> dict[str, Own]:
    return {name: forms[name] for name in QUICK[table]}
