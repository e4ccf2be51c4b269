"""A torch module as it stands, timed in turn with what was exported of it.

torch is imported where a module is at hand, and so is here; devices do without.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waveedge.errors import InputError
from waveedge.runtime.backend import Array, TensorInfo
from waveedge.runtime.schema import shown
from waveedge.runtime.session import Session

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TorchBackend", "TorchSession"]


class TorchBackend:
    """A copy of a module, in eval mode, run eagerly on the device where its parameters are.

    Args:
        network: it is not changed.
        threads: that one operator may use.
        inputs: what it is given; a module does not tell.
    """

    parallel = "threads that call one module"

    def __init__(self, network: nn.Module, *, threads: int, inputs: Sequence[TensorInfo]) -> None:
        import torch

        self._torch, self._threads = torch, threads
        self._network = copy.deepcopy(network).eval()
        tensors = [*self._network.parameters(), *self._network.buffers()]
        self._device = tensors[0].device if tensors else torch.device("cpu")
        self.on_gpu = self._device.type != "cpu"
        self.weights_bytes = sum(one.numel() * one.element_size() for one in tensors)
        self.name = f"torch {torch.__version__}, eager ({self._device.type.upper()})"
        self.inputs = list(inputs)
        self.outputs: list[str] = []

    def run(self, *arrays: Array) -> list[Array]:
        """Run the network; what it returns is brought back to the host."""
        torch = self._torch
        try:
            with self._own_threads(), torch.inference_mode():
                given = (torch.from_numpy(array).to(self._device) for array in arrays)
                return [tensor.cpu().numpy() for tensor in _tensors(self._network(*given))]
        except RuntimeError as error:
            shapes = " and ".join(str(array.shape) for array in arrays)
            raise InputError(
                f"the module cannot run on an input of shape {shapes}: {shown(str(error), 300)}",
                hint="Give the network that the other side was exported from.",
            ) from error

    def streams(self, count: int) -> list[TorchBackend]:
        """The module itself, so many times: it keeps nothing between runs."""
        return [self] * count

    @contextmanager
    def _own_threads(self) -> Iterator[None]:
        """The number is the whole process's: the caller's own stands again afterwards."""
        before = self._torch.get_num_threads()
        if before == self._threads:
            yield
            return
        self._torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            self._torch.set_num_threads(before)


class TorchSession(Session):
    """A module with the face of a session, so that one benchmark times both.

    Args:
        network: any module that takes what the other side does.
        threads: as for ``Session``.
        inputs: of the other side.
    """

    def __init__(
        self, network: nn.Module, *, threads: int = 1, inputs: Sequence[TensorInfo]
    ) -> None:
        # A file may fix its batch; a module does not.
        inputs = [replace(info, shape=("batch", *info.shape[1:])) for info in inputs]
        self._backend: TorchBackend = TorchBackend(network, threads=threads, inputs=inputs)
        self.path = Path(type(network).__name__)  # a name: there is no file
        self.provider = "torch"
        self.inputs = tuple(inputs)
        self.manifest = self.sizes = None
        self.backend = self._backend.name
        self.load_seconds = 0.0

    @property
    def on_gpu(self) -> bool:
        return self._backend.on_gpu

    @property
    def file_bytes(self) -> int:
        """Of parameters and buffers, as they lie in memory."""
        return self._backend.weights_bytes


def _tensors(found: Any) -> Iterator[Any]:
    """The tensors of what a module returned, however it nests them."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, (list, tuple)):
        for one in found:
            yield from _tensors(one)
    elif hasattr(found, "cpu"):
        yield found
