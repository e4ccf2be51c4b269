"""Several processes, on one machine or more, that tune one network together.

Each takes its part of every batch and sees the outputs of all, so that the loss is that of the
whole batch, whatever it is made of; the gradients of the parts are added up. All processes then
take the same step, and stay in one state. Hugging Face's accelerate carries what they exchange.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from waveedge.errors import InputError, MissingDependencyError, WaveedgeError, reason
from waveedge.extras import install_line

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Accelerated", "Processes", "launched"]

_Result = TypeVar("_Result")


class Processes:
    """One process, which has nobody to exchange anything with.

    Attributes:
        index: the number of this process, from 0.
        count: how many there are.
    """

    index = 0
    count = 1

    def batch(self, wanted: int, images: int) -> int:
        """How many of ``images`` make a batch of about ``wanted`` that all can share evenly.

        Raises:
            InputError: there are more processes than images.
        """
        if images < self.count:
            raise InputError(
                f"{self.count} processes cannot share {images} images to train on",
                hint="Start fewer processes, or give more images.",
            )
        return min(-(-wanted // self.count), images // self.count) * self.count

    def part(self, batch: Tensor) -> Tensor:
        """This process's rows of a batch (N, ...)."""
        rows = len(batch) // self.count
        return batch[self.index * rows : (self.index + 1) * rows]

    def gather(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs for the whole batch; those of other processes have no gradient."""
        return list(outputs)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Put the sum over all processes into each of ``tensors``, in place."""

    def first(self, work: Callable[[], _Result]) -> _Result:
        """What ``work`` returns or raises in the first process, in all of them."""
        return work()


class Accelerated(Processes):
    """The processes of an ``accelerate.Accelerator``.

    Raises:
        InputError: it works on another device than the CPU, where networks are tuned.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        if accelerator.device.type != "cpu":
            raise InputError(
                f"the accelerator works on {accelerator.device.type}, and networks are tuned on "
                "the CPU",
                hint="Give accelerate.Accelerator(cpu=True).",
            )
        self._accelerator = accelerator
        self.index, self.count = accelerator.process_index, accelerator.num_processes

    def gather(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        whole = []
        for own in outputs:
            with _together():
                rows = list(self._accelerator.gather(own.detach()).chunk(self.count))
            rows[self.index] = own
            whole.append(torch.cat(rows))
        return whole

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        if not tensors:
            return
        with _together():
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            sums = self._accelerator.reduce(flat, "sum").split([t.numel() for t in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.reshape(tensor.shape))

    def first(self, work: Callable[[], _Result]) -> _Result:
        from accelerate.utils import broadcast_object_list

        found: list[Any] = [None, None]
        if self.index == 0:
            try:
                found[0] = work()
            except WaveedgeError as error:
                found[1] = error
        with _together():
            broadcast_object_list(found)
        if found[1] is not None:
            raise found[1]
        result: _Result = found[0]
        return result


@contextmanager
def _together() -> Iterator[None]:
    """Say what it means where an exchange fails: torch calls it many things."""
    try:
        yield
    except RuntimeError as error:
        raise WaveedgeError(
            f"another process of this tuning is gone, or cannot be reached: {reason(error)}",
            hint="Start all of them again: they go on from the last look at the held-out images.",
        ) from error


_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""By which torchrun, and the launchers of MPI, tell how many processes there are."""


def launched() -> Accelerator | None:
    """What connects the processes that ``torchrun`` or ``mpirun`` started; None for one alone.

    Raises:
        MissingDependencyError: accelerate is not installed.
    """
    if all(os.environ.get(name, "1") == "1" for name in _COUNTS):
        return None
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise MissingDependencyError(
            "tuning with several processes needs accelerate",
            hint=install_line("accelerate"),
        ) from error
    return Accelerator(cpu=True)
