"""The verbs that a device has as well: build, bench, doctor, and what they need of a machine.

None of them imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from waveedge import standard_streams
from waveedge.errors import UsageError
from waveedge.files import require_regular
from waveedge.limits import parse_batches, parse_size
from waveedge.options import InputSize, Json, Overwrite, output

__all__ = ["verbs"]

verbs = typer.Typer()


@verbs.command(
    epilog="Example: waveedge build model.trt --race; "
    "waveedge build model.trt --dla 0 --form rewritten-float16"
)
@standard_streams.results_alone()
def build(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle for TensorRT; the newest one here by default.")
    ] = None,
    form: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Which form; several: all of them.")
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(min=1, metavar="MIB", help="Memory that a layer may use.")
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=0, max=5, help="How long to look for faster kernels.")
    ] = None,
    dla: Annotated[
        int | None,
        typer.Option(min=0, max=63, metavar="CORE", help="Run on this DLA what it takes."),
    ] = None,
    opt_batch: Annotated[
        int | None,
        typer.Option(min=1, max=8, metavar="N", help="Tune for N images where they are free. [1]"),
    ] = None,
    race: Annotated[
        bool, typer.Option("--race", help="Then let the fastest good one be what is run.")
    ] = False,
    min_snr: Annotated[
        float | None,
        typer.Option(metavar="DB", help="What is good. [as near your network as compressed]"),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Build engines that lie here and fit, too.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Build a bundle's TensorRT engines, on the device that shall run them, and check them."""
    if min_snr is not None and not race:
        raise UsageError("--min-snr is for --race", hint="Give both, or neither.")
    from waveedge.commands.build import run

    run(
        bundle,
        form or [],
        workspace_mib=workspace,
        level=level,
        dla=dla,
        opt_batch=opt_batch,
        again=again,
        raced=race,
        least_db=min_snr,
        overwrite=overwrite,
        as_json=json,
    )


@verbs.command(
    epilog="Example: waveedge bench --vs float.ort; waveedge bench --batch 1,2,4,8 --throughput; "
    "waveedge bench model.onnx; waveedge bench --on me@jetson"
)
@standard_streams.results_alone()
def bench(
    model: Annotated[
        Path | None,
        typer.Argument(help="A bundle, .onnx or engine; the newest bundle here by default."),
    ] = None,
    vs: Annotated[
        Path | None,
        typer.Option(help="What to compare with; by default a bundle's network as published."),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Compare with nothing, as a file without --vs.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    runs: Annotated[int, typer.Option(min=3, help="Timed runs of each, interleaved.")] = 30,
    input_size: InputSize = None,
    batch: Annotated[
        str | None, typer.Option(metavar="LIST", help="Further batches to time: 1,2,4,8.")
    ] = None,
    throughput: Annotated[
        bool, typer.Option("--throughput", help="Images a second with several runs at once, too.")
    ] = False,
    streams: Annotated[
        int | None,
        typer.Option(min=1, max=64, metavar="N", help="How many. [one a core; 2 of engines]"),
    ] = None,
    provider: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="cpu, openvino, engine, or an execution provider of onnxruntime, such as "
            "CUDAExecutionProvider; auto: by the bundle.",
        ),
    ] = "auto",
    images: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Preprocessed images, .npy, in place of a random one."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(parser=output, metavar="FILE", help="Where the picture goes. [bench.png]"),
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Measure on a board, by ssh; several --on: on all."),
    ] = None,
    hosts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure on the boards of a fleet.yaml.")
    ] = None,
    setup: Annotated[
        bool, typer.Option("--setup", help="Install this waveedge on the boards first; it stays.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the bundle on the boards for the next time.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure latency and peak memory, interleaved with the uncompressed network, or alone."""
    for path in (model, vs, hosts, images):
        if path is not None:
            require_regular(path)
    size = None if input_size is None else parse_size("--input-size", input_size)
    batches = () if batch is None else parse_batches("--batch", batch)
    if streams is not None and not throughput:
        raise UsageError("--streams is for --throughput", hint="Give both, or neither.")
    if alone and vs is not None:
        raise UsageError("--alone compares with nothing", hint="Leave out --vs or --alone.")
    if on or hosts is not None:
        if vs is not None or images is not None or provider != "auto":
            raise UsageError(
                "--vs, --images and --provider have no meaning on boards",
                hint="There a bundle is compared with its own baseline, on its own images or a "
                "random one, by what it was made for.",
            )
        from waveedge.commands import fleet

        if not fleet.run(
            model,
            on or [],
            hosts,
            alone=alone,
            threads=threads,
            runs=runs,
            input_size=size,
            batches=batches,
            throughput=throughput,
            streams=streams,
            setup=setup,
            keep=keep,
            plot=plot,
            overwrite=overwrite,
            as_json=json,
        ):
            raise typer.Exit(1)
        return
    if setup or keep:
        raise UsageError("--setup and --keep are for boards", hint="Name one: --on HOST")
    from waveedge.commands.bench import run

    run(
        model,
        vs,
        alone=alone,
        threads=threads,
        runs=runs,
        input_size=size,
        batches=batches,
        throughput=throughput,
        streams=streams,
        provider=provider,
        images=images,
        plot=plot,
        overwrite=overwrite,
        as_json=json,
    )


@verbs.command(
    "fit-cost", epilog="Example: waveedge fit-cost; waveedge compress model.pt --cost cost.yaml"
)
@standard_streams.results_alone()
def fit_cost(
    out: Annotated[
        Path, typer.Option(parser=output, metavar="FILE", help="The cost profile to write.")
    ] = Path("cost.yaml"),
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure what moving data costs on this CPU, for the exact rewrites to choose by."""
    from waveedge.commands.fit_cost import run

    run(out, overwrite=overwrite, as_json=json)


@verbs.command(epilog="Example: waveedge wheel; scp waveedge-*.whl me@jetson:")
@standard_streams.results_alone()
def wheel(
    out: Annotated[
        Path | None, typer.Option(parser=output, metavar="FOLDER", help="Where it goes.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write one file by which a board installs this waveedge, without torch."""
    from waveedge.commands.wheel import run

    run(out, overwrite=overwrite)


@verbs.command(epilog="Example: waveedge doctor --json > board.json")
@standard_streams.results_alone()
def doctor(json: Json = False) -> None:
    """Say what this machine is as a place to run bundles, and what would mend what is missing."""
    from waveedge.commands.doctor import run

    run(as_json=json)
