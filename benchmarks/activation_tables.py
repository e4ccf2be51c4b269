"""The table and the verdict of ``activations.py``, from its records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.activation_graphs import STEP
from benchmarks.markdown import table
from benchmarks.records import Record
from waveedge.runtime.machine import describe_machine

__all__ = ["render"]

CLOSE = 1.5
"""An output less than 1.5 steps off is the correctly rounded one or its neighbour."""


def render(rows: Sequence[Record]) -> str:
    """Return the page as Markdown. Of each activation the first form is the float one, the last
    form is none at all."""
    parts = ["# GELU and LayerNorm between int8 convolutions"]
    for activation in _distinct(rows, "activation"):
        of_one = [row for row in rows if row["activation"] == activation]
        heads = ["form", *_distinct(of_one, "case"), "error: max, RMS", "operators"]
        lines = []
        forms = {
            form: [row for row in of_one if row["form"] == form]
            for form in _distinct(of_one, "form")
        }
        for form, of_form in forms.items():
            lines.append([form, *map(_cell, of_form), _errors(of_form), _names(of_form[0])])
        parts += [f"## {activation}", table(heads, lines), _verdict(activation, forms)]
    return "\n\n".join([*parts, _conditions(rows)]) + "\n"


def _distinct(rows: Sequence[Record], field: str) -> list[str]:
    return list(dict.fromkeys(row[field] for row in rows))


def _conditions(rows: Sequence[Record]) -> str:
    machine = describe_machine()
    isa = ", ".join(name for name in machine.isa if "vnni" in name or "amx" in name)
    sizes = {
        row["case"]: f"{row['channels']} and {row['hidden']} channels, {row['size'][0]}x"
        f"{row['size'][1]}"
        for row in rows
    }
    return (
        "Speed of the chain against its first form [95 % interval], above 1 is faster; then "
        "milliseconds of the activation alone, which is the chain less the chain without any. "
        f"Errors in steps of {STEP:.4f} to the exact function of the same bytes. GELU: every "
        "byte, weighted by a standard normal. LayerNorm: standard normal times exp(N(0, 0.25)) "
        "plus N(0, 0.25), both per position; N(mean, deviation). Chains: "
        f"{'; '.join(f'{case}: {text}' for case, text in sizes.items())}. "
        f"{rows[0]['rounds']} pairs of runs in random order, CPU time, one thread; {machine.cpu}"
        f"{f' ({isa})' if isa else ''}, onnxruntime {machine.onnxruntime}. The first form, timed "
        "against itself, shows what the method resolves. Written by "
        "`python -m benchmarks.activations`."
    )


def _cell(row: Record) -> str:
    speed = row["speed"]
    interval = f"{speed['value']:.2f} [{speed['low']:.2f}, {speed['high']:.2f}]"
    return f"{interval}, {row['activation_ms']:.2f} ms"


def _worst(rows: Sequence[Record], field: str) -> float:
    return float(max(row[field] for row in rows))


def _errors(rows: Sequence[Record]) -> str:
    if rows[0]["max_error_steps"] is None:
        return "-"
    return f"{_worst(rows, 'max_error_steps'):.2f}, {_worst(rows, 'rms_error_steps'):.2f}"


def _names(row: Record) -> str:
    # What every chain has: two convolutions, and a Transpose at each end.
    shared = Counter({"QLinearConv": 2, "Transpose": 2})
    own = Counter[str](row["operators"]) - shared
    return ", ".join(f"{n} {name}" if n > 1 else name for name, n in own.items()) or "-"


def _verdict(activation: str, forms: Mapping[str, Sequence[Record]]) -> str:
    """Say which form won and at what error."""
    *present, none = forms
    ranked = sorted(present, key=lambda form: -_mean_speed(forms[form]))
    close = [form for form in ranked if _worst(forms[form], "max_error_steps") < CLOSE]
    winner, second = close[:2]
    first, best = ranked[0], forms[winner]
    text = (
        f"Of the forms of {activation} that are never {CLOSE} steps off, *{winner}* is the "
        f"fastest: {_describe(best)}. Next comes *{second}*: {_describe(forms[second])}. "
        f"Their intervals are apart on {_apart(best, forms[second])} of {len(best)} shapes."
    )
    if first != winner:
        text += (
            f" First by mean speed, but further off: *{first}*, {_describe(forms[first])}; surely "
            f"faster than *{winner}* on {_apart(forms[first], best)} of {len(best)} shapes."
        )
    return f"{text} An activation that costs nothing would give {_range(forms[none])}."


def _apart(fast: Sequence[Record], slow: Sequence[Record]) -> int:
    pairs = zip(fast, slow, strict=True)
    return sum(one["speed"]["low"] > other["speed"]["high"] for one, other in pairs)


def _mean_speed(rows: Sequence[Record]) -> float:
    return float(np.exp(np.mean([np.log(row["speed"]["value"]) for row in rows])))


def _range(rows: Sequence[Record]) -> str:
    speeds = [row["speed"]["value"] for row in rows]
    return f"{min(speeds):.2f} to {max(speeds):.2f} times the speed of the float chain"


def _describe(rows: Sequence[Record]) -> str:
    if rows[0]["form"] == "float":
        return f"what the others are measured against, error (max, RMS) {_errors(rows)} steps"
    sure = sum(row["speed"]["low"] > 1 for row in rows)
    return (
        f"{_range(rows)}, surely above 1 on {sure} of {len(rows)} shapes, error (max, RMS) "
        f"{_errors(rows)} steps"
    )
