"""``waveedge export``: artifact or checkpoint in, verified bundle out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from torch import nn

from waveedge import console
from waveedge.artifact import is_artifact, load_artifact, newest_artifact
from waveedge.commands.images import read_images
from waveedge.compression.reparameterize import reparameterize
from waveedge.errors import InputError, UsageError, WaveedgeError
from waveedge.export.autotune import Choice, autotune
from waveedge.export.bundle import Bundle, export_model
from waveedge.files import sha256
from waveedge.limits import check_pixels
from waveedge.models.build import check_input_size, spec_of
from waveedge.models.source import find_source
from waveedge.normalise import normalise
from waveedge.outputs import BUNDLE, check_output, default_name
from waveedge.reference import Reference

__all__ = ["run"]

_PROBES = 2
"""Images that judge a single rewrite; the export is verified on all of them."""

TARGETS = ("onnx", "ort", "trt", "trt-rtx")
TIMED = ("onnx", "ort")


def run(
    source: Path | None,
    *,
    target: str,
    input_size: tuple[int, int] | None,
    batch: int | Literal["dynamic"],
    published: bool,
    tune: bool,
    calib: Path | None,
    out: Path | None,
    overwrite: bool,
    load: Callable[[Path], nn.Module],
    as_json: bool,
) -> None:
    """Export ``source``, or the newest artifact of the working directory, and print the result.

    Args:
        load: loads a checkpoint with the command line's settings.
        published: keep a checkpoint's published form instead of rewriting it exactly.
        tune: keep the form of a checkpoint that is fastest on this machine.

    Raises:
        InputError: there is nothing to export, or an artifact is asked for in another form.
        UsageError: the target is unknown, or is not what ``tune`` can time; or the batch of images
            is too large.
        OutputError: ``out`` must not be replaced, or cannot be written.
    """
    if target not in TARGETS:
        raise UsageError(
            f"--target {target!r} is unknown", hint=f"Known targets: {', '.join(TARGETS)}."
        )
    if tune and target not in TIMED:
        raise UsageError(
            f"--autotune times with onnxruntime on the CPU, which tells nothing about {target}",
            hint="Use --target ort, or leave --autotune out.",
        )
    if source is None:
        source = newest_artifact(Path(), warn=console.warn)
        if source is None:
            raise InputError(
                "there is no compressed artifact in this folder",
                hint="Make one with: waveedge compress MODEL, or name a checkpoint to export.",
            )
        console.say(f"Exporting the newest artifact here: {source}")
    out = out or Path(default_name(source, target))
    check_output(out, BUNDLE, inputs=(source, calib), overwrite=overwrite)
    recipe = None
    baseline: nn.Module | None
    if is_artifact(source):
        if published:
            raise InputError(
                f"{source} is compressed and has no published form",
                hint="Export the checkpoint with --no-reparameterize instead.",
            )
        if tune:
            raise InputError(
                f"{source} is compressed: its form was fixed when its quantizers were placed",
                hint="Export the checkpoint with --autotune, or leave --autotune out.",
            )
        compressed = load_artifact(source)
        model: nn.Module = compressed.graph
        recipe = compressed.recipe.model_dump(mode="json")
        size = input_size or compressed.input_size
        baseline = _uncompressed(source, compressed.source_name, compressed.source_sha256, load)
    else:
        baseline = load(source)
        size = input_size or spec_of(baseline).input_size
        model = baseline
    spec = spec_of(model)
    check_input_size(spec, size)
    if batch != "dynamic":
        check_pixels("--batch", str(batch), batch * size[0] * size[1])
    images = read_images(calib, spec=spec, size=size)
    choice = None
    if model is baseline and not tune:
        reference = Reference(baseline, images.held_out)
        model = normalise(baseline, (spec.channels, *size))
        if not published:
            model = reparameterize(model, size, judge=partial(reference.error, images=_PROBES))
            for item in model.left_out:  # type: ignore[union-attr]
                console.warn(str(item))
    with console.progress_bar() as progress:
        if tune:
            choice = autotune(model, size, images=images.held_out, batch=batch, progress=progress)
            model = choice.model
        bundle = export_model(
            model,
            out,
            overwrite=overwrite,
            target=target,  # type: ignore[arg-type]
            input_size=size,
            batch=batch,
            images=images.held_out,
            published=baseline,
            recipe=recipe,
            autotune=choice.to_dict() if choice else None,
            source_sha256=getattr(baseline, "source_sha256", "") or "",
            artifact_sha256=sha256(source) if is_artifact(source) else None,
            progress=progress,
        )
    if as_json:
        console.print_json({"bundle": str(bundle.path), **bundle.manifest})
    else:
        if choice:
            show_choice(choice)
        show(bundle)


def show_choice(choice: Choice) -> None:
    """Print every form that was timed, and which was kept."""
    rows = []
    for trial in choice.trials:
        ratio, left_out = trial.ratio, ", ".join(trial.form.left_out)
        figures = f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio else "-"
        against = str(trial.against) if trial.against else "-"
        rows.append((trial.form.name, left_out or "-", f"{trial.cpu_ms:.2f} ms", figures, against))
    console.table("Forms", ("form", "left out", "CPU time", "ratio", "to the best so far"), rows)
    console.out.print(f"kept: {choice.form}", highlight=False, markup=False)


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
    for note in bundle.manifest["notes"]:
        console.out.print(f"note: {note}", highlight=False, markup=False)
    console.out.print(f"wrote {bundle.path}", highlight=False, markup=False)


def _uncompressed(
    artifact: Path, name: str, digest: str, load: Callable[[Path], nn.Module]
) -> nn.Module | None:
    """Load the checkpoint that ``artifact`` was made from, where it still lies there."""
    found = find_source(name, digest, (artifact.parent, Path()))
    if found is None:
        console.warn(
            f"the uncompressed checkpoint {name or '(in memory)'} was not found from the "
            "artifact's folder or from this one: the bundle gets no baseline, so that waveedge "
            "bench will need --vs"
        )
        return None
    try:
        return load(found)
    except WaveedgeError as error:
        console.warn(f"{found} cannot be loaded as the baseline: {error.what}")
        return None
