"""What reaches the terminal and a pipe, whatever names, networks and streams there are."""

from __future__ import annotations

import errno
import functools
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer

from waveedge import console
from waveedge.cli import app

from .inside import run_inside

SMALL = ("--input-size", "32x32")

LOUD = """
import ctypes
import os
import torch
from torch import nn

print("imported")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.last = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        print("in Python")
        os.write(1, b"at once\\n")
        ctypes.CDLL(None).puts(b"from a buffer of C")
        return self.last(self.conv(x).relu())

def make():
    print("made")
    torch.manual_seed(0)
    return Net()
"""


@pytest.mark.parametrize(
    "line",
    [
        ("inspect", "net.pt", "--arch", "net:make", *SMALL),
        ("compress", "net.pt", "--arch", "net:make", *SMALL),
        ("export", "net.pt", "--arch", "net:make", *SMALL, "--no-reparameterize"),
    ],
    ids=lambda line: line[0],
)
def test_json_is_alone_on_standard_output_whatever_a_network_prints(
    tmp_path: Path, line: tuple[str, ...]
) -> None:
    (tmp_path / "net.py").write_text(LOUD)
    torch.manual_seed(0)
    convolutions = {"conv": torch.nn.Conv2d(3, 3, 1), "last": torch.nn.Conv2d(3, 3, 1)}
    torch.save(torch.nn.ModuleDict(convolutions).state_dict(), tmp_path / "net.pt")
    result = run_inside(tmp_path, *line, "--json")
    assert result.code == 0, result.err
    assert isinstance(json.loads(result.out), dict)
    for text in ("imported", "made", "in Python", "at once", "from a buffer of C"):
        assert text in result.err


def test_a_strange_name_is_shown_and_its_checkpoint_used(model: Path, tmp_path: Path) -> None:
    name = "a:car:[red]$\n\x1b[31m\udcff-é.pt"
    shutil.copy(model, os.fsencode(tmp_path / name))
    result = run_inside(tmp_path, "inspect", name, *SMALL)
    assert result.code == 0, result.err
    result = run_inside(tmp_path, "inspect", name, "--set", "strid=1")
    assert "strid=1: there is no setting strid" in result.err
    refused = run_inside(tmp_path, "compress", name, "--out", f"no/{name}")
    assert "cannot write no/a:car:[red]$\n\\x1b[31m\\xff-é.pt" in refused.err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;title\x07b", r"a\x1b]0;title\x07b"),
        ("a\rb\x08c", r"a\x0db\x08c"),
        ("one\ntwo\tthree", "one\ntwo\tthree"),
        ("\x9b31m", r"\x9b31m"),
        ("txt\u202egnp.exe", r"txt\u202egnp.exe"),
        ("\udc80\ud800", r"\x80\ud800"),
        ("naïve 日本 🚗 :car: [bold]", "naïve 日本 🚗 :car: [bold]"),
    ],
)
def test_what_would_steer_a_terminal_is_written_out(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.say(text)
    console.warn(text)
    console.out.print(text)
    console.table(text, [text], [[text.replace("\n", " ").replace("\t", " ")]])
    out, err = capsys.readouterr()
    assert err == f"{shown}\nWARNING: {shown}\n".expandtabs()
    assert out.startswith(f"{shown}\n{shown}\n".expandtabs())
    assert not {"\x1b", "\r", "\x07", "\x9b", "\u202e"} & set(out + err)


def _process(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell, for what only a process has: streams that are closed or full."""
    line = line.replace("waveedge", f"'{sys.executable}' -W ignore -m waveedge.cli")
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def test_standard_output_that_is_closed(tmp_path: Path) -> None:
    done = _process("waveedge inspect model.pt >&-", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output is closed\n")


def test_standard_error_that_is_closed(tmp_path: Path) -> None:
    done = _process("waveedge bench 0<&- 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    done = _process("mkdir gone; cd gone; rmdir ../gone; waveedge inspect model.pt", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the current folder does not exist any more\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("json", [(), ("--json",)])
def test_standard_output_that_is_full(model: Path, tmp_path: Path, json: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        result = run_inside(tmp_path, "inspect", model, *SMALL, *json, stdout=full)
    assert result.code == 1
    assert "error: cannot write the result to standard output: " in result.err
    assert os.strerror(errno.ENOSPC) in result.err
    assert result.err.count("\n") == 2


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_a_reader_that_goes_away_is_no_error(
    model: Path, tmp_path: Path, json: tuple[str, ...]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        result = run_inside(tmp_path, "inspect", model, *SMALL, *json, stdout=pipe)
    assert (result.code, result.err) == (1, "")


def test_no_verb_shows_the_help(tmp_path: Path) -> None:
    result = run_inside(tmp_path)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Usage: waveedge")


_VALUES = [
    *("", " ", "-", "--", "-1", "0", "1", "2.5", "9" * 400, "1e400", "nan", "inf", "0x1", "٣"),
    *("64x64", "x", "1x", "9999999x9", "64x64x64", "dynamic", "a=b", "=", "stride=1", "mean=", "*"),
    *("net:make", ":", "a.b:c", "..:x", "nowhere.pt", "/", ".", "..", "~", "a\nb", "\x1b[2J"),
    *("\udcff", "é", "[red]", ":car:", "%s%n", "{}", "a" * 5000, "--json", "--help", "ort", "[!"),
]


def _options() -> dict[str, list[str]]:
    """Every verb's options, as the command line itself lists them."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {
        verb: [name for parameter in command.params for name in parameter.opts]
        for verb, command in commands.items()
    }


def test_random_lines_are_refused_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options and values at random: all is refused before any work, as there is no model."""
    # Typer builds its parser once in a process; building it for every line is most of the time.
    monkeypatch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
    options = _options()
    for verb in ("fit-cost", "doctor", "wheel"):  # they need no model, and would do their work
        del options[verb]
    assert {"--wcc-ratio", "--recipe"} <= set(options["compress"])
    chance = random.Random(0)
    codes = {0: 0, 1: 0, 2: 0}
    for _ in range(int(os.environ.get("WAVEEDGE_FUZZ", 250))):
        verb = chance.choice([*options, "--version", "bogus"])
        line = [verb]
        for _ in range(chance.randint(0, 4)):
            line.append(chance.choice([*options.get(verb, ["--debug"]), *_VALUES]))
            line += chance.choices(_VALUES, k=chance.randint(0, 1))
        result = run_inside(tmp_path, *(word for word in line if word != "--debug"))
        codes[result.code] += 1
        assert "bug in waveedge" not in result.err, (line, result.err)
        assert "Traceback" not in result.err, (line, result.err)
        assert "error: " in result.err or result.code == 0 or line == [verb], line
        assert not {"\x1b", "\udcff"} & set(result.err), line
        assert len(result.err) < 8000, line
        assert not list(tmp_path.iterdir()), line
    assert all(codes.values()), codes
