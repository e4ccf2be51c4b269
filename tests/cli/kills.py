"""Kill the verbs at random moments, and look at what they leave: ``python kills.py MOMENTS``.

One process imports everything once and forks; each child runs one verb onto a target that exists
already, and gets SIGKILL, SIGTERM or SIGINT at a random moment of its work. The old target or the
new one must be there, whole, and nothing else but a hidden folder that the next run clears;
SIGTERM and SIGINT leave not even that, and one message. Prints a JSON object with the counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NETWORK = """import torch
def make():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 3, 1))
"""
MODEL = ("model.pt", "--arch", "net:make", "--input-size", "16x16")
VERBS = {
    "compress": (("compress", *MODEL, "--calib", "images", "--out", "a.st"), "a.st"),
    "export": (("export", *MODEL, "--calib", "images", "--out", "b.ort"), "b.ort"),
    "bench": (("bench", "b.ort", "--runs", "3", "--plot", "c.png"), "c.png"),
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
INTERRUPTED = "error: interrupted; "


@dataclass
class Campaign:
    """What was tried, and what came of it.

    Attributes:
        tried: (verb, signal) -> moments at which the work was still under way.
        outcomes: how the targets were found.
        leftovers: (signal) -> runs that left a hidden folder.
        faults: what must not be.
    """

    tried: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    leftovers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@contextmanager
def silence() -> Iterator[None]:
    """Drop what is written to standard output, by whatever way."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def forked(arguments: Sequence[str], folder: Path) -> int:
    """Start the command line in a forked process; its messages go to ``messages.txt``."""
    child = os.fork()
    if child:
        return child
    try:
        os.chdir(folder)
        os.dup2(os.open("/dev/null", os.O_RDWR), 1)
        os.dup2(os.open(folder.parent / "messages.txt", os.O_RDWR | os.O_CREAT | os.O_TRUNC), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from waveedge.cli import main

        main(list(arguments))
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 0)
    finally:
        os._exit(99)  # an exception got through
    return 0


def catches(process: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal (or has ended)."""
    status = Path(f"/proc/{process}/status").read_text()
    mask = next((line for line in status.splitlines() if line.startswith("SigCgt")), "x ffffff")
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def ended(child: int) -> int:
    """Wait for a child; its exit status, or the negative number of its signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def content(path: Path) -> dict[str, bytes]:
    """Every file of a target, by its name."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return {file.name: file.read_bytes() for file in files}


def whole(path: Path) -> bool:
    """Whether a target is complete."""
    from waveedge.artifact import is_artifact
    from waveedge.filetypes import is_picture
    from waveedge.runtime import open_bundle

    if path.suffix == ".png":
        return is_picture(path) and path.read_bytes().endswith(b"IEND\xaeB`\x82")
    return bool(open_bundle(path) if path.is_dir() else is_artifact(path))


def once(found: Campaign, verb: str, number: signal.Signals, delay: float, folder: Path) -> bool:
    """Run ``verb``, send it the signal after ``delay`` seconds, and judge what is left.

    Returns:
        Whether it was still at work.
    """
    arguments, name = VERBS[verb]
    target = folder / name
    others = {path: content(path) for path in folder.glob("[!.]*") if path != target}
    earlier = set(folder.glob(".*"))
    before = content(target)
    made = target.stat().st_ino
    child = forked(arguments, folder)
    while not catches(child, signal.SIGTERM):  # before the entry point's first line
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(child, number)
    code = ended(child)
    message = (folder.parent / "messages.txt").read_text()
    where = f"{verb}, {number.name} after {delay:.3f} s"
    hidden = set(folder.glob(".*")) - earlier
    if code:
        found.tried[f"{verb} {number.name}"] += 1
        found.outcomes["old" if target.exists() and target.stat().st_ino == made else "new"] += 1
        found.leftovers[number.name] += bool(hidden)
    if code not in (0, -number if number is signal.SIGKILL else 128 + number):
        found.faults.append(f"{where}: exit status {code}: {message[-300:]}")
    if code and number is not signal.SIGKILL:
        said = "nothing was written" if target.stat().st_ino == made else f"{name} is written"
        if f"{INTERRUPTED}{said}\n" not in message or message.count("error:") != 1:
            found.faults.append(f"{where}: said {message[-300:]!r}")
        if hidden:
            found.faults.append(f"{where}: {hidden} is left")
    if "Traceback" in message or "ignored" in message:
        found.faults.append(f"{where}: {message[-300:]}")
    if target.stat().st_ino == made and content(target) != before:
        found.faults.append(f"{where}: the old target was changed")
    if not whole(target):
        found.faults.append(f"{where}: the target is not whole")
    if others != {path: content(path) for path in others}:
        found.faults.append(f"{where}: other files were changed")
    if set(folder.glob("[!.]*")) != {target, *others}:
        found.faults.append(f"{where}: files more or less: {sorted(folder.iterdir())}")
    return code != 0


def make_inputs(folder: Path) -> None:
    """Write a small network and images, so that a run is short."""
    import numpy as np
    import torch
    from PIL import Image

    (folder / "net.py").write_text(NETWORK)
    scope: dict[str, Any] = {}
    exec(NETWORK, scope)
    torch.save(scope["make"]().state_dict(), folder / "model.pt")
    (folder / "images").mkdir()
    for index in range(6):
        pixels = np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")


def campaign(moments: int, seed: int, report: Callable[[str], object]) -> Campaign:
    """Try ``moments`` moments of every verb and signal."""
    import torch

    from waveedge import files
    from waveedge.cli import main

    torch.set_num_threads(1)
    draw = random.Random(seed)
    found = Campaign()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "work"
        folder.mkdir()
        make_inputs(folder)
        lasts = {}
        os.chdir(folder)
        for arguments, _ in VERBS.values():  # the targets; and every import, before the forks
            with pytest.raises(SystemExit, match="0"), silence():
                main(list(arguments))
        for verb, (arguments, _) in VERBS.items():
            start = time.monotonic()
            if ended(forked(arguments, folder)):
                raise SystemExit((folder.parent / "messages.txt").read_text())
            lasts[verb] = time.monotonic() - start
        report(f"seconds: {lasts}")
        for moment in range(moments):
            for verb in VERBS:
                for number in SIGNALS:
                    delay = draw.uniform(0, lasts[verb])
                    while not once(found, verb, number, delay, folder):
                        delay /= 2  # it was done before
            report(f"{moment + 1}: {sum(found.tried.values())} kills, faults: {found.faults}")
        files.probe(folder / "any")
        if left := list(folder.glob(".*")):
            found.faults.append(f"the next run does not clear {left}")
    return found


def by_hand() -> None:
    """Run a campaign and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("moments", type=int, nargs="?", default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = campaign(given.moments, given.seed, lambda text: print(text, file=sys.stderr))
    print(json.dumps(vars(found), indent=1))
    sys.exit(bool(found.faults))


if __name__ == "__main__":
    by_hand()
