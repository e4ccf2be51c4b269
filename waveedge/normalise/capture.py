"""The network as torch.export sees it: a functional graph of operations, nothing done in place."""

from __future__ import annotations

import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from waveedge.errors import ExportError
from waveedge.normalise.decompose import functional

__all__ = ["ATTEMPTS", "Attempt", "NotFollowedError", "capture", "float_dtype"]

_OWN = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))


class NotFollowedError(ExportError):
    """torch cannot follow a network's code in one attempt; another may go."""


class Attempt(NamedTuple):
    """How a network is exported.

    Attributes:
        batch: images in the example.
        open_axes: axes of the image whose sizes stay symbols.
    """

    batch: int
    open_axes: tuple[int, ...] = ()


ATTEMPTS = (Attempt(2), Attempt(2, (0, 2, 3)), Attempt(2, (0,)), Attempt(1))
"""Fixed sizes are exported fast, and most networks come out without them all the same, because
reshapes are written without sizes. Symbols are for the rest, and torch cannot always solve them."""


def capture(model: nn.Module, shape: tuple[int, int, int], attempt: Attempt) -> ExportedProgram:
    """Export ``model`` for images of ``shape`` (C, H, W).

    Composite operations (convolution, linear, padding) stay as they are, and no operation writes
    into its input.

    Raises:
        NotFollowedError: torch cannot follow the network's code; the message names the line.
    """
    image = torch.zeros(attempt.batch, *shape, dtype=float_dtype(model))
    sizes = (dict.fromkeys(attempt.open_axes, Dim.AUTO),) if attempt.open_axes else None
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: ExportedProgram = export(model, (image,), dynamic_shapes=sizes, strict=False)
            return functional(program)
    except Exception as error:  # whatever torch or the network's own code raises
        raise _refusal(model, error) from error


def float_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of a network's parameters."""
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(floats, torch.float32)


def _refusal(model: nn.Module, error: Exception) -> NotFollowedError:
    lines = str(error).strip().splitlines()
    reason = next((line.strip() for line in lines if line.strip()), type(error).__name__)
    return NotFollowedError(
        f"{type(model).__name__} cannot be brought into a graph{_where(error)}: {reason}",
        hint="Its forward must not branch or loop on the values of tensors. Write that line with "
        "torch.where, or put what it decides into the module before it is saved.",
    )


def _where(error: BaseException) -> str:
    """The innermost line of the user's own code that raised, with its text."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((*_OWN, "<"))]
    if not own:
        return ""
    frame = own[-1]
    return f" at {Path(frame.filename).name}:{frame.lineno} ({(frame.line or '').strip()})"
