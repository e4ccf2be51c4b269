"""CUDA graphs: what was queued once is launched again by one call, and not kernel by kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress

from waveedge.errors import WaveedgeError
from waveedge.runtime.cuda import Cuda

__all__ = ["CudaGraph"]

_THIS_THREAD = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile."""


class CudaGraph:
    """What ``work`` queues in a stream, ready to be launched. Nothing of it runs when captured.

    It keeps the addresses and sizes that it was captured with.

    Args:
        cuda: the stream.
        work: queues, and may neither allocate nor wait.

    Raises:
        WaveedgeError: the driver refuses: ``work`` did what no graph can hold.
    """

    def __init__(self, cuda: Cuda, work: Callable[[], None]) -> None:
        self._cuda = cuda
        self._executable = ctypes.c_void_p()
        stream, graph = ctypes.c_void_p(cuda.stream), ctypes.c_void_p()
        cuda.call("cuStreamBeginCapture_v2", stream, ctypes.c_int(_THIS_THREAD))
        try:
            try:
                work()
            except WaveedgeError:
                # The stream must leave its capture, or it takes nothing more; why is known.
                with suppress(WaveedgeError):
                    cuda.call("cuStreamEndCapture", stream, ctypes.byref(graph))
                raise
            cuda.call("cuStreamEndCapture", stream, ctypes.byref(graph))
            self._instantiate(graph)
        finally:
            if graph:
                cuda.call("cuGraphDestroy", graph)

    def launch(self) -> None:
        """Queue all of it."""
        self._cuda.call("cuGraphLaunch", self._executable, ctypes.c_void_p(self._cuda.stream))

    def _instantiate(self, graph: ctypes.c_void_p) -> None:
        made = ctypes.byref(self._executable)
        # CUDA 12's cuGraphInstantiate takes flags, and drivers have it under this name from 11.4
        # on. That of CUDA 11 took a place for errors.
        if self._cuda.has("cuGraphInstantiateWithFlags"):
            self._cuda.call("cuGraphInstantiateWithFlags", made, graph, ctypes.c_ulonglong(0))
        else:
            nowhere, none = ctypes.c_void_p(), ctypes.c_size_t(0)
            self._cuda.call("cuGraphInstantiate_v2", made, graph, nowhere, nowhere, none)

    def __del__(self) -> None:
        if getattr(self, "_executable", None):
            self._cuda.call("cuGraphExecDestroy", self._executable)
