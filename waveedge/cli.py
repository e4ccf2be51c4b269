"""The command line: the verbs over the Python API, and one place where errors become messages."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import Annotated

import typer

from waveedge import (
    __version__,
    cli_desk,
    cli_device,
    console,
    files,
    interrupts,
    refusals,
    standard_streams,
)

__all__ = ["app", "main"]

app = typer.Typer(
    name="waveedge",
    help="Compress wavelet CNNs, export them to ONNX and TensorRT, and measure them on devices.",
    epilog="Example: waveedge compress model.pt --bits 4 --wcc-ratio 0.5; "
    "waveedge export --target trt; waveedge bench",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    if version:
        console.out.print(f"waveedge {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.say(context.get_help())
        raise typer.Exit(refusals.USAGE)


app.add_typer(cli_desk.verbs)
app.add_typer(cli_device.verbs)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with 0, or with 1 or 2 (usage) after one clear message."""
    # Threads that wait should sleep: on a shared or small machine, spinning ones take the core
    # from the thread they wait for. Read by torch when it is first imported, below.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:] if arguments is None else arguments
    # --debug is welcome anywhere on the line.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if debug:
        arguments = ["--debug", *arguments]
    files.written.clear()
    with interrupts.remembered():
        status = 1
        with suppress(KeyboardInterrupt):
            status = _run(arguments, debug=debug)
        number = interrupts.arrived()
        if number is not None:
            with interrupts.held_back():
                what = f"{files.written[-1]} is written" if files.written else "nothing was written"
                _fail(f"interrupted; {what}", "")
            status = 128 + number  # as shells put it
    sys.exit(status)


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        standard_streams.check()
        code = app(arguments, prog_name="waveedge", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if interrupts.arrived() is not None:  # what was interrupted may fail in its own way
            raise KeyboardInterrupt from error
        if BrokenPipeError in (type(error), type(error.__context__)):  # typer: SystemExit after it
            standard_streams.drop_output()  # the reader of a pipe went away; that is its right
            return 1
        if debug:
            console.err.print(traceback.format_exc())
        _fail(*refusals.message(error))
        if isinstance(error, OSError):
            standard_streams.drop_output()
        return refusals.status(error)


def _fail(what: str, hint: str) -> None:
    console.err.print(f"error: {what}", style="bold red")
    if hint:
        console.say(hint)


if __name__ == "__main__":
    main()
