"""One side of a comparison: what is timed in turn with the other, and what is measured alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from waveedge.runtime import notes as notes_of
from waveedge.runtime.backend import Array, DeviceTimes
from waveedge.runtime.bits import bits_of
from waveedge.runtime.figures import Footprint, GraphTiming, Timing, Variant
from waveedge.runtime.footprint import footprint
from waveedge.runtime.manifest import OPENVINO
from waveedge.runtime.pairs import timing
from waveedge.runtime.power import Power
from waveedge.runtime.rival import form_of
from waveedge.runtime.session import Session

__all__ = ["Side"]


class Side:
    """A network under measurement.

    Args:
        letter: A or B.
        session: what runs it.
        load_ms: how long loading took, in milliseconds; None of what lies in memory.

    Attributes:
        notes: what a reader must know to trust its figures.
    """

    def __init__(self, letter: str, session: Session, load_ms: float | None) -> None:
        self.letter, self.session, self._load_ms = letter, session, load_ms
        self._times: list[DeviceTimes | None] = []
        self.notes: list[str] = []

    def run(self, arrays: Sequence[Array]) -> None:
        """Run once, and keep what the GPU says of it."""
        self.session.run(*arrays)
        self._times.append(self.session.engine.times if self.session.engine else None)

    def variant(
        self,
        cpu: Array,
        wall: Array,
        arrays: Sequence[Array],
        threads: int,
        memory: bool,
        power: Power | None,
        *,
        runs: int,
        warmup: int,
        seed: int,
    ) -> Variant:
        """Gather what was measured, and measure memory and an engine's CUDA graph.

        Args:
            cpu, wall: times of the counted runs, in milliseconds.
            arrays: one input.
            threads: of the runtime.
            memory: whether to measure it.
            power: as it was measured; None where nothing does.
        """
        session = self.session
        taken = footprint(session, threads=threads, shape=arrays[0].shape) if memory else None
        self.notes += self._about_memory(taken) if taken else []
        self.notes += notes_of.foreign_target(self.letter, session)
        self.notes += notes_of.without_events(self.letter, session)
        graph = self._graph(arrays, runs, warmup, seed)
        to_device, device, to_host = self._device(runs)
        form, precision = form_of(session.path, session.manifest)
        return Variant(
            name=(session.manifest and session.manifest["name"]) or session.path.stem,
            form=form,
            precision=OPENVINO.get(session.provider, precision),
            path=str(session.path),
            backend=session.backend,
            cpu=timing(cpu),
            wall=timing(wall),
            device=device,
            to_device=to_device,
            to_host=to_host,
            cuda_graph=graph,
            load_ms=self._load_ms,
            file_bytes=session.file_bytes,
            peak_bytes=taken.activation_bytes if taken else None,
            memory=taken,
            bits=bits_of(Path(session.path), session.manifest),
            power=power,
        )

    def _device(self, runs: int) -> tuple[Timing | None, ...]:
        """Times of the counted runs on the GPU: copy to it, execution, copy back."""
        known = [times for times in self._times[-runs:] if times is not None]
        if len(known) < runs:
            return None, None, None
        return tuple(timing(np.array(part)) for part in zip(*known, strict=True))

    def _graph(
        self, arrays: Sequence[Array], runs: int, warmup: int, seed: int
    ) -> GraphTiming | None:
        if self.session.engine is None:
            return None
        from waveedge.runtime.graph_timing import time_graph

        found = time_graph(self.session.engine, arrays, runs=runs, warmup=warmup, seed=seed)
        if found.reason:
            self.notes.append(f"No CUDA graph for {self.letter}: {found.reason}.")
        return found

    def _about_memory(self, taken: Footprint) -> list[str]:
        if taken.activation_bytes is None:
            return [f"No peak memory for {self.letter}: {taken.how['activation']}."]
        if self.session.engine is None:
            return []
        return [
            f"Memory of {self.letter} is what TensorRT sets aside on the GPU for activations; "
            f"weights: {taken.how['weights']}."
        ]
