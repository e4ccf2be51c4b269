"""The verbs of a desk: inspect, compress, tune and export.

They need torch, which is imported after the options are checked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from waveedge import console, standard_streams
from waveedge.errors import RecipeError, UsageError
from waveedge.export import target_names
from waveedge.files import require_regular
from waveedge.limits import check_minutes, parse_count, parse_settings, parse_size
from waveedge.options import (
    Arch,
    ArtifactOut,
    Bits,
    Cost,
    InputSize,
    Json,
    Key,
    Macs,
    NoTune,
    Overwrite,
    Set,
    Shrink,
    TrustPickle,
    Tune,
    Uniform,
    WccLevels,
    WccRatio,
    WccSelect,
    WeightBits,
    output,
)
from waveedge.outputs import ARTIFACT, check_output, default_name, target_path

__all__ = ["verbs"]

verbs = typer.Typer()


@verbs.command(epilog="Example: waveedge inspect model.pt --input-size 256x256")
@standard_streams.results_alone()
def inspect(
    model: Annotated[Path, typer.Argument(help="A checkpoint or a compressed artifact.")],
    input_size: InputSize = None,
    set_: Set = None,
    arch: Arch = None,
    key: Key = None,
    trust_pickle: TrustPickle = False,
    json: Json = False,
) -> None:
    """Show what a checkpoint is: family, configuration, cost, and what compress would touch."""
    size, settings = _parse_size(input_size), parse_settings(set_)
    from waveedge import description
    from waveedge.commands.inspect import show

    facts = description.inspect(_load(model, settings, arch, key, trust_pickle), size)
    if json:
        console.print_json(facts)
    else:
        show(facts)


@verbs.command(epilog="Example: waveedge compress model.pt --bits 4 --wcc-ratio 0.5")
@standard_streams.results_alone()
def compress(
    model: Annotated[Path, typer.Argument(help="A checkpoint: .pt, .pth or .safetensors.")],
    bits: Bits = None,
    weight_bits: WeightBits = None,
    wcc_ratio: WccRatio = None,
    wcc_levels: WccLevels = None,
    wcc_select: WccSelect = None,
    macs: Macs = None,
    shrink: Shrink = None,
    uniform: Uniform = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Layers to leave alone.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="The only layers to touch.")
    ] = None,
    calib: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Calibration images, .npy or .npz.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A YAML recipe; flags override it.")
    ] = None,
    tune: Tune = None,
    no_tune: NoTune = False,
    cost: Cost = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [0]")] = None,
    out: ArtifactOut = None,
    overwrite: Overwrite = False,
    input_size: InputSize = None,
    set_: Set = None,
    arch: Arch = None,
    key: Key = None,
    trust_pickle: TrustPickle = False,
    json: Json = False,
) -> None:
    """Compress a network into one .safetensors artifact, and report what that did to it."""
    from waveedge.compression.recipe import cost_file, make_recipe, read_cost, read_recipe

    flags = {
        "bits": bits,
        "weight_bits": weight_bits,
        "wcc_ratio": wcc_ratio,
        "wcc_levels": wcc_levels,
        "wcc_select": wcc_select,
        "macs": macs,
        "shrink": shrink,
        "uniform": uniform,
        "tune": 0 if no_tune else tune,
        "skip": skip,
        "only": only,
        "seed": seed,
    }
    given: dict[str, Any] = {name: flag for name, flag in flags.items() if flag is not None}
    size, settings = _parse_size(input_size), parse_settings(set_)
    try:
        make_recipe(given)
    except RecipeError as error:
        raise UsageError(error.what, hint=error.hint) from error
    if cost is not None:
        given["cost"] = read_cost(cost)
    chosen = make_recipe({**(read_recipe(recipe) if recipe else {}), **given})
    target = target_path(out, default_name(model, f"{chosen.label()}.safetensors"))
    inputs = (model, recipe, cost_file(cost), calib, *_code_of(arch))
    check_output(target, ARTIFACT, inputs=inputs, overwrite=overwrite)

    from waveedge.commands.compress import run

    run(
        _load(model, settings, arch, key, trust_pickle),
        chosen,
        source=model,
        target=target,
        overwrite=overwrite,
        calib=calib,
        input_size=size,
        as_json=json,
    )


@verbs.command(epilog="Example: waveedge tune small.safetensors --data photos --steps 2000")
@standard_streams.results_alone()
def tune(
    artifact: Annotated[
        Path | None, typer.Argument(help="An artifact; by default the newest one here.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Images to train on, .npy or .npz.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Classes of the images of --data: lines of NAME,CLASS."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="The float network; by default the one it was made of."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Steps of training. [1000]")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="About how long to train, in place of --steps.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of images.")] = 0,
    out: ArtifactOut = None,
    overwrite: Overwrite = False,
    set_: Set = None,
    arch: Arch = None,
    key: Key = None,
    trust_pickle: TrustPickle = False,
    json: Json = False,
) -> None:
    """Train an artifact to give the outputs of your own network; with labels, also those.

    It goes on where it was killed; the same line gives the same artifact.
    """
    settings = parse_settings(set_)
    if steps is not None and minutes is not None:
        raise UsageError("--steps and --minutes are both given", hint="Give one of them.")
    if minutes is not None:
        check_minutes(minutes)
    if labels is not None and data is None:
        raise UsageError(
            "--labels are of the images of --data, which is not given",
            hint="Give the folder of images: --data FOLDER",
        )
    for path in (artifact, teacher):
        if path is not None:
            require_regular(path)
    from waveedge.commands.tune import run

    run(
        artifact,
        teacher=teacher,
        data=data,
        labels=labels,
        steps=steps,
        minutes=minutes,
        seed=seed,
        out=out,
        overwrite=overwrite,
        code=_code_of(arch),
        load=lambda path: _load(path, settings, arch, key, trust_pickle),
        as_json=json,
    )


@verbs.command(epilog="Example: waveedge export --target trt")
@standard_streams.results_alone()
def export(
    artifact: Annotated[
        Path | None,
        typer.Argument(help="An artifact or a checkpoint; by default the newest artifact here."),
    ] = None,
    target: Annotated[
        str, typer.Option(help=f"Where it shall run: {', '.join(target_names())}.")
    ] = "ort",
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of floating-point layers: float32; float16 with trt, bfloat16 with openvino. "
            "[float32]"
        ),
    ] = None,
    input_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW", help="Height and width in pixels, or 'dynamic': any that it takes."
        ),
    ] = None,
    min_size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="The smallest dynamic size of a TensorRT engine."),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="The largest dynamic size of a TensorRT engine."),
    ] = None,
    batch: Annotated[str, typer.Option(help="A number, or 'dynamic'.")] = "1",
    no_reparameterize: Annotated[
        bool, typer.Option("--no-reparameterize", help="Keep a checkpoint's published form.")
    ] = False,
    autotune: Annotated[
        bool,
        typer.Option(
            "--autotune", help="Time a checkpoint's forms on this CPU and keep the fastest."
        ),
    ] = False,
    cost: Cost = None,
    calib: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Images to verify the export with.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(parser=output, metavar="PATH", help="The bundle folder to write."),
    ] = None,
    overwrite: Overwrite = False,
    set_: Set = None,
    arch: Arch = None,
    key: Key = None,
    trust_pickle: TrustPickle = False,
    json: Json = False,
) -> None:
    """Export to ONNX, verified against torch on real images; and to an engine where one builds."""
    if autotune and no_reparameterize:
        raise UsageError(
            "--autotune chooses the form that --no-reparameterize fixes", hint="Give one of them."
        )
    settings, images = parse_settings(set_), _parse_batch(batch)
    size: tuple[int, int] | Literal["dynamic"] | None = (
        "dynamic" if input_size == "dynamic" else _parse_size(input_size)
    )
    least, most = _parse_size(min_size, "--min-size"), _parse_size(max_size, "--max-size")
    if artifact is not None:
        require_regular(artifact)
    from waveedge.commands.export import run

    run(
        artifact,
        target=target,
        precision=precision,
        input_size=size,
        min_size=least,
        max_size=most,
        batch=images,
        published=no_reparameterize,
        tune=autotune,
        cost=cost,
        calib=calib,
        out=out,
        overwrite=overwrite,
        code=_code_of(arch),
        load=lambda path: _load(path, settings, arch, key, trust_pickle),
        as_json=json,
    )


def _load(
    path: Path,
    settings: dict[str, str],
    arch: str | None,
    key: str | None,
    trust_pickle: bool,
) -> Any:
    from waveedge.checkpoint import load

    network = load(path, settings=settings, arch=arch, key=key, trust_pickle=trust_pickle)
    for note in getattr(network, "notes", ()):
        console.say(note)
    return network


def _code_of(arch: str | None) -> tuple[Path, ...]:
    """What ``--arch`` imports from the current folder: inputs as much as the checkpoint."""
    if not arch:
        return ()
    module = arch.partition(":")[0].partition(".")[0]
    return tuple(path for path in (Path(f"{module}.py"), Path(module)) if os.path.exists(path))


def _parse_size(text: str | None, option: str = "--input-size") -> tuple[int, int] | None:
    return None if text is None else parse_size(option, text)


def _parse_batch(text: str) -> int | Literal["dynamic"]:
    return "dynamic" if text == "dynamic" else parse_count("--batch", text)
