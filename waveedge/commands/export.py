"""``waveedge export``: artifact or checkpoint in, verified bundle out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from waveedge import console
from waveedge.artifact import newest_artifact
from waveedge.commands.assumed import say_assumed
from waveedge.compression.recipe import cost_file, read_cost
from waveedge.errors import InputError, UsageError
from waveedge.export.free_sizes import check_ends
from waveedge.export.targets import TARGETS
from waveedge.export.verb import export
from waveedge.export.write_bundle import Bundle
from waveedge.outputs import BUNDLE, check_output, default_name
from waveedge.runtime.sizes import Size, SizeRange

__all__ = ["run"]


def run(
    source: Path | None,
    *,
    target: str,
    precision: str | None,
    input_size: Size | Literal["dynamic"] | None,
    min_size: Size | None,
    max_size: Size | None,
    batch: int | Literal["dynamic"],
    published: bool,
    tune: bool,
    cost: str | None,
    calib: Path | None,
    out: Path | None,
    overwrite: bool,
    code: tuple[Path, ...],
    load: Callable[[Path], Any],
    as_json: bool,
) -> None:
    """Export ``source``, or the newest artifact of the working directory, and print the result.

    Args:
        code: files of the user's own network, which ``out`` must not replace.
        load: loads a checkpoint with the command line's settings.
        published: keep a checkpoint's published form instead of rewriting it exactly.
        tune: keep the form of a checkpoint that is fastest on this machine.
        cost: a cost profile's name or file, for a checkpoint's exact rewrites.

    Raises:
        InputError: there is nothing to export.
        UsageError: the target is unknown, or is not what ``tune`` can time.
        WaveedgeError: as of :func:`waveedge.export`.
        OutputError: ``out`` must not be replaced, or cannot be written.
    """
    if target not in TARGETS:
        raise UsageError(
            f"--target {target!r} is unknown", hint=f"Known targets: {', '.join(TARGETS)}."
        )
    if tune and not TARGETS[target].timed_here:
        raise UsageError(
            f"--autotune times with onnxruntime on the CPU, which tells nothing about {target}",
            hint="Use --target ort, or leave --autotune out.",
        )
    check_ends(TARGETS[target], input_size == "dynamic", min_size, max_size)
    prices = None if cost is None else read_cost(cost)
    if source is None:
        source = newest_artifact(Path(), warn=console.warn)
        if source is None:
            raise InputError(
                "there is no compressed artifact in this folder",
                hint="Make one with: waveedge compress MODEL, or name a checkpoint to export.",
            )
        console.say(f"Exporting the newest artifact here: {source}")
    out = out or Path(default_name(source, target))
    check_output(out, BUNDLE, inputs=(source, calib, cost_file(cost), *code), overwrite=overwrite)
    network = load(source)
    say_assumed(network.spec)
    with console.progress_bar() as progress:
        bundle = export(
            network,
            out,
            target=target,
            precision=precision,
            images=calib,
            input_size=input_size,
            min_size=min_size,
            max_size=max_size,
            batch=batch,
            reparameterize=not published,
            autotune=tune,
            cost=prices,
            overwrite=overwrite,
            loader=load,
            warn=console.warn,
            progress=progress,
        )
    if as_json:
        console.print_json({"bundle": str(bundle.path), **bundle.manifest})
    else:
        if tune:
            show_choice(bundle.manifest["autotune"])
        show(bundle)


def show_choice(tuned: dict[str, Any]) -> None:
    """Print every form that was timed, and which was kept, as the manifest has them."""
    rows = []
    for trial in tuned["candidates"]:
        ratio, against = trial["cpu_ratio"], trial["against"]
        figures = "{:.2f} [{:.2f}, {:.2f}]".format(ratio, *trial["interval"]) if ratio else "-"
        rows.append(
            (
                trial["form"],
                ", ".join(trial["left_out"]) or "-",
                f"{trial['cpu_ms']:.2f} ms",
                figures,
                _form(against) if against else "-",
            )
        )
    console.table("Forms", ("form", "left out", "CPU time", "ratio", "to the best so far"), rows)
    console.out.print(f"kept: {_form(tuned['chosen'])}", highlight=False, markup=False)


def _form(form: dict[str, Any]) -> str:
    left_out = ", ".join(form["left_out"])
    return f"{form['form']} without {left_out}" if left_out else str(form["form"])


def show(bundle: Bundle) -> None:
    """Print what was exported, requested beside executed precision, and how it was verified."""
    rows = []
    for layer in bundle.manifest["layers"]:
        wanted, done = layer["requested"], layer["executed"]
        rows.append(
            (
                layer["name"],
                f"w{wanted['weight_bits']} a{wanted['activation_bits']}",
                f"w{done['weight_bits']} a{done['activation_bits']}",
                f"{wanted.get('ratio', 1.0):.1%}",
            )
        )
    console.table("Layers", ("layer", "requested bits", "executed bits", "kept"), rows)
    for figure, value in bundle.verification["figures"].items():
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        console.out.print(f"verified: {figure} = {text}", highlight=False, markup=False)
    for size, found in bundle.verification["at_sizes"].items():
        figures = found["figures"]
        text = f"verified at {size}: snr_db = {figures['snr_db']:.6g}"
        console.out.print(text, highlight=False, markup=False)
    if sizes := SizeRange.of_manifest(bundle.manifest):
        console.out.print(f"takes: {sizes}", highlight=False, markup=False)
    for note in bundle.manifest["notes"]:
        console.out.print(f"note: {note}", highlight=False, markup=False)
    console.out.print(f"wrote {bundle.path}", highlight=False, markup=False)
