"""The forms that are compared: waveedge's by closed-form shrinking, torch-pruning's by settings."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.quality_tables.forms import INT8, PUBLISHED, WHOLE
from benchmarks.variants import Own

__all__ = [
    "SETTINGS",
    "SHARES",
    "STEPS",
    "Theirs",
    "is_ours",
    "is_theirs",
    "our_forms",
    "their_forms",
    "title_of",
]

SHARES = (0.7, 0.5, 0.35)
"""Of the multiply-adds, that both sides are asked to keep."""
STEPS = (0, 200, 1000)
"""Of fine-tuning: none, as many as waveedge takes by itself, and five times as many."""

SETTINGS: dict[str, dict[str, Any]] = {
    f"{importance}, {'all layers' if everywhere else 'each layer'}": {
        "importance": importance,
        "everywhere": everywhere,
    }
    for importance in ("magnitude", "lamp", "batchnorm", "taylor", "hessian")
    for everywhere in (True, False)
}
"""torch-pruning's importances; channels ranked among those of all layers, or of each alone."""


class Theirs(NamedTuple):
    """One of torch-pruning's forms."""

    share: float
    steps: int

    @property
    def name(self) -> str:
        """In records and file names."""
        return f"pruned{100 * self.share:g}-{self.steps}steps"

    @property
    def title(self) -> str:
        """For readers."""
        return f"torch-pruning, {self.share:.0%}, {_tuned(self.steps)}"


def _tuned(steps: int) -> str:
    return f"{steps} steps" if steps else "untuned"


def our_forms(shares: tuple[float, ...] = SHARES, steps: int = 200) -> dict[str, Own]:
    """waveedge's forms, and the one that is not shrunk, which times refer to."""
    forms = {
        WHOLE: Own("8 bits, not shrunk", {"bits": 8, "shrink": False}),
        INT8: Own("waveedge, --bits 8", {"bits": 8}),
    }
    for share in shares:
        for count in (0, steps):
            forms[f"macs{100 * share:g}-{count}steps"] = Own(
                f"waveedge, {share:.0%}, {_tuned(count)}",
                {"bits": 8, "macs": share, "tune": count},
            )
    return forms


def their_forms(
    shares: tuple[float, ...] = SHARES, steps: tuple[int, ...] = STEPS
) -> dict[str, Theirs]:
    """torch-pruning's forms."""
    forms = (Theirs(share, count) for share in shares for count in steps)
    return {form.name: form for form in forms}


def is_theirs(name: str) -> bool:
    """Whether a form of that name is torch-pruning's."""
    return name.startswith("pruned")


def is_ours(name: str) -> bool:
    """Whether a form of that name is shrunk by waveedge."""
    return name == INT8 or name.startswith("macs")


def title_of(name: str) -> str:
    """A form for readers."""
    if name == PUBLISHED:
        return "float, not shrunk"
    share, _, steps = name.removesuffix("steps").partition("-")
    if is_theirs(name):
        return Theirs(float(share.removeprefix("pruned")) / 100, int(steps)).title
    if name in (WHOLE, INT8):
        return our_forms()[name].title
    return f"waveedge, {float(share.removeprefix('macs')):g}%, {_tuned(int(steps))}"
