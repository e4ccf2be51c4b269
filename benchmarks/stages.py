"""The tables, each a loop over networks that writes records as soon as they are measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.choices import best_of
from benchmarks.comparison import compare
from benchmarks.engines import ENGINES, graph_of
from benchmarks.networks import Network
from benchmarks.operators import is_integer, operator_shares
from benchmarks.peers import PEERS, attempts
from benchmarks.quality import fidelity, score
from benchmarks.records import Record, Records, recorded
from benchmarks.roofline import SIZES, Peaks, measure_peaks
from benchmarks.runners import runner_of
from benchmarks.timing import measure
from benchmarks.variants import Workshop, on_paper, variants_of
from waveedge.console import say
from waveedge.errors import WaveedgeError
from waveedge.runtime import Session
from waveedge.runtime.engine_builder import backend_version, build_engine

__all__ = ["STAGES", "Bench", "Options"]

FORMS = ("published", "exact", "int8")

LAUNCH_SECONDS, MOVED_BYTES_A_SECOND = 3e-6, 102e9
"""Of a Jetson Orin NX, from data sheets: what a rank of engines is made of. It is no time."""

_TIMED = (
    *("cpu_ratio", "wall_ratio", "peak_ratio", "cpu_ms", "published_cpu_ms"),
    *("peak_bytes", "published_peak_bytes", "onnx_bytes", "threads", "snr_db"),
)
"""What a record of ``side_by_side`` takes over from that of ``speed``."""


@dataclass(frozen=True)
class Options:
    """What to measure, and where to.

    Attributes:
        networks: in the order to measure them.
        out: folder of the result files.
        work: folder of exported networks.
        threads: numbers of threads to time with.
        runs: pairs of runs a measurement.
        quick: small matrices for the peaks, few runs for shares of operators.
    """

    networks: Sequence[Network]
    out: Path
    work: Path
    threads: tuple[int, ...] = (1, 2)
    runs: int = 30
    quick: bool = False


class Bench:
    """Result files and the stages that fill them; see :data:`STAGES`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        options.out.mkdir(parents=True, exist_ok=True)
        self.workshops = [Workshop(network, options.work) for network in options.networks]
        self._attempted: set[tuple[Any, ...]] = set()
        self.records = {
            "speed": self._records("speed", "network", "variant", "threads"),
            "peers": self._records("peers", "network", "variant"),
            "side_by_side": self._records("side_by_side", "network", "variant"),
            "roofline": self._records("roofline", "network", "variant"),
            "tensorrt_rtx": self._records("tensorrt_rtx", "network", "variant"),
            "peaks": self._records("peaks", "threads"),
        }

    def _records(self, name: str, *key: str) -> Records:
        return Records(self.options.out / f"{name}.json", key)

    def begin(self, stages: Sequence[str], *, resume: bool) -> None:
        """Forget what was measured of the chosen networks in ``stages``, unless to ``resume``.

        Their files are made anew for ``speed``, which all other stages follow.

        Raises:
            OutputError: records that would be used or left are of another machine.
        """
        read = {name for stage in stages for name in _READ.get(stage, ())}
        for name in read.difference(() if resume else (*stages, "peaks")):
            self.records[name].refuse_other_machine()
        if resume:
            return
        names = {shop.network.name for shop in self.workshops}
        for stage in stages:
            self.records[stage].drop(lambda row: row["network"] in names)
        if "roofline" in stages:
            self.records["peaks"].drop(lambda row: True)
        if "speed" in stages:
            for shop in self.workshops:
                shop.forget()

    def speed(self) -> None:
        """Time and memory of every variant against the published export."""
        for shop in self.workshops:
            for variant in variants_of(shop.network):
                for threads in self.options.threads:
                    self._time(shop, variant, threads)

    def _time(self, shop: Workshop, variant: str, threads: int) -> Record:
        def measured() -> Record:
            made, published = shop.make(variant), shop.published.path
            return {
                **measure(
                    made.path, published, shop.images, threads=threads, runs=self.options.runs
                ),
                **fidelity(made.path, published, shop.images),
                "bits": made.bits,
                "settings": made.settings,
                "versions": made.versions,
            }

        return self._once("speed", shop, variant, measured, threads=threads)

    def peers(self) -> None:
        """waveedge's forms and every peer's, each on its own runtime, in one run per network."""
        for shop in self.workshops:
            first = {"network": shop.network.name, "variant": "published"}
            if "error" in (self.records["peers"].find(**first) or {"error": "not measured"}):
                rows = [first]
                with recorded(first):
                    rows = compare(shop, runs=self.options.runs)
                for row in rows:
                    self.records["peers"].add(row)

    def side_by_side(self) -> None:
        """Quality on the test set beside size, operations, time and memory: trained networks."""
        for shop in self.workshops:
            if shop.network.example is None:
                continue
            for variant in ("published", *variants_of(shop.network)):
                self._once("side_by_side", shop, variant, partial(self._whole, shop, variant))
            rows = [
                row for row in self.records["peers"].rows if row["network"] == shop.network.name
            ]
            for best in filter(None, (best_of(rows, peer.name) for peer in PEERS)):
                measured = partial(_best_of_peer, shop, best)
                self._once("side_by_side", shop, best["variant"], measured)

    def _whole(self, shop: Workshop, variant: str) -> Record:
        made = shop.make(variant)
        record = {**score(shop.network, Session(made.path).run), **on_paper(made)}
        if variant == "published":
            return record
        timed = self._time(shop, variant, self.options.threads[0])
        if "error" in timed:
            raise WaveedgeError(str(timed["error"]))
        return {**record, **{name: timed[name] for name in _TIMED}}

    def roofline(self) -> None:
        """The machine's peaks, how near each network comes, and where its time goes."""
        peaks = self._peaks()
        for shop in self.workshops:
            for form in FORMS:
                if form in ("published", *variants_of(shop.network)):
                    self._once("roofline", shop, form, partial(self._reach, shop, form, peaks))

    def _peaks(self) -> Peaks:
        """Peaks at every number of threads; returns those at the first."""
        for threads in self.options.threads:
            if self.records["peaks"].find(threads=threads) is None:
                say(f"measuring the peaks of this machine, {threads} thread(s)")
                sizes = SIZES[:1] if self.options.quick else SIZES
                self.records["peaks"].add(measure_peaks(threads, sizes=sizes).to_dict())
        first = self.records["peaks"].find(threads=self.options.threads[0])
        assert first is not None
        return Peaks(**first)

    def _reach(self, shop: Workshop, form: str, peaks: Peaks) -> Record:
        made = shop.make(form)
        assert made.account is not None
        other = "exact" if form == "published" else form
        timed = self._time(shop, other, peaks.threads)
        if "error" in timed:
            raise WaveedgeError(str(timed["error"]))
        seconds = timed["published_wall_ms" if form == "published" else "wall_ms"] / 1000
        macs, least_bytes = made.account["macs"], made.account["minimal_bytes"]
        least = peaks.seconds(macs, least_bytes, int8=form == "int8")
        shares = operator_shares(made.model, shop.images[0], runs=3 if self.options.quick else 10)
        return {
            "threads": peaks.threads,
            "macs": macs,
            "minimal_bytes": least_bytes,
            "layer_bytes": made.account["layer_bytes"],
            "copy_share": made.account["layer_bytes"] / (peaks.copy_gb * 1e9) / seconds,
            "wall_ms": seconds * 1000,
            "gmacs": macs / seconds / 1e9,
            "roofline_ms": least * 1000,
            "roofline_share": least / seconds,
            "integer_share": sum(share for operator, share in shares if is_integer(operator)),
            "operators": [{"operator": operator, "share": share} for operator, share in shares],
        }

    def tensorrt_rtx(self) -> None:
        """Whether TensorRT-RTX builds the graphs, and into how many kernels."""
        if backend_version("tensorrt_rtx") is None:
            say('no TensorRT-RTX here, so nothing is built: pip install "waveedge[rtx]"')
            return
        for shop in self.workshops:
            for form, engine in ENGINES.items():
                if engine.network in ("published", *variants_of(shop.network)):
                    self._once("tensorrt_rtx", shop, form, partial(_build, shop, form))

    def _once(
        self,
        stage: str,
        shop: Workshop,
        variant: str,
        measured: Callable[[], Record],
        **more: Any,
    ) -> Record:
        """Return the record that is there, or measure and write one, be it of an error."""
        key = {"network": shop.network.name, "variant": variant, **more}
        found = self.records[stage].find(**key)
        new = (stage, *key.values()) not in self._attempted
        # What failed in an earlier run is tried again, once.
        if found is not None and not ("error" in found and new):
            return found
        self._attempted.add((stage, *key.values()))
        say(f"{stage}: {' '.join(str(part) for part in key.values())}")
        record = {**key}
        with recorded(record):
            record |= measured()
        return self.records[stage].add(record)


_READ = {
    "speed": ("speed",),
    "peers": ("peers",),
    "side_by_side": ("side_by_side", "speed", "peers"),
    "roofline": ("roofline", "speed", "peaks"),
    "tensorrt_rtx": ("tensorrt_rtx",),
}
"""Stage -> the result files that it reads."""

STAGES = tuple(_READ)


def _best_of_peer(shop: Workshop, timed: Record) -> Record:
    """What a peer does best, scored; its time is that of the contest, memory was not measured."""
    attempt = next(one for one in attempts(int8=True) if one.name == timed["variant"])
    made = shop.attempt(attempt)
    runner = runner_of(attempt, made.path)
    try:
        record = {**score(shop.network, lambda image: runner.run(image).output), **on_paper(made)}
    finally:
        runner.close()
    return {**record, **{name: timed[name] for name in ("cpu_ratio", "cpu_ms", "snr_db")}}


def _build(shop: Workshop, form: str) -> Record:
    model = graph_of(shop, ENGINES[form])
    start = time.perf_counter()
    build = build_engine(model, "tensorrt_rtx").to_dict()
    seconds = build["kernels"] * LAUNCH_SECONDS + build["moved_bytes"] / MOVED_BYTES_A_SECOND
    return {**build, "rank_ms": 1000 * seconds, "seconds": time.perf_counter() - start}
