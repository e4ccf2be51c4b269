"""More bad inputs: numbers out of bounds, recipes that expand, code and files that misbehave."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .cases import Arguments, Case, flags, recipe, saved, state

MANY = "9" * 5000
SMALL = ("--input-size", "32x32")


def _export(*given: object) -> Callable[[Path], Arguments]:
    return lambda _folder: ["export", "model.pt", *given]


def _network(
    *, make: str = "return Net()", forward: str = "return self.conv(x)", start: str = ""
) -> Callable[[Path], Arguments]:
    """A network of the user's own, and a checkpoint that fits it."""

    def write(folder: Path) -> Arguments:
        (folder / "net.py").write_text(
            f"import torch\nfrom torch import nn\n{start}\n"
            "class Net(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.conv = nn.Conv2d(3, 3, 1)\n"
            "    def forward(self, x):\n"
            f"        {forward}\n"
            f"def make():\n    {make}\n"
        )
        entries = {"conv.weight": torch.full((3, 3, 1, 1), 0.1), "conv.bias": torch.zeros(3)}
        return [*saved(folder, entries), "--arch", "net:make", *SMALL]

    return write


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], Arguments]:
    def make(folder: Path) -> Arguments:
        entries = state(folder)
        change(entries)
        return [*saved(folder, entries), *SMALL]

    return make


def _negative_variance(entries: dict[str, Any]) -> None:
    name = next(name for name in entries if name.endswith("running_var"))
    entries[name][0] = -1


def _enormous(entries: dict[str, Any]) -> None:
    for name, tensor in entries.items():
        if tensor.dim() == 4:
            entries[name] = tensor * 1e20


def _pipe(name: str, *line: object) -> Callable[[Path], Arguments]:
    def make(folder: Path) -> Arguments:
        os.mkfifo(folder / name)
        return list(line)

    return make


def _nested(depth: int, opening: str, closing: str) -> str:
    return f"skip: {opening * depth}{closing * depth}"


def _laughs(levels: int) -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels)
    ]
    return "\n".join(lines)


_SIZES = [
    Case(
        "400 million pixels", flags("--input-size", "20000x20000"), ("too large", "33,554,432"), 2
    ),
    Case("a height of 2**32", _export("--input-size", "4294967296x2"), ("too large",), 2),
    Case("a size of 5000 digits", flags("--input-size", f"{MANY}x2"), ("too large",), 2),
    Case("a size of no pixels", flags("--input-size", "0x64"), ("HxW",), 2),
    Case("a negative size", flags("--input-size=-64x64"), ("HxW",), 2),
    Case("a size of three numbers", flags("--input-size", "3x64x64"), ("HxW",), 2),
    Case("a batch of a million", _export("--batch", "1000000"), ("--batch 1000000", "large"), 2),
    Case("a batch of 2**63", _export("--batch", 2**63), ("too large",), 2),
    Case("a batch of 5000 digits", _export("--batch", MANY), ("too large", "5000"), 2),
    Case(
        "a profile without an engine", _export("--max-size", "64x64"), ("--max-size", "TensorRT"), 2
    ),
    Case("a profile end of one number", _export("--min-size", "64"), ("--min-size", "HxW"), 2),
    Case("a negative batch", _export("--batch=-1"), ("at least 1",), 2),
    Case("a seed of 30 digits", flags("--seed", "9" * 30), ("seed",), 2),
    Case("bits of 5000 digits", flags("--bits", MANY), ("--bits",), 2),
    Case("a ratio that is no number", flags("--wcc-ratio", "nan"), ("wcc_ratio",), 2),
]

_LINES = [
    Case("no argument", lambda _: ["compress"], ("Missing argument",), 2),
    Case("no such verb", lambda _: ["compres"], ("compres",), 2),
    Case("a flag without its value", flags("--bits"), ("--bits",), 2),
    Case("only an empty pattern", flags("--only", ""), ("only.0", "at least 1 character"), 2),
    Case("skip an empty pattern", flags("--skip", ""), ("skip.0", "at least 1 character"), 2),
    Case("a pattern of 2000 characters", flags("--skip", "a" * 2000), ("at most 1000",), 2),
    Case("a setting twice", flags("--set", "stride=1", "--set", "stride=2"), ("twice",), 2),
    Case("a setting of 2000 characters", flags("--set", f"mean={'1' * 2000}"), ("too long",), 2),
    Case("a setting of control codes", flags("--set", "stride=\x1b[2J"), (r"stride=\x1b[2J",), 2),
    Case("a number that is none", flags("--set", "mean=grey"), ("mean=grey", "numbers"), 2),
    Case("a number out of range", flags("--set", f"mean={'9' * 400}"), ("not finite",), 2),
    Case("a set size that is none", flags("--set", "input_size=big"), ("input_size", "HxW"), 2),
    Case("a set size too large", flags("--set", f"input_size={'9' * 900}"), ("too large",), 2),
    Case("a factory that is no name", flags("--arch", "net"), ("package.module:factory",), 2),
    Case("a name of control codes", lambda _: ["inspect", "a\x1b[31m.pt"], (r"a\x1b[31m.pt",)),
    Case("a name like an emoji", lambda _: ["inspect", "z:car:[red].pt"], ("z:car:[red].pt",)),
    Case("a name that is no UTF-8", lambda _: ["inspect", "a\udcff.pt"], (r"a\xff.pt",)),
    Case("a name of 300 characters", lambda _: ["inspect", "n" * 300], ("too long",)),
]

_PIPES = [
    Case("a pipe as a checkpoint", _pipe("a.pt", "compress", "a.pt"), ("a.pt is a pipe",)),
    Case("a pipe to inspect", _pipe("a.pt", "inspect", "a.pt"), ("a.pt is a pipe",)),
    Case("a pipe to export", _pipe("a.pt", "export", "a.pt"), ("a.pt is a pipe",)),
    Case("a pipe to measure", _pipe("a.onnx", "bench", "a.onnx"), ("a.onnx is a pipe",)),
    Case(
        "a pipe to compare with",
        _pipe("a.onnx", "bench", "model.pt", "--vs", "a.onnx"),
        ("a.onnx is a pipe",),
    ),
    Case(
        "a pipe as a recipe",
        _pipe("r.yaml", "compress", "model.pt", "--recipe", "r.yaml"),
        ("r.yaml is a pipe",),
    ),
]

_CODE = [
    Case("a module that exits", _network(start="raise SystemExit(0)"), ("importing net failed",)),
    Case("a factory that exits", _network(make="raise SystemExit(0)"), ("make() failed", "Exit")),
    Case(
        "a factory that raises no ordinary error",
        _network(start="class Odd(BaseException): pass", make="raise Odd('so')"),
        ("make() failed: Odd: so",),
    ),
    Case(
        "a factory that says too much",
        _network(make="raise ValueError('no, ' * 10**6)"),
        ("make() failed: ValueError: no, no",),
    ),
    Case(
        "a factory whose error cannot be read",
        _network(
            start="class Mute(Exception):\n    def __str__(self): return 1 / 0",
            make="raise Mute",
        ),
        ("make() failed: Mute",),
    ),
    Case("a factory without end", _network(make="return make()"), ("RecursionError",)),
    Case("a factory that returns a number", _network(make="return 3"), ("returned a int",)),
    Case("no memory", _network(make="return torch.zeros(2**58)"), ("not enough memory", "--batch")),
    Case("a network that exits", _network(forward="raise SystemExit(0)"), ("SystemExit: 0",)),
    Case(
        "a network that fails",
        _network(forward="raise ValueError('no, ' * 10**6)"),
        ("fails on image 1 of 1, of shape (1, 3, 32, 32): ValueError: no, no", "--input-size"),
    ),
    Case(
        "a network that gives NaN",
        _network(forward="return self.conv((x - 2).sqrt())"),
        ("NaN", "image 1 of", "forward of the network itself (Net)"),
    ),
    Case(
        "a network with noise",
        _network(forward="return self.conv(x) + torch.randn(())"),
        ("two runs", "forward of the network itself (Net)", "noise"),
    ),
    Case(
        "dropout that is always on",
        _network(forward="return self.conv(nn.functional.dropout(x, 0.5))"),
        ("two runs", "dropout"),
    ),
    Case(
        "a negative variance",
        _changed(_negative_variance),
        ("NaN or infinite", "BatchNorm2d", "running_var"),
    ),
    Case("weights out of all bounds", _changed(_enormous), ("NaN or infinite", "too large")),
]

_RECIPES = [
    Case("a recipe: a date of no calendar", recipe("bits: 2020-99-99"), ("line 1", "timestamp")),
    Case("a recipe: no time", recipe("bits: 2020-01-01T99:99:99Z"), ("line 1", "timestamp")),
    Case("a recipe: a tagged int", recipe("seed: 1\nbits: !!int abc"), ("line 2", "abc")),
    Case("a recipe: a tagged float", recipe("bits: !!float x"), ("line 1", "float")),
    Case("a recipe: a tagged bool", recipe("bits: !!bool x"), ("line 1", "bool")),
    Case("a recipe: a tagged timestamp", recipe("bits: !!timestamp x"), ("line 1", "timestamp")),
    Case("a recipe: 0x and no digits", recipe("bits: 0x_"), ("line 1", "0x_")),
    Case("a recipe: 0b and no digits", recipe("bits: 0b_"), ("line 1", "0b_")),
    Case("a recipe: 5000 digits", recipe(f"bits: {MANY}"), ("line 1", "int")),
    Case("a recipe: lists 5000 deep", recipe(_nested(5000, "[", "]")), ("line 1", "nested")),
    Case("a recipe: mappings 900 deep", recipe(_nested(900, "{a: ", "}")), ("line 1", "nested")),
    Case("a recipe: aliases of aliases", recipe(_laughs(9)), ("line 2", "alias")),
    Case("a recipe: a list of 30 MB", recipe(f"skip: [{'a, ' * 10**7}]"), ("too long", "64 KiB")),
    Case("a recipe: 2000 patterns", recipe(f"skip: [{'a, ' * 2000}]"), ("line 1", "2000")),
    Case("a recipe: a name of 50 kB", recipe(f"bitz: {'x' * 50_000}"), ("bitz", "unknown")),
    Case("a recipe: a field twice", recipe("bits: 4\nseed: 1\nbits: 8"), ("line 3", "twice")),
    Case("a recipe: bits out of range", recipe("seed: 1\nbits: 77"), ("line 2", "2 to 8")),
    Case(
        "a recipe: a layer's bits", recipe("layers:\n  a: {bits: 0}"), ("line 2", "layers.a.bits")
    ),
    Case("a recipe: an empty pattern", recipe("only:\n- ''"), ("line 2", "only.0")),
    Case("a recipe: a key that is no text", recipe("bits: 4\n3: 4"), ("line 2", "quotes")),
    Case("a recipe: no mapping", recipe("- bits\n- 4"), ("mapping",)),
    Case("a recipe: nothing", recipe(""), ("mapping",)),
]

LIMIT_CASES = [*_SIZES, *_LINES, *_PIPES, *_CODE, *_RECIPES]
