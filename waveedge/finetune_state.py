"""Where a tuning stands, in a file: a killed one goes on from its last look, to the same result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from waveedge.compression.tuning import Tuned, Tuning
from waveedge.errors import CheckpointError
from waveedge.filetypes import TUNING_KEY
from waveedge.outputs import TUNING, new_file
from waveedge.serialize import read_metadata, read_tensors

__all__ = ["restore_tuning", "save_tuning"]


def save_tuning(tuning: Tuning, path: Path, task: str) -> None:
    """Write where ``tuning`` stands, whole or not at all.

    Args:
        path: the file; an older state is replaced.
        task: what identifies network, teacher, images, steps and seed.

    Raises:
        OutputError: the file must not be replaced, or the folder is read-only or full.
    """
    tensors = {}
    for index, (now, kept) in enumerate(zip(tuning.tensors, tuning.kept, strict=True)):
        tensors[f"now.{index}"], tensors[f"kept.{index}"] = now.detach(), kept
        for name, value in tuning.optimiser.state[now].items():
            tensors[f"{name}.{index}"] = value
    found = tuning.found
    facts = {
        "task": task,
        "done": tuning.done,
        "shorter": tuning.shorter,
        "found": [found.before, found.after, found.steps],
        "random": tuning.lessons.rng.bit_generator.state,
    }
    whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    with new_file(path, TUNING) as temporary:
        temporary.write_bytes(save(whole, metadata={TUNING_KEY: json.dumps(facts)}))


def restore_tuning(tuning: Tuning, path: Path, task: str) -> bool:
    """Bring ``tuning`` to where a file says that it stood; tell whether that is of this task.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        facts: dict[str, Any] = json.loads(read_metadata(path).get(TUNING_KEY, "{}"))
        if facts.get("task") != task:
            return False
        tensors = read_tensors(path)
        with torch.no_grad():
            for index, tensor in enumerate(tuning.tensors):
                tuning.kept[index].copy_(tensors.pop(f"kept.{index}"))
                tensor.copy_(tensors.pop(f"now.{index}"))
                tuning.optimiser.state[tensor] = {
                    name: tensors.pop(f"{name}.{index}")
                    for name in ("step", "exp_avg", "exp_avg_sq")
                    if f"{name}.{index}" in tensors
                }
        tuning.done, tuning.shorter = int(facts["done"]), float(facts["shorter"])
        before, after, steps = facts["found"]
        tuning.found = Tuned(float(before), float(after), int(steps))
        tuning.lessons.rng.bit_generator.state = facts["random"]
        return True
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}", hint="Delete it: the tuning then begins anew."
        ) from error
