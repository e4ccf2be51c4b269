"""Bring the names of a state dict into those that a network has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from waveedge.errors import CheckpointError
from waveedge.models.statedict import PREFERRED, State

__all__ = ["fitting_part", "strip_prefixes", "without_counters"]

# Wrappers of torch: data parallelism and averaging put "module." before each name, compilation
# puts "_orig_mod." before what it compiled.
_WRAPPERS = ("module.", "_orig_mod.")
_ATTRIBUTES = ("model.", "net.", "network.", "backbone.")

# What the profiler thop leaves in each module.
_COUNTERS = ("total_ops", "total_params")

_DEPTH = 3
"""Names before a network's own, at most: ``model.net.encoder.``"""


def without_counters(state: State) -> tuple[State, list[str]]:
    """Leave a profiler's counters out, and say so."""
    kept = {name: value for name, value in state.items() if not _is_counter(name)}
    left = len(state) - len(kept)
    note = f"{left} counter{'s' if left > 1 else ''} of a profiler ({', '.join(_COUNTERS)}) ignored"
    return kept, [note] if left else []


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in _COUNTERS


def fitting_part(state: State, fits: Callable[[State], bool]) -> tuple[State, list[str]]:
    """Return the entries of ``state`` that are a network's, under the network's names.

    That is all of them as they are, or without the prefixes of wrappers; or those under the one
    prefix under which all fits, where other parts of a training script lie beside the network.

    Args:
        state: tensors by name.
        fits: whether a state dict is one of the network, nothing missing and nothing left over.

    Returns:
        Them, and what to tell the user; all, without the prefixes of wrappers, where none fit.

    Raises:
        CheckpointError: several parts fit, and none is the obvious choice.
    """
    if fits(state):
        return state, []
    plain = strip_prefixes(state)
    if fits(plain):
        return plain, []
    parts = {}
    for prefix in _prefixes(state):
        part = {name[len(prefix) :]: state[name] for name in state if name.startswith(prefix)}
        for form in (part, strip_prefixes(part)):
            if fits(form):
                parts[prefix] = form
                break
    if not parts:
        return plain, []
    names = [prefix[:-1] for prefix in parts]
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
    return parts[f"{chosen}."], [note]


def _prefixes(state: State) -> list[str]:
    """List the beginnings of the names, the short ones first."""
    found: dict[str, None] = {}
    for depth in range(1, _DEPTH + 1):
        for name in state:
            parts = name.split(".")
            if len(parts) > depth:
                found[".".join(parts[:depth]) + "."] = None
    return list(found)


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
