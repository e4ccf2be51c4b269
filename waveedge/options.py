"""What several verbs take on the command line, and what compress takes: types, names and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from waveedge.errors import UsageError

__all__ = [
    "Arch",
    "ArtifactOut",
    "Bits",
    "Cost",
    "InputSize",
    "Json",
    "Key",
    "Macs",
    "NoTune",
    "Overwrite",
    "Set",
    "Shrink",
    "TrustPickle",
    "Tune",
    "Uniform",
    "WccLevels",
    "WccRatio",
    "WccSelect",
    "WeightBits",
    "output",
]


def output(text: str) -> Path:
    if not text:  # Path("") would be the working folder
        raise UsageError("the name of the output is empty", hint="Name a file, or a folder.")
    return Path(text)


ArtifactOut = Annotated[
    Path | None,
    typer.Option(
        parser=output, metavar="PATH", help="The artifact to write, or the folder to write it in."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="What shapes cannot tell: stride=1, mean=0.5"),
]
Arch = Annotated[
    str | None,
    typer.Option(help="A callable that returns the network, as package.module:factory."),
]
Key = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which network of a file with several: netG, model.teacher"),
]
TrustPickle = Annotated[
    bool,
    typer.Option("--trust-pickle", help="Unpickle a whole module. This RUNS CODE from the file."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a file that waveedge did not write, too.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Cost = Annotated[
    str | None,
    typer.Option(
        metavar="PROFILE",
        help="What exact rewrites choose by: cpu, gpu, or a file of waveedge fit-cost.",
    ),
]
InputSize = Annotated[
    str | None, typer.Option(metavar="HxW", help="Height and width of the input in pixels.")
]

Bits = Annotated[int | None, typer.Option(help="Activation bits, 2 to 8; 32: no quantization. [8]")]
WeightBits = Annotated[int | None, typer.Option(help="Weight bits, 2 to 8, or 32. [8]")]
WccRatio = Annotated[
    float | None,
    typer.Option(help="Share of the coefficients that 1x1 convolutions keep; 1: all. [1]"),
]
WccLevels = Annotated[int | None, typer.Option(help="Wavelet levels in WCC. [3]")]
WccSelect = Annotated[
    str | None, typer.Option(help="How WCC chooses: static, or topk, as published. [static]")
]
Macs = Annotated[
    float | None, typer.Option(help="Share of the multiply-adds to keep; 1: no demand. [1]")
]
Shrink = Annotated[
    bool | None,
    typer.Option("--shrink/--no-shrink", help="Leave out channels that nothing misses. [yes]"),
]
Uniform = Annotated[
    bool | None,
    typer.Option("--uniform/--mixed", help="Below 8 bits: no 8 bits for the few costliest layers."),
]
Tune = Annotated[
    int | None,
    typer.Option(
        metavar="STEPS",
        help="Steps of training on the calibration images; 0: none. [0, or 200 to 500]",
    ),
]
NoTune = Annotated[bool, typer.Option("--no-tune", help="The same as --tune 0.")]
