"""Where a tuning stands, in a file: a killed one goes on from its last look, to the same result."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from waveedge.compression.scores import Score
from waveedge.compression.tuning import Tuned, Tuning
from waveedge.errors import CheckpointError
from waveedge.filetypes import TUNING_KEY
from waveedge.outputs import TUNING, new_file
from waveedge.serialize import read_metadata, read_tensors

__all__ = ["SavedTuning", "read_tuning", "restore_tuning", "save_tuning"]


class SavedTuning(NamedTuple):
    """What a file says.

    Attributes:
        place: the file.
        steps: of the tuning, in all.
        minutes: that these steps were chosen for; None where they were asked for.
        facts: everything but tensors.
        tensors: by name.
    """

    place: str
    steps: int
    minutes: float | None
    facts: dict[str, Any]
    tensors: dict[str, Tensor]


def save_tuning(
    tuning: Tuning, path: Path, task: str, steps: int, minutes: float | None = None
) -> None:
    """Write where ``tuning`` stands, whole or not at all.

    Args:
        path: the file; an older state is replaced.
        task: what identifies network, teacher, images, labels, seed and number of processes.
        steps: in all.
        minutes: that these steps were chosen for.

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
        "steps": steps,
        "minutes": minutes,
        "done": tuning.done,
        "shorter": tuning.shorter,
        "found": [asdict(found.before), asdict(found.after), found.steps],
        "random": tuning.lessons.rng.bit_generator.state,
    }
    whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    with new_file(path, TUNING) as temporary:
        temporary.write_bytes(save(whole, metadata={TUNING_KEY: json.dumps(facts)}))


def read_tuning(path: Path, task: str) -> SavedTuning | None:
    """Return what a file says of this very task; None where it is of another, or is not there.

    Raises:
        CheckpointError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        facts: dict[str, Any] = json.loads(read_metadata(path).get(TUNING_KEY, "{}"))
        if facts.get("task") != task:
            return None
        minutes = facts["minutes"]
        return SavedTuning(
            str(path),
            int(facts["steps"]),
            None if minutes is None else float(minutes),
            facts,
            dict(read_tensors(path)),
        )
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise _damaged(str(path), error) from error


def restore_tuning(tuning: Tuning, saved: SavedTuning) -> None:
    """Bring ``tuning`` to where a file says that it stood.

    Raises:
        CheckpointError: the file is damaged.
    """
    facts, tensors = saved.facts, saved.tensors
    try:
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
        tuning.found = Tuned(Score(**before), Score(**after), int(steps))
        tuning.lessons.rng.bit_generator.state = facts["random"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _damaged(saved.place, error) from error


def _damaged(place: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{place} is damaged: {error}", hint="Delete it: the tuning then begins anew."
    )
