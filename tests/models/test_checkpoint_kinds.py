"""Checkpoints as training scripts, profilers and hubs leave them: each loads, or is explained."""

from __future__ import annotations

import collections
import datetime
import functools
import json
import pathlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from waveedge.checkpoint import load
from waveedge.errors import CheckpointError

from .test_load_checkpoint import prefixed, same

State = dict[str, Tensor]


def other(state: State) -> State:
    """Weights of the same shapes, which must not be the ones that load."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


ONE = torch.ones(3)

BESIDE: dict[str, tuple[Callable[[State], Any], str]] = {
    "a loss": (
        lambda s: {"state_dict": {**prefixed("model.")(s), "criterion.weight": ONE}},
        "the weights under model were taken; beside them, criterion left out",
    ),
    "half a teacher": (
        lambda s: {"state_dict": {**prefixed("net.")(s), "teacher.conv.0.bias": ONE}},
        "the weights under net were taken; beside them, teacher left out",
    ),
    "a whole teacher": (
        lambda s: {**prefixed("teacher.")(other(s)), **prefixed("model.")(s)},
        "--key chooses another that fits (model, teacher)",
    ),
    "a compiled part": (
        lambda s: {**prefixed("model._orig_mod.")(s), "loss.weight": ONE},
        "the weights under model were taken",
    ),
    "a module in a module": (
        lambda s: {**prefixed("task.network.")(s), "loss.weight": ONE},
        "the weights under task were taken",
    ),
    "several dictionaries": (
        lambda s: {"model": s, "teacher": other(s), "optimizer": {"a": s}},
        "model was taken, --key chooses another (teacher)",
    ),
    "a profiler": (
        lambda s: {**s, "total_ops": ONE, "conv.total_params": ONE},
        "2 counters of a profiler (total_ops, total_params) ignored",
    ),
    "half precision": (
        lambda s: {name: t.bfloat16() if t.is_floating_point() else t for name, t in s.items()},
        "its weights in bfloat16 were converted to float32",
    ),
}


@pytest.mark.parametrize("case", BESIDE)
def test_the_network_is_found_beside_others_and_the_choice_is_told(
    tmp_path: Path, small: nn.Module, case: str
) -> None:
    form, note = BESIDE[case]
    small.load_state_dict(
        {n: t.bfloat16().to(t.dtype) for n, t in small.state_dict().items()}, strict=True
    )
    torch.save(form(small.state_dict()), tmp_path / "last.ckpt")
    model = load(tmp_path / "last.ckpt")
    assert same(model, small)
    assert len(model.notes) == 1
    assert model.notes[0].startswith("last.ckpt: ")
    assert note in model.notes[0]


def test_a_plain_checkpoint_has_nothing_to_tell(tmp_path: Path, small: nn.Module) -> None:
    torch.save(small.state_dict(), tmp_path / "model.pt")
    assert load(tmp_path / "model.pt").notes == ()


@pytest.mark.parametrize("key", ["netD", "nets.0.student", "state.dict", "lit.teacher"])
def test_a_key_chooses(tmp_path: Path, small: nn.Module, key: str) -> None:
    state, zeros = small.state_dict(), other(small.state_dict())
    content = {
        "netG": zeros,
        "netD": zeros,
        "nets.0": {"student": zeros, "teacher": zeros},
        "state.dict": zeros,
        "lit": {**prefixed("teacher.")(zeros), **prefixed("student.")(zeros)},
    }
    here: Any = content
    *steps, last = {"nets.0.student": ["nets.0", "student"], "state.dict": ["state.dict"]}.get(
        key, key.split(".")
    )
    for step in steps:
        here = here[step]
    if key == "lit.teacher":
        here.update(prefixed("teacher.")(state))
    else:
        here[last] = state
    torch.save(content, tmp_path / "model.pt")
    model = load(tmp_path / "model.pt", key=key)
    assert same(model, small)
    assert model.source_key == key


def test_a_key_of_nothing_is_explained(tmp_path: Path, small: nn.Module) -> None:
    torch.save({"netG": small.state_dict(), "netD": small.state_dict()}, tmp_path / "gan.pt")
    with pytest.raises(CheckpointError, match="nothing under --key netE") as caught:
        load(tmp_path / "gan.pt", key="netE")
    assert "netG, netD" in caught.value.hint
    with pytest.raises(CheckpointError, match="several state dicts: netG, netD") as caught:
        load(tmp_path / "gan.pt")
    assert "--key netG" in caught.value.hint


def test_parts_that_fit_alike_are_not_guessed_between(tmp_path: Path, small: nn.Module) -> None:
    state = small.state_dict()
    torch.save({**prefixed("a.")(state), **prefixed("b.")(state)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="several parts of it fit: a, b"):
        load(tmp_path / "model.pt")


def test_half_of_a_network_is_not_taken_for_it(tmp_path: Path, small: nn.Module) -> None:
    state = {**prefixed("backbone.")(small.state_dict()), "decoder.weight": ONE}
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="not a network that waveedge knows"):
        load(tmp_path / "model.pt")
    assert same(load(tmp_path / "model.pt", key="backbone"), small)


def test_counts_of_training_batches_may_be_missing(tmp_path: Path, small: nn.Module) -> None:
    state = {n: t for n, t in small.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert len(state) < len(small.state_dict())
    torch.save(state, tmp_path / "model.pt")
    assert same(load(tmp_path / "model.pt"), small)


class Point(NamedTuple):
    """A tuple of a class that the reader does not know."""

    x: int
    y: int


class Recorder(dict[str, Any]):
    """A dictionary of a class that the reader does not know."""


def objects() -> dict[str, Any]:
    return {
        "path": pathlib.PurePosixPath("runs/1"),
        "took": datetime.timedelta(1),
        "best": np.float32(0.3),
        "curve": np.arange(3),
        "history": collections.defaultdict(list, {"a": [1, 2]}),
        "factory": functools.partial(int, base=2),
        "pattern": re.compile("a+"),
        "kinds": {1, 2, frozenset({"a"})},
        "log": Recorder(a=1),
        "point": Point(1, 2),
        "number": 1 << 200,
        "bytes": bytearray(b"abc"),
        "module": nn.Dropout(0.5),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("new", [True, False])
def test_objects_beside_the_weights_are_no_obstacle(
    tmp_path: Path, small: nn.Module, protocol: int, new: bool
) -> None:
    content = {"hyper_parameters": objects(), **objects(), "state_dict": small.state_dict()}
    torch.save(
        content,
        tmp_path / "model.ckpt",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=new,
    )
    assert same(load(tmp_path / "model.ckpt"), small)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("form", [lambda m: m, lambda m: {"model": m, "epoch": 3}])
def test_the_weights_of_a_pickled_module_are_read_without_its_code(
    tmp_path: Path,
    small: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    new: bool,
    form: Callable[[nn.Module], Any],
) -> None:
    small.register_buffer("temporary", torch.ones(1), persistent=False)
    torch.save(form(small), tmp_path / "model.pt", _use_new_zipfile_serialization=new)
    monkeypatch.setattr(type(small), "__setstate__", lambda *_: pytest.fail("its code ran"))
    model = load(tmp_path / "model.pt")
    del small.temporary
    assert same(model, small)
    assert re.search(r"a pickled waveedge.*WaveMix: its weights alone were read", model.notes[0])


@pytest.fixture
def conv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the ``arch`` of a 1x1 convolution of 2 channels, and work in its folder."""
    name = f"conv_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Conv2d(2, 2, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    return f"{name}:make"


def test_parameters_and_views_keep_their_values(conv: str) -> None:
    whole = torch.arange(20.0)
    state = {
        "weight": nn.Parameter(whole[3:19:4].reshape(2, 2, 1, 1).transpose(0, 1)),
        "bias": whole[1:3],
    }
    for new in (True, False):
        torch.save(state, "model.pt", _use_new_zipfile_serialization=new)
        model = load("model.pt", arch=conv)
        assert torch.equal(model.weight, state["weight"])
        assert torch.equal(model.bias, state["bias"])


def write_shards(folder: Path, state: State, kind: str = "safetensors") -> Path:
    folder.mkdir()
    names = list(state)
    places = {}
    for number, part in enumerate((names[:3], names[3:]), 1):
        file = f"model-{number:05}-of-00002.{kind}"
        tensors = {name: state[name].clone() for name in part}
        save_file(tensors, folder / file) if kind == "safetensors" else torch.save(
            tensors, folder / file
        )
        places.update(dict.fromkeys(part, file))
    index = folder / f"model.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


def test_a_checkpoint_in_several_files_loads_by_its_folder_or_index(
    tmp_path: Path, small: nn.Module
) -> None:
    index = write_shards(tmp_path / "hub", small.state_dict())
    by_folder, by_index = load(tmp_path / "hub"), load(index)
    assert same(by_folder, small)
    assert same(by_index, small)
    assert by_folder.source_sha256 == by_index.source_sha256
    assert same(load(write_shards(tmp_path / "bin", small.state_dict(), "bin")), small)


def test_a_part_of_a_checkpoint_says_how_to_load_the_whole(
    tmp_path: Path, small: nn.Module
) -> None:
    index = write_shards(tmp_path / "hub", small.state_dict())
    part = index.with_name("model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="is part 2 of 2 of a checkpoint") as caught:
        load(part)
    assert str(index) in caught.value.hint
    index.unlink()
    with pytest.raises(CheckpointError, match="is part 2 of 2") as caught:
        load(part)
    assert "Copy the other parts" in caught.value.hint


BAD_INDEXES = {
    "elsewhere": ('{"weight_map": {"a": "../model.safetensors"}}', "outside its folder"),
    "absolute": ('{"weight_map": {"a": "/etc/passwd"}}', "outside its folder"),
    "backwards": ('{"weight_map": {"a": "..\\\\model.pt"}}', "outside its folder"),
    "itself": ('{"weight_map": {"a": "model.safetensors.index.json"}}', "neither torch nor"),
    "missing": ('{"weight_map": {"a": "b.safetensors"}}', "b.safetensors does not exist"),
    "not there": ('{"weight_map": {"a": "part.safetensors"}}', "holds a, which it does not"),
    "empty": ('{"weight_map": {}}', "names no weights"),
    "list": ('{"weight_map": ["a"]}', "not the index"),
    "no map": ("{}", "not the index"),
    "text": ("hello", "not the index"),
    "deep": ("[" * 100_000, "not the index"),
    "null": ('{"weight_map": {"a": "b\\u0000"}}', "cannot be read"),
}


@pytest.mark.parametrize("case", BAD_INDEXES)
def test_a_bad_index_is_explained(tmp_path: Path, case: str) -> None:
    text, message = BAD_INDEXES[case]
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    save_file({"b": ONE}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match=message) as caught:
        load(tmp_path)
    assert caught.value.hint


def torchscript(model: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 2, 4, 4)), path)


def exported(model: nn.Module, path: Path) -> None:
    torch.export.save(torch.export.export(model, (torch.zeros(1, 2, 4, 4),)), path)


def onnx(model: nn.Module, path: Path) -> None:
    example = (torch.zeros(1, 2, 4, 4),)
    torch.onnx.export(model, example, path, dynamo=False, do_constant_folding=False)


@pytest.mark.parametrize(
    ("write", "what", "written"),
    [
        (torchscript, "TorchScript", "weights.pt"),
        (exported, r"program of torch\.export", "weights.pt"),
        (onnx, "an ONNX model", "weights.pt"),
    ],
)
def test_the_line_in_the_hint_gives_the_weights(
    conv: str,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[nn.Module, Path], None],
    what: str,
    written: str,
) -> None:
    model = nn.Conv2d(2, 2, 1)
    write(model, Path("program"))
    with pytest.raises(CheckpointError, match=what) as caught:
        load("program", arch=conv)
    line = re.search(r'python -c "(.*)"$', caught.value.hint)
    assert line is not None
    exec(line[1], {})
    assert same(load(written, arch=conv), model)
