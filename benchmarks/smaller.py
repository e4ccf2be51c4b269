"""``python -m benchmarks.smaller``: what fewer channels bring on networks of full size.

A quarter of the channels between a 1x1 convolution and the transposed convolution behind it, a half
of the hidden ones; three quarters of the hidden ones of WTConvNeXt. The numbers are given, not
chosen, as the weights are random: time, memory and work only. Both sides have 8 bits and all exact
rewrites; they take turns in one run, on one thread.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import fx, nn

from benchmarks.markdown import conditions, interval, table
from benchmarks.networks import NETWORKS, Loaded, Network
from benchmarks.records import Record, Records, write_text
from waveedge import benchmark, compress, export
from waveedge.compression.costs import CPU
from waveedge.compression.graph_queries import layer_of
from waveedge.compression.reparameterize import CONTRACTING, exact_form
from waveedge.compression.shrink.bottleneck import Bottleneck
from waveedge.compression.shrink.forms import PairForm
from waveedge.compression.shrink.search import find_forms
from waveedge.compression.threads import one_thread
from waveedge.console import say, size
from waveedge.cost import profile
from waveedge.models.build import attach_spec, spec_of
from waveedge.normalise import normalise
from waveedge.reference import Reference

RESULTS = Path(__file__).resolve().parent / "results"
WORK = RESULTS.parents[1] / "build" / "benchmarks" / "smaller"
_CALIBRATION, _HELD_OUT = 2, 1  # ranges of random weights serve for time


class Share(NamedTuple):
    """What stays: of the channels in front of transposed convolutions, and of hidden ones."""

    bottleneck: float
    hidden: float


CASES = {
    "super_resolution_144x4": Share(1 / 4, 1 / 2),
    "classifier_192x4": Share(1 / 4, 1 / 2),
    "segmenter_128x4": Share(1 / 4, 1 / 2),
    "wtconvnext_t": Share(1, 3 / 4),
    "classifier_192x16": Share(1 / 4, 1 / 2),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smaller", description=__doc__)
    parser.add_argument("--only", action="append", choices=tuple(CASES), metavar="NAME")
    parser.add_argument("--runs", type=int, default=30, help="pairs of runs (30)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args(arguments)
    path: Path = given.out / "smaller.json"
    path.unlink(missing_ok=True)
    records = Records(path, ("network",))
    for name in given.only or CASES:
        say(f"{name}: making both forms")
        records.add({"network": name, **_measure(NETWORKS[name], CASES[name], given.runs)})
        write_text(given.out / "smaller.md", _render(records))
    print((given.out / "smaller.md").read_text())
    return 0


def _measure(network: Network, share: Share, runs: int) -> Record:
    loaded = network.load(0)
    images = replace(
        loaded.images,
        calibration=loaded.images.calibration[:_CALIBRATION],
        held_out=loaded.images.held_out[:_HELD_OUT],
        names=(),
    )
    loaded = Loaded(loaded.model, images)
    smaller, counts = _smaller(loaded, network.size, share)
    work = WORK / network.name
    work.mkdir(parents=True, exist_ok=True)
    sides, macs = [], []
    for label, model in (("whole", loaded.model), ("smaller", smaller)):
        made = compress(model, images, bits=8, shrink=False, warn=lambda _: None)
        folder = work / label
        sides.append(export(made, folder, target="ort", overwrite=True).path)
        macs.append(profile(made.graph, network.size).macs)
    found = benchmark(sides[1], sides[0], runs=runs, images=images.held_out)
    assert found.b is not None
    assert found.cpu_ratio is not None
    return {
        "share": share._asdict(),
        "channels": counts,
        "macs": macs,
        "cpu_ms": [found.b.cpu.median, found.a.cpu.median],
        "cpu_ratio": asdict(found.cpu_ratio),
        "peak_bytes": [found.b.peak_bytes, found.a.peak_bytes],
        "runs": runs,
    }


@torch.no_grad()
def _smaller(
    loaded: Loaded, extent: tuple[int, int], share: Share
) -> tuple[nn.Module, list[list[int]]]:
    """The network with fewer channels, and [before, after] of the two kinds of them."""
    spec = spec_of(loaded.model)
    images = loaded.images.calibration
    with one_thread():
        graph = normalise(loaded.model, (spec.channels, *extent))
        reference = Reference(loaded.model, images)
        prepared = exact_form(graph, extent, reference, skip=CONTRACTING)
        forms = find_forms(prepared, images, CPU)
    smaller = copy.deepcopy(prepared)
    counts = [[0, 0], [0, 0]]
    for form in forms:
        kept = round(form.channels * _stays(prepared, form, share))
        hidden = form.kind != Bottleneck.kind
        counts[hidden] = [counts[hidden][0] + form.channels, counts[hidden][1] + kept]
        if kept < form.channels:
            form.apply(smaller, kept)
    # As a user's network: the graph of rewrites alone is refused.
    return attach_spec(nn.Sequential(smaller), spec), counts


def _stays(graph: fx.GraphModule, form: PairForm, share: Share) -> float:
    if form.kind != Bottleneck.kind:
        return share.hidden
    transposed = isinstance(layer_of(graph, form.pair.reader), nn.ConvTranspose2d)
    return share.bottleneck if transposed else 1.0


def _render(records: Records) -> str:
    heads = ("network", "bottlenecks", "hidden channels", "multiply-adds", "peak memory", "speed")
    lines = [
        [
            NETWORKS[row["network"]].title,
            *(f"{before} -> {after}" for before, after in row["channels"]),
            f"{row['macs'][0] / 1e9:.2f} G -> {row['macs'][1] / 1e9:.2f} G",
            " -> ".join(size(value) for value in row["peak_bytes"]),
            interval(row["cpu_ratio"]),
        ]
        for row in records.rows
    ]
    parts = [
        "# Fewer channels on networks of full size",
        "A quarter of the channels in front of transposed convolutions and half of the hidden "
        "ones; three quarters of WTConvNeXt's hidden ones. Speed is against the same network with "
        "all channels, both with 8 bits and all exact rewrites, in onnxruntime, on one thread, in "
        "turns; weights are random, so nothing is said of quality.",
        table(heads, lines),
        conditions(records, "python -m benchmarks.smaller"),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
