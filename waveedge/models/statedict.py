"""Find the state dict inside what a training script saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from waveedge.errors import CheckpointError
from waveedge.models.foreign import SAVE
from waveedge.models.pickles import StandIn, StoredTensor

__all__ = ["PREFERRED", "State", "find_state", "is_tensor"]

State = dict[str, Any]
"""Tensors by name; they may still be in the file, or of a kind that nobody can use."""

# Averaged weights first: where a script saves both, they are the ones it evaluates.
PREFERRED = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema_model",
    "ema",
    "params_ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
)
_NOT_A_NETWORK = (
    *("optim", "sched", "scaler", "config", "args", "loss", "criterion"),
    *("callback", "hyper", "loops", "metric", "rng", "random"),
)

_DEPTH = 32
_MODULES = 100_000


def find_state(content: Any, key: str | None = None) -> tuple[State, str, list[str]]:
    """Find the state dict in what a checkpoint file holds.

    Args:
        content: a state dict, or dictionaries around one, under the names that training scripts
            use; or a pickled module, whose parameters and buffers are then taken.
        key: the way to it: names of dictionaries, and of parts of the network, with dots.

    Returns:
        The tensors by name, the path of dictionary keys to them (empty for a plain state dict),
        and what to tell the user about it. Entries that are not tensors (an epoch, a version) are
        left out.

    Raises:
        CheckpointError: there is no state dict, or there are several.
    """
    path = [key] if key else []
    notes: list[str] = []
    if key:
        content = _at(content, key)
    for _ in range(_DEPTH):
        entries = _dictionary(content)
        if entries is None:
            kind = content.name if isinstance(content, StandIn) else type(content).__name__
            kind = "tensor" if is_tensor(content) else kind
            raise CheckpointError(
                f"it holds a {kind[:100]}, not a state dict", hint=f"Save one with: {SAVE}"
            )
        if isinstance(content, StandIn) and _is_module(content):
            notes.append(f"it holds a pickled {content.name[:100]}: its weights alone were read")
        tensors = {name: value for name, value in entries.items() if is_tensor(value)}
        networks = [
            name
            for name, value in entries.items()
            if not is_tensor(value)
            and not name.lower().startswith(_NOT_A_NETWORK)
            and _holds_tensors(value)
        ]
        chosen = next((name for name in PREFERRED if name in networks), None)
        if chosen is None and tensors and (not networks or any("." in name for name in tensors)):
            return tensors, ".".join(path), notes
        if chosen is None and len(networks) > 1:
            raise CheckpointError(
                f"it holds several state dicts: {', '.join(networks)[:200]}",
                hint=f"Choose one: --key {'.'.join([*path, networks[0]])}",
            )
        if not networks:
            names = ", ".join(map(str, list(entries)[:5]))[:200]
            raise CheckpointError(
                f"it holds no weights (only {names})" if names else "it holds an empty state dict",
                hint=f"Save them with: {SAVE}",
            )
        chosen = chosen or networks[0]
        path.append(chosen)
        if len(networks) > 1:
            others = ", ".join(name for name in networks if name != chosen)
            notes.append(
                f"it holds several networks; {'.'.join(path)} was taken, --key chooses another "
                f"({others[:200]})"
            )
        content = entries[chosen]
    raise CheckpointError(
        f"its dictionaries are nested more than {_DEPTH} deep", hint=f"Save one with: {SAVE}"
    )


def is_tensor(value: Any) -> bool:
    """Whether an entry is a tensor, of whatever kind."""
    if isinstance(value, StandIn):
        return value.name.startswith("torch._utils._rebuild_")
    return isinstance(value, Tensor | StoredTensor)


def _at(content: Any, key: str) -> Any:
    """Follow the names in ``key``; the last of them may be the beginnings of names."""
    rest = key
    while rest:
        entries = _dictionary(content) or {}
        steps = [
            name
            for name, value in entries.items()
            if (rest == name or rest.startswith(f"{name}.")) and not is_tensor(value)
        ]
        if not steps:
            part = {
                name[len(rest) + 1 :]: value
                for name, value in entries.items()
                if name.startswith(f"{rest}.")
            }
            if part:
                return part
            there = dict.fromkeys(name.partition(".")[0] for name in entries)
            raise CheckpointError(
                f"it holds nothing under --key {key[:100]}",
                hint=f"There is: {', '.join(list(there)[:10])[:200] or 'nothing'}",
            )
        step = max(steps, key=len)
        content, rest = entries[step], rest[len(step) + 1 :]
    return content


def _dictionary(value: Any) -> Mapping[str, Any] | None:
    """Return the entries of a dictionary, or the state dict of a module."""
    if isinstance(value, nn.Module):
        return value.state_dict()
    if isinstance(value, StandIn):
        if _is_module(value):
            return _module_state(value)
        return value.entries or None
    if isinstance(value, Mapping):
        return {name: item for name, item in value.items() if isinstance(name, str)}
    return None


def _is_module(value: StandIn) -> bool:
    return isinstance(value.state, dict) and {"_parameters", "_modules"} <= value.state.keys()


def _module_state(module: StandIn) -> State:
    """Return what ``state_dict()`` of a pickled module would: its tensors by their paths."""
    state: State = {}
    todo = [("", module)]
    for _ in range(_MODULES):
        if not todo:
            return state
        prefix, module = todo.pop()
        held = module.state if isinstance(module.state, dict) else {}
        temporary = held.get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            for name, value in (_dictionary(held.get(kind)) or {}).items():
                if is_tensor(value) and name not in temporary:
                    state[prefix + name] = value
        modules = (_dictionary(held.get("_modules")) or {}).items()
        parts = [(f"{prefix}{name}.", part) for name, part in modules if isinstance(part, StandIn)]
        todo += reversed(parts)
    raise CheckpointError(
        f"its module has more than {_MODULES} parts", hint=f"Save the weights alone: {SAVE}"
    )


def _holds_tensors(value: Any) -> bool:
    """Whether names lead to a tensor inside dictionaries and modules."""
    todo, seen = [value], set()
    while todo:
        value = todo.pop()
        if is_tensor(value):
            return True
        if id(value) not in seen:  # a file can make a dictionary that holds itself
            seen.add(id(value))
            todo += (_dictionary(value) or {}).values()
    return False
