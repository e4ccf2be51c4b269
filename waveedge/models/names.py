"""Bring the names of a state dict into those that a network has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from waveedge.errors import CheckpointError
from waveedge.models.statedict import PREFERRED, State

__all__ = ["fitting_part", "strip_prefixes", "without_counters"]

T = TypeVar("T")

# Wrappers of torch: data parallelism and averaging put "module." before each name, compilation
# puts "_orig_mod." before what it compiled.
_WRAPPERS = ("module.", "_orig_mod.")
_ATTRIBUTES = ("model.", "net.", "network.", "backbone.")

# What the profiler thop leaves in each module.
_COUNTERS = ("total_ops", "total_params")

# What is beside these belongs to the network; whoever wants them alone says so with --key.
_HALVES = ("backbone", "encoder", "trunk", "features", "body")

_DEPTH = 3
"""Names before a network's own, at most: ``model.net.encoder.``"""

_PARTS = 32
"""Parts that are tried, at most: a network is one of the largest."""


def without_counters(state: State) -> tuple[State, list[str]]:
    """Leave a profiler's counters out, and say so."""
    kept = {name: value for name, value in state.items() if not _is_counter(name)}
    left = len(state) - len(kept)
    note = f"{left} counter{'s' if left > 1 else ''} of a profiler ({', '.join(_COUNTERS)}) ignored"
    return kept, [note] if left else []


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in _COUNTERS


def fitting_part(
    state: State, fit: Callable[[State], T | None]
) -> tuple[State, T | None, list[str]]:
    """Return the entries of ``state`` that are a network's, under the network's names.

    That is all of them as they are, or without the prefixes of wrappers; or those under the one
    prefix under which all fits, where other parts of a training script lie beside the network.

    Args:
        state: tensors by name.
        fit: gives what a state dict fits, with nothing missing and nothing left over, or None.

    Returns:
        Them, what they fit, and what to tell the user. Where nothing fits, all of them without
        the prefixes of wrappers, and None.

    Raises:
        CheckpointError: several parts fit, and none is the obvious choice.
    """
    found = fit(state)
    if found is not None:
        return state, found, []
    plain = strip_prefixes(state)
    # Where the prefixes of wrappers are gone, or else those of the parts of a training script.
    found = fit(plain) if plain.keys() != state.keys() else None
    if found is not None:
        return plain, found, []
    parts: dict[str, tuple[State, T]] = {}
    for prefix, part in _parts(state):
        if prefix.rpartition(".")[2] in _HALVES or any(
            prefix.startswith(f"{outer}.") for outer in parts
        ):
            continue  # half of a network, or the same weights by a longer name
        for form in (part, strip_prefixes(part)):
            found = fit(form)
            if found is not None:
                parts[prefix] = form, found
                break
    if not parts:
        return plain, None, []
    names = sorted(parts)
    chosen = next((name for name in PREFERRED if name in names), names[0])
    if len(names) > 1 and chosen not in PREFERRED:
        raise CheckpointError(
            f"several parts of it fit: {', '.join(names)[:200]}", hint=f"Choose one: --key {chosen}"
        )
    note = f"the weights under {chosen} were taken"
    others = dict.fromkeys(
        name.partition(".")[0] for name in state if not name.startswith(f"{chosen}.")
    )
    if others:
        note += f"; beside them, {', '.join(list(others)[:5])} left out"
    if len(names) > 1:
        note += f". --key chooses another that fits ({', '.join(names)[:200]})"
    return *parts[chosen], [note]


def _parts(state: State) -> list[tuple[str, State]]:
    """List the largest parts of a state dict, the beginnings of their names first."""
    parts: dict[str, State] = {}
    for name, value in state.items():
        for depth in range(1, min(_DEPTH, name.count(".")) + 1):
            words = name.split(".", depth)
            parts.setdefault(".".join(words[:depth]), {})[words[depth]] = value
    return sorted(parts.items(), key=lambda part: (-len(part[1]), len(part[0])))[:_PARTS]


def strip_prefixes(state: Mapping[str, object]) -> State:
    """Remove what wrappers put before (``module.``) and inside (``_orig_mod.``) the names.

    Raises:
        CheckpointError: two names become the same.
    """
    stripped: State = {}
    for name, tensor in state.items():
        short = name.replace("._orig_mod.", ".")
        while short.startswith(_WRAPPERS):
            short = short.partition(".")[2]
        if short in stripped:
            raise CheckpointError(
                f"two of its keys name the same weight: {name} and {short} without its prefix",
                hint="Two networks were saved into one state dict; save one of them alone.",
            )
        stripped[short] = tensor
    if "n_averaged" in stripped and len(stripped) > 1:
        # The counter of torch.optim.swa_utils.AveragedModel, beside the network it wraps.
        del stripped["n_averaged"]
    for prefix in _ATTRIBUTES:
        if stripped and all(name.startswith(prefix) for name in stripped):
            return strip_prefixes({name[len(prefix) :]: stripped[name] for name in stripped})
    return stripped
