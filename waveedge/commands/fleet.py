"""``waveedge bench --on HOST``, ``--hosts FILE``: the same, measured on boards, from the desk."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from waveedge import console
from waveedge.errors import InputError
from waveedge.fleet import Board, measure, read_boards, rows, save_plot
from waveedge.fleet.forms import FORM_COLUMNS, form_rows
from waveedge.fleet.further import BATCH_COLUMNS, STREAM_COLUMNS, batch_rows, stream_rows
from waveedge.fleet.measure import Outcome
from waveedge.fleet.remote import PLACE
from waveedge.fleet.ssh import require_host
from waveedge.fleet.summary import COLUMNS, at
from waveedge.outputs import PICTURE, check_output
from waveedge.runtime.bundle import newest_bundle, open_bundle

__all__ = ["run"]


def run(
    model: Path | None,
    on: Sequence[str],
    hosts: Path | None,
    *,
    alone: bool,
    threads: int,
    runs: int,
    input_size: tuple[int, int] | None,
    batches: Sequence[int],
    throughput: bool,
    streams: int | None,
    setup: bool,
    keep: bool,
    plot: Path | None,
    overwrite: bool,
    as_json: bool,
) -> bool:
    """Measure a bundle on boards and print one table; return whether all of them gave a report.

    Raises:
        InputError: there is no bundle, or a board is named twice.
        OutputError: the picture must not replace what is there, or cannot be written.
    """
    boards = [*(Board(host) for host in on), *(read_boards(hosts) if hosts is not None else ())]
    for board in boards:
        require_host(board.host)
    titles = [board.title for board in boards]
    for title in titles:
        if titles.count(title) > 1:
            raise InputError(f"the board {title} is named twice")
    if model is None:
        model = newest_bundle(warn=console.warn)
        console.say(f"Measuring the newest bundle here: {model}")
    open_bundle(model)  # said before anybody connects
    picture = plot or Path("bench.png")
    drawn = find_spec("matplotlib") is not None
    if drawn:
        check_output(picture, PICTURE, inputs=(model, hosts), overwrite=overwrite)
    arguments = ["--threads", str(threads), "--runs", str(runs)]
    arguments += ["--alone"] if alone else []
    arguments += ["--input-size", "{}x{}".format(*input_size)] if input_size else []
    arguments += ["--batch", ",".join(str(batch) for batch in batches)] if batches else []
    arguments += ["--throughput"] if throughput else []
    arguments += ["--streams", str(streams)] if streams else []
    with console.states(titles) as say:
        outcomes = measure(boards, model, arguments, setup=setup, keep=keep, say=say)
    measured = any(outcome.report for outcome in outcomes)
    if drawn and measured:
        save_plot(outcomes, picture, overwrite=overwrite)
    if as_json:
        console.print_json(
            {"bundle": str(model), "boards": [outcome.to_dict() for outcome in outcomes]}
        )
    elif measured:
        bundle = open_bundle(model)
        counted = "runs" if alone or bundle.baseline is None else "interleaved pairs"
        title = f"{bundle.name}, {runs} {counted}, {threads} thread(s), on {_timed(outcomes)}"
        console.table(title, COLUMNS, rows(outcomes))
        if forms := form_rows(outcomes):
            console.table("The race of the engines, on each board", FORM_COLUMNS, forms)
        if further := batch_rows(outcomes):
            console.table("Batches", BATCH_COLUMNS, further)
        if further := stream_rows(outcomes):
            console.table("Several runs at once", STREAM_COLUMNS, further)
        if drawn:
            console.out.print(f"wrote {picture}")
    for outcome in outcomes:
        for note in (outcome.report or {}).get("notes") or ():
            console.say(f"{outcome.board.title}: {str(note)[:500]}")
    for outcome in outcomes:
        if outcome.installed:
            console.say(f"{outcome.board.title}: waveedge stays there, in ~/{PLACE}. To remove it:")
            console.say(f"    ssh {shlex.quote(outcome.board.host)} 'rm -r ~/{PLACE}'")
    for outcome in outcomes:
        if outcome.error is not None:
            console.err.print(f"error: {outcome.error.what}", style="bold red")
            if outcome.error.hint:
                console.say(outcome.error.hint)
    return all(outcome.report is not None for outcome in outcomes)


def _timed(outcomes: Sequence[Outcome]) -> str:
    sources = {at(outcome.report, "input_source") for outcome in outcomes if outcome.report}
    return "the bundle's images" if sources == {"images"} else "a random image"
