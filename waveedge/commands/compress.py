"""``waveedge compress``: checkpoint in, artifact and report out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from waveedge import console
from waveedge.artifact import save_artifact
from waveedge.commands.assumed import say_assumed
from waveedge.commands.images import read_images
from waveedge.compression.compress import compress
from waveedge.compression.recipe import Recipe
from waveedge.compression.report import CompressionReport, LayerReport
from waveedge.models.build import spec_of
from waveedge.opening import Network, open_float

__all__ = ["run"]


def run(
    network: Network,
    recipe: Recipe,
    *,
    source: Path,
    target: Path,
    overwrite: bool,
    calib: Path | None,
    input_size: tuple[int, int] | None,
    as_json: bool,
) -> None:
    """Compress ``network`` (loaded from ``source``) into ``target`` and print what that did.

    Raises:
        InputError: ``source`` is an artifact already.
    """
    model = open_float(network, str(source))
    say_assumed(spec_of(model))
    images = read_images(calib, spec=spec_of(model), size=input_size, seed=recipe.seed)
    console.say(images.summary())
    with console.progress_bar() as progress:
        result = compress(model, images, recipe=recipe, warn=console.warn, progress=progress)
    save_artifact(result, target, overwrite=overwrite)
    if as_json:
        report = result.report.model_dump(mode="json")
        console.print_json({"artifact": str(target), "recipe": recipe.model_dump(), **report})
    else:
        show(result.report)
        console.out.print(
            f"\nwrote {target} ({console.size(target.stat().st_size)}; "
            f"{source.name} is {console.size(source.stat().st_size)})",
            highlight=False,
            markup=False,
        )
    if any(layer.ratio < 1 for layer in result.report.layers):
        console.say(
            "WCC saves operations, not necessarily time: its gathers and transforms can cost more "
            "than the multiply-adds they save. Measure it on your device: waveedge export, "
            "waveedge bench."
        )


def show(report: CompressionReport) -> None:
    """Print the report of a compression as tables."""
    console.table(
        "What WCC did with each layer of the published network",
        ("layer", "decision"),
        [(name, reason) for name, reason in report.decisions],
    )
    console.table(
        "\nLayers of the compressed network",
        (
            *("layer", "weight bits", "activation bits", "kept"),
            *("multiply-adds", "BOPs", "feature-map bits", "SNR dB"),
        ),
        [_row(layer, report.macs_after) for layer in report.layers],
    )
    if report.coefficients < 1:
        console.out.print(f"coefficients kept by these layers: {report.coefficients:.1%}")
    if report.shrunk is not None:
        console.table(
            f"\nChannels left out: alone, that leaves the output {report.shrunk.snr_db:.1f} dB",
            ("layer", "what it writes"),
            report.shrunk.forms,
        )
    if report.in_float:
        console.table(
            "\nLeft in floating point: in 8 bits they cost the output too much",
            ("layer", "why"),
            report.in_float,
        )
    if report.in_eight:
        console.table(
            "\nIn 8 bits, as these few hold most of what fewer cost (--uniform: none)",
            ("layer", "why"),
            report.in_eight,
        )
    quality = f"{report.quality.snr_db:.1f} dB"
    if report.quality.agreement is not None:
        quality += f", {report.quality.agreement:.1%} equal decisions"
    totals: list[tuple[str, Any, Any]] = [
        ("multiply-adds", report.macs_before, report.macs_after),
        ("bit operations (BOPs)", report.bops_before, report.bops_after),
        ("feature-map bits", report.feature_bits_before, report.feature_bits_after),
    ]
    console.table(
        "\nIn total",
        ("", "published, float", "compressed", "ratio"),
        [
            (name, console.count(before), console.count(after), f"{before / max(after, 1):.2f}x")
            for name, before, after in totals
        ],
    )
    for item in report.left_out:
        console.out.print(f"note: {item}", highlight=False, markup=False)
    coverage = report.coverage() or "all multiply-adds are on integers"
    console.out.print(f"\n{coverage}", highlight=False, markup=False)
    if report.tuned is not None:
        tuned = report.tuned
        console.out.print(
            f"tuned in {tuned.steps} steps: {tuned.snr_db_before:.1f} to {tuned.snr_db:.1f} dB",
            highlight=False,
            markup=False,
        )
    console.out.print(
        f"output against the float network on {report.quality.images} held-out images: {quality}",
        highlight=False,
        markup=False,
    )


def _row(layer: LayerReport, macs: int) -> tuple[str, ...]:
    return (
        layer.name,
        str(layer.weight_bits),
        str(layer.activation_bits),
        f"{layer.ratio:.1%}",
        f"{layer.macs / max(macs, 1):.1%}",
        console.count(layer.bops),
        console.count(layer.feature_bits),
        "-" if layer.snr_db is None else f"{layer.snr_db:.1f}",
    )
