"""Find the state dict inside what a training script saved, and bring it into plain form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from waveedge.errors import CheckpointError

__all__ = ["find_state", "plain_tensors", "strip_prefixes"]

# Averaged weights first: where a script saves both, they are the ones it evaluates.
_NESTED = (
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
_NOT_A_NETWORK = ("optim", "sched", "scaler", "config", "args", "loss", "criterion")

# Wrappers of torch: data parallelism and averaging put "module." before each name, compilation
# puts "_orig_mod." before what it compiled.
_WRAPPERS = ("module.", "_orig_mod.")
_ATTRIBUTES = ("model.", "net.", "network.", "backbone.")


def find_state(content: Any) -> tuple[dict[str, Tensor], str]:
    """Find the state dict in what a checkpoint file holds.

    Args:
        content: a state dict, or dictionaries around one, under the names that training scripts
            use; with ``--trust-pickle`` also a module.

    Returns:
        The tensors by name, and the path of dictionary keys to them (empty for a plain state
        dict). Entries that are not tensors (an epoch, a version) are left out.

    Raises:
        CheckpointError: there is no state dict, or there are several.
    """
    path: list[str] = []
    while True:
        if isinstance(content, nn.Module):
            content = content.state_dict()
        if not isinstance(content, Mapping):
            raise CheckpointError(
                f"it holds a {type(content).__name__}, not a state dict",
                hint="Save one with: torch.save(model.state_dict(), 'model.pt')",
            )
        nested = {
            key: value
            for key, value in content.items()
            if isinstance(key, str)
            and (isinstance(value, Tensor) or not key.lower().startswith(_NOT_A_NETWORK))
            and next(_tensors(value), None) is not None
        }
        tensors = {key: nested.pop(key) for key in list(nested) if isinstance(nested[key], Tensor)}
        key = next((name for name in _NESTED if name in nested), None)
        if key is None and tensors:
            return tensors, ".".join(path)
        if key is None and len(nested) > 1:
            raise CheckpointError(
                f"it holds several state dicts: {', '.join(nested)}",
                hint="Save the one of the network alone: torch.save(checkpoint[NAME], 'model.pt')",
            )
        if key is None and not nested:
            keys = ", ".join(map(str, list(content)[:5])) or "nothing"
            raise CheckpointError(
                f"it holds no weights (only {keys})" if content else "it holds an empty state dict",
                hint="Save them with: torch.save(model.state_dict(), 'model.pt')",
            )
        key = key or next(iter(nested))
        content = nested[key]
        path.append(key)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors that names lead to inside dictionaries and modules."""
    if isinstance(value, nn.Module):
        value = value.state_dict()
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                yield from _tensors(item)


def strip_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove what wrappers put before (``module.``) and inside (``_orig_mod.``) the names.

    Raises:
        CheckpointError: two names become the same.
    """
    stripped: dict[str, Tensor] = {}
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


def plain_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert to ordinary tensors: floating point as float32, integers as they are.

    Raises:
        CheckpointError: a tensor is sparse, complex, quantized or without data, or is not finite.
    """
    plain: dict[str, Tensor] = {}
    bad: dict[str, int] = {}
    for name, tensor in state.items():
        if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
            kind = "no data" if tensor.is_meta else f"a {tensor.layout} {tensor.dtype} tensor"
            raise CheckpointError(
                f"{name} has {kind}", hint="Save the weights as ordinary float tensors."
            )
        if tensor.is_complex():
            raise CheckpointError(f"{name} is complex", hint="Only real weights can be used.")
        tensor = tensor.detach()
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32)
            wrong = int(tensor.numel() - tensor.isfinite().sum())
            if wrong:
                bad[name] = wrong
        plain[name] = tensor.contiguous()
    if bad:
        name, wrong = next(iter(bad.items()))
        kinds = "NaN" if plain[name].isnan().any() else "infinite"
        raise CheckpointError(
            f"{name} has {wrong} {kinds} value{'s' if wrong > 1 else ''} of {plain[name].numel()}"
            + (f" (and {len(bad) - 1} more keys have such values)" if len(bad) > 1 else ""),
            hint="The training diverged, or the file is damaged. Use an earlier checkpoint.",
        )
    return plain
