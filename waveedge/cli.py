"""The command line: four verbs over the Python API, and one place where errors become messages."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from waveedge import __version__, console
from waveedge.errors import OutputError, RecipeError, WaveedgeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="waveedge",
    help="Compress wavelet CNNs, export them to ONNX and TensorRT, and measure them on devices.",
    epilog="Example: waveedge compress model.pt --bits 4 --wcc-ratio 0.5; "
    "waveedge export --target trt; waveedge bench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="What shapes cannot tell: stride=1, mean=0.5"),
]
Arch = Annotated[
    str | None,
    typer.Option(help="A callable that returns the network, as package.module:factory."),
]
TrustPickle = Annotated[
    bool,
    typer.Option("--trust-pickle", help="Unpickle a whole module. This RUNS CODE from the file."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
InputSize = Annotated[
    str | None, typer.Option(metavar="HxW", help="Height and width of the input in pixels.")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    if version:
        console.out.print(f"waveedge {__version__}", highlight=False)
        raise typer.Exit


@app.command(epilog="Example: waveedge inspect model.pt --input-size 256x256")
def inspect(
    model: Annotated[Path, typer.Argument(help="A checkpoint or a compressed artifact.")],
    input_size: InputSize = None,
    set_: Set = None,
    arch: Arch = None,
    trust_pickle: TrustPickle = False,
    json: Json = False,
) -> None:
    """Show what a checkpoint is: family, configuration, cost, and what compress would touch."""
    from waveedge.commands.inspect import describe, show

    network = _load(model, set_, arch, trust_pickle)
    description = describe(network, _parse_size(input_size))
    if json:
        console.print_json(description)
    else:
        show(description)


@app.command(epilog="Example: waveedge compress model.pt --bits 4 --wcc-ratio 0.5")
def compress(
    model: Annotated[Path, typer.Argument(help="A checkpoint: .pt, .pth or .safetensors.")],
    bits: Annotated[
        int | None, typer.Option(help="Activation bits, 2 to 8; 32: no quantization. [8]")
    ] = None,
    weight_bits: Annotated[int | None, typer.Option(help="Weight bits, 2 to 8, or 32. [8]")] = None,
    wcc_ratio: Annotated[
        float | None,
        typer.Option(help="Share of wavelet coefficients that 1x1 convolutions keep; 1: all. [1]"),
    ] = None,
    wcc_levels: Annotated[int | None, typer.Option(help="Wavelet levels in WCC. [3]")] = None,
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
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [0]")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The artifact to write, or the folder to write it in.")
    ] = None,
    input_size: InputSize = None,
    set_: Set = None,
    arch: Arch = None,
    trust_pickle: TrustPickle = False,
    json: Json = False,
) -> None:
    """Compress a network into one .safetensors artifact, and report what that did to it."""
    from waveedge.compression.recipe import make_recipe, read_recipe

    flags = {
        "bits": bits,
        "weight_bits": weight_bits,
        "wcc_ratio": wcc_ratio,
        "wcc_levels": wcc_levels,
        "skip": skip,
        "only": only,
        "seed": seed,
    }
    fields = read_recipe(recipe) if recipe else {}
    fields.update({name: value for name, value in flags.items() if value is not None})
    chosen = make_recipe(fields)
    target = _artifact_path(out, model, chosen.label())

    from waveedge.commands.compress import run

    run(
        _load(model, set_, arch, trust_pickle),
        chosen,
        source=model,
        target=target,
        calib=calib,
        input_size=_parse_size(input_size),
        as_json=json,
    )


@app.command(epilog="Example: waveedge export --target trt")
def export(
    artifact: Annotated[
        Path | None,
        typer.Argument(help="An artifact or a checkpoint; by default the newest artifact here."),
    ] = None,
    target: Annotated[str, typer.Option(help="onnx, ort, trt, or trt-rtx.")] = "ort",
    input_size: InputSize = None,
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
    calib: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Images to verify the export with.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The bundle folder to write.")] = None,
    set_: Set = None,
    arch: Arch = None,
    trust_pickle: TrustPickle = False,
    json: Json = False,
) -> None:
    """Export to ONNX, verified against torch on real images; and to an engine where one builds."""
    if autotune and no_reparameterize:
        raise RecipeError(
            "--autotune chooses the form that --no-reparameterize fixes", hint="Give one of them."
        )
    from waveedge.commands.export import run

    run(
        artifact,
        target=target,
        input_size=_parse_size(input_size),
        batch=_parse_batch(batch),
        published=no_reparameterize,
        tune=autotune,
        calib=calib,
        out=out,
        load=lambda path: _load(path, set_, arch, trust_pickle),
        as_json=json,
    )


@app.command(epilog="Example: waveedge bench --vs float.ort --json")
def bench(
    model: Annotated[
        Path | None, typer.Argument(help="A bundle or .onnx; the newest bundle here by default.")
    ] = None,
    vs: Annotated[
        Path | None,
        typer.Option(help="What to compare with; by default the network as published."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    runs: Annotated[int, typer.Option(min=3, help="Timed runs of each, interleaved.")] = 30,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the picture goes. [bench.png]")
    ] = None,
    json: Json = False,
) -> None:
    """Measure latency and peak memory, interleaved with the uncompressed network."""
    from waveedge.commands.bench import run

    run(model, vs, threads=threads, runs=runs, plot=plot, as_json=json)


_INTERRUPTED = 130
"""The status that typer gives a command stopped with Ctrl-C, as shells do."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with 0, or with 1 after one clear message."""
    # Threads that wait should sleep: on a shared or small machine, spinning ones take the core
    # from the thread they wait for. Read by torch when it is first imported, below.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:] if arguments is None else arguments
    # --debug is welcome anywhere on the line.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if debug:
        arguments = ["--debug", *arguments]
    with console.remembered_interrupts():
        sys.exit(_run(arguments, debug=debug))


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        code = app(arguments, standalone_mode=False)
        if code == _INTERRUPTED:
            _fail("interrupted; nothing was written", "")
        return code if isinstance(code, int) else 0
    except WaveedgeError as error:
        if debug:
            raise
        _fail(error.what, error.hint)
    except typer.TyperException as error:
        _fail(*_usage(error))
    except BrokenPipeError:
        # The reader of a pipe went away; that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if debug:
            raise
        _fail(
            f"unexpected {type(error).__name__}: {error}",
            "This is a bug in waveedge; run again with --debug and report what it prints.",
        )
    return 1


def _usage(error: typer.TyperException) -> tuple[str, str]:
    """What is wrong with the line that was typed, and where its help is."""
    context = getattr(error, "ctx", None)
    message: str = getattr(error, "format_message", lambda: str(error))()
    return message or "no command was given", (
        f"See: {context.command_path if context else 'waveedge'} --help"
    )


def _fail(what: str, hint: str) -> None:
    console.err.print(f"error: {what}", style="bold red", highlight=False, markup=False)
    if hint:
        console.say(hint)


def _load(path: Path, settings: list[str] | None, arch: str | None, trust_pickle: bool) -> Any:
    from waveedge.checkpoint import load

    pairs = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise RecipeError(
                f"--set {setting!r} is not KEY=VALUE", hint="For example: --set stride=1"
            )
        pairs[key.strip()] = value.strip()
    return load(path, settings=pairs, arch=arch, trust_pickle=trust_pickle)


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise RecipeError(f"--input-size {text!r} is not HxW", hint="For example: 256x512")
    return int(parts[0]), int(parts[1])


def _parse_batch(text: str) -> int | Literal["dynamic"]:
    if text == "dynamic":
        return "dynamic"
    if not text.isdecimal() or int(text) < 1:
        raise RecipeError(f"--batch {text!r} is neither a number nor 'dynamic'", hint="Try 1.")
    return int(text)


def _artifact_path(out: Path | None, model: Path, label: str) -> Path:
    name = f"{model.name.split('.')[0]}.{label}.safetensors"
    target = Path(name) if out is None else out / name if out.is_dir() else out
    if target.exists() and model.exists() and target.samefile(model):
        raise RecipeError(
            f"--out {target} is the input itself", hint="Inputs are never modified; name another."
        )
    if not target.parent.is_dir():  # better said now than after minutes of work
        raise OutputError(
            f"cannot write {target}: its folder does not exist", hint="Create the folder first."
        )
    return target


if __name__ == "__main__":
    main()
