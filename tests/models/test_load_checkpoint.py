from __future__ import annotations

import argparse
import collections
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from waveedge.checkpoint import load, save_checkpoint
from waveedge.errors import CheckpointError, InputError, OutputError, RecipeError
from waveedge.files import sha256
from waveedge.models import spec_of

State = dict[str, Tensor]


def same(left: nn.Module, right: nn.Module) -> bool:
    a, b = left.state_dict(), right.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def prefixed(prefix: str) -> Callable[[State], Any]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


SHAPES_OF_A_CHECKPOINT: dict[str, tuple[Callable[[State], Any], str]] = {
    "plain": (lambda s: s, ""),
    "state_dict": (lambda s: {"epoch": 3, "state_dict": s, "optimizer": {"a": s}}, "state_dict"),
    "model": (lambda s: {"model": s, "args": argparse.Namespace(lr=0.1)}, "model"),
    "model_state_dict": (lambda s: {"model_state_dict": s, "loss": 0.5}, "model_state_dict"),
    "ema": (lambda s: {"ema": s, "best": np.float64(0.9)}, "ema"),
    "ema first": (
        lambda s: {"state_dict": prefixed("other.")(s), "state_dict_ema": s},
        "state_dict_ema",
    ),
    "two deep": (lambda s: {"state": {"model": s}}, "state.model"),
    "unusual key": (lambda s: {"generator": s, "step": torch.tensor(1).item()}, "generator"),
    "module.": (prefixed("module."), ""),
    "_orig_mod.": (prefixed("_orig_mod."), ""),
    "module._orig_mod.": (prefixed("module._orig_mod."), ""),
    "compiled blocks": (
        lambda s: {k.replace("layers.0.", "layers.0._orig_mod."): v for k, v in s.items()},
        "",
    ),
    "Lightning": (lambda s: {"state_dict": prefixed("model.")(s)}, "state_dict"),
    "averaged": (lambda s: {"n_averaged": torch.tensor(5), **prefixed("module.")(s)}, ""),
    "scalars between": (lambda s: {**s, "epoch": 3, "version": "2"}, ""),
    "ordered": (lambda s: collections.OrderedDict(s), ""),
    "default": (lambda s: {"state_dict": collections.defaultdict(list, s)}, "state_dict"),
    "random state": (lambda s: {"generator": s, "rng": torch.get_rng_state()}, "generator"),
}


@pytest.mark.parametrize("case", SHAPES_OF_A_CHECKPOINT)
def test_every_usual_form_of_a_checkpoint_loads(
    tmp_path: Path, small: nn.Module, case: str
) -> None:
    form, key = SHAPES_OF_A_CHECKPOINT[case]
    path = tmp_path / "model.pt"
    torch.save(form(small.state_dict()), path)
    model = load(path)
    assert same(model, small)
    assert spec_of(model).config == {**spec_of(small).config}
    assert (model.source_key, model.source_name) == (key, "model.pt")
    assert model.source_sha256 == sha256(path)
    assert not model.training


def test_older_torch_format_loads(tmp_path: Path, small: nn.Module) -> None:
    path = tmp_path / "model.pth"
    torch.save(small.state_dict(), path, _use_new_zipfile_serialization=False)
    assert same(load(path), small)


def test_content_counts_not_the_ending(tmp_path: Path, small: nn.Module) -> None:
    save_file(small.state_dict(), tmp_path / "model.pt")
    torch.save(small.state_dict(), tmp_path / "model.safetensors")
    assert same(load(tmp_path / "model.pt"), load(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(
    tmp_path: Path, small: nn.Module, dtype: torch.dtype
) -> None:
    expected = {
        name: t.to(dtype).float() if t.is_floating_point() else t
        for name, t in small.state_dict().items()
    }
    torch.save(small.to(dtype).state_dict(), tmp_path / "model.pt")
    model = load(tmp_path / "model.pt")
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == (torch.int64 if name.endswith("tracked") else torch.float32)
        assert torch.equal(tensor, expected[name])


def test_loading_leaves_the_random_state_and_the_file_alone(
    tmp_path: Path, small: nn.Module
) -> None:
    path = tmp_path / "model.pt"
    torch.save(small.state_dict(), path)
    before, content = torch.random.get_rng_state(), path.read_bytes()
    load(path)
    assert torch.equal(before, torch.random.get_rng_state())
    assert path.read_bytes() == content


def test_save_checkpoint_describes_itself(tmp_path: Path, small: nn.Module) -> None:
    torch.save(small.state_dict(), tmp_path / "model.pt")
    chosen = {"dropout": "0.25", "mean": "0.5", "range": "-1,1", "input_size": "64x96"}
    model = load(tmp_path / "model.pt", settings=chosen)
    save_checkpoint(model, tmp_path / "a.safetensors")
    save_checkpoint(model, tmp_path / "b.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert same(again, model)
    assert spec_of(again) == spec_of(model)
    assert spec_of(again).config["dropout"] == 0.25
    assert spec_of(again).input_size == (64, 96)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_saving_into_a_missing_folder_is_explained(tmp_path: Path, small: nn.Module) -> None:
    with pytest.raises(OutputError, match="folder does not exist"):
        save_checkpoint(small, tmp_path / "nowhere" / "model.safetensors")


def test_saving_needs_a_specification(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no specification"):
        save_checkpoint(nn.Conv2d(1, 1, 1), tmp_path / "model.safetensors")


def without(name: str) -> Callable[[State], Any]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def replaced(name: str, value: Callable[[Tensor], Any]) -> Callable[[State], Any]:
    return lambda state: {**state, name: value(state[name])}


def spoiled(value: float, count: int) -> Callable[[Tensor], Tensor]:
    def spoil(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[:count] = value
        return tensor

    return spoil


KEY = "layers.0.feedforward.0.weight"

BAD_STATES: dict[str, tuple[Callable[[State], Any], str]] = {
    "missing": (without(KEY), rf"nearest to WaveMix .*1 key is missing: {KEY}\n"),
    "extra": (lambda s: {**s, "extra.weight": torch.ones(1)}, r"1 key is extra: extra\.weight\n"),
    "misshaped": (
        replaced(KEY, lambda t: t[:, :8]),
        rf"{KEY} \(expected 32x16x1x1, found 32x8x1x1\)\n",
    ),
    "NaN": (replaced(KEY, spoiled(float("nan"), 3)), rf"{KEY} has 3 NaN values of 512\n"),
    "Inf": (replaced(KEY, spoiled(float("inf"), 1)), rf"{KEY} has 1 infinite value of 512\n"),
    "too large for float32": (
        replaced(KEY, lambda t: t.double() * 1e300),
        rf"{KEY} has \d+ infinite values",
    ),
    "integers": (replaced(KEY, lambda t: t.to(torch.int8)), "holds int8 numbers, not weights"),
    "complex": (replaced(KEY, lambda t: t.to(torch.complex64)), f"{KEY} is complex"),
    "sparse": (replaced("conv.0.bias", lambda t: t.to_sparse()), "conv.0.bias is a sparse tensor"),
    "meta": (replaced("conv.0.bias", lambda t: t.to("meta")), "no data"),
    "twice": (
        lambda s: {**s, f"module.{KEY}": s[KEY]},
        rf"two of its keys name the same weight: module\.{KEY}",
    ),
    "several": (
        lambda s: {"generator": s, "discriminator": s},
        "several state dicts: generator, discriminator",
    ),
    "expanded": (
        replaced(KEY, lambda t: torch.zeros(1).expand(10**6, 10**6)),
        rf"would take 4e\+12 bytes, the file has \d+: {KEY} was expanded",
    ),
    "empty": (lambda s: {}, "empty state dict"),
    "no weights": (lambda s: {"epoch": 1, "name": "x"}, r"no weights \(only epoch, name\)"),
    "list": (lambda s: list(s.values()), "holds a list"),
    "tensor": (lambda s: s[KEY], "holds a tensor"),
    "unknown network": (lambda s: nn.Conv2d(3, 4, 3).state_dict(), "not a network that waveedge"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_bad_state_dict_is_explained(tmp_path: Path, small: nn.Module, case: str) -> None:
    form, message = BAD_STATES[case]
    path = tmp_path / "model.pt"
    torch.save(form(small.state_dict()), path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path)
    assert caught.value.what.startswith(f"{path}: ")
    assert caught.value.hint


def test_a_damaged_description_is_explained(tmp_path: Path, small: nn.Module) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(small, path)
    spec = spec_of(small).model_copy(update={"config": {"depth": 2}})
    save_file(small.state_dict(), path, metadata={"waveedge.spec": spec.model_dump_json()})
    with pytest.raises(CheckpointError, match=r"configuration .* makes no sense: dim"):
        load(path)
    for change in ({"depth": 3}, {"depth": 10**6}, {"num_classes": 10**9}):
        config = {**spec_of(small).config, **change}
        spec = spec_of(small).model_copy(update={"config": config})
        save_file(small.state_dict(), path, metadata={"waveedge.spec": spec.model_dump_json()})
        with pytest.raises(CheckpointError, match=r"description .* does not fit its weights"):
            load(path)
    save_file(small.state_dict(), path, metadata={"waveedge.spec": json.dumps({"family": 3})})
    with pytest.raises(CheckpointError, match=r"description \(waveedge\.spec\) makes no sense"):
        load(path)
    save_file(small.state_dict(), path, metadata={"waveedge.spec": json.dumps({"family": "x"})})
    with pytest.raises(CheckpointError, match=r"family x, .* not know\n.*wavemix, .*wtconvnext"):
        load(path)


NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = nn.Conv2d(4, 6, 1)

    def forward(self, x):
        return self.module(x)

def make():
    return Net()

def broken():
    raise ValueError("no weights today")

def needs(size):
    return Net()

NUMBER = 3

def number():
    return NUMBER
"""


@pytest.fixture
def own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_network_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Conv2d(4, 6, 1).state_dict(), "conv.pt")
    state = nn.Conv2d(4, 6, 1).state_dict()
    torch.save({f"module.{key}": value for key, value in state.items()}, "own.pt")
    return name


def test_a_network_of_the_users_own(own_network: str) -> None:
    model = load("own.pt", arch=f"{own_network}:make", settings={"task": "restoration"})
    spec = spec_of(model)
    assert (spec.family, spec.arch, spec.channels) == ("custom", f"{own_network}:make", 4)
    assert spec.task == "restoration"
    assert torch.equal(model.module.weight, torch.load("own.pt")["module.weight"])
    save_checkpoint(model, "own.safetensors")
    # What a file names is not run unless the user names it too.
    with pytest.raises(CheckpointError, match="network of your own") as caught:
        load("own.safetensors")
    assert f"--arch {own_network}:make" in caught.value.hint
    assert spec_of(load("own.safetensors", arch=f"{own_network}:make")) == spec


def test_the_channels_of_a_network_of_ones_own_can_be_set(own_network: str) -> None:
    chosen = {"mean": "0,0,0,0,1", "channels": "5"}
    assert spec_of(load("own.pt", arch=f"{own_network}:make", settings=chosen)).channels == 5
    for value in ("0", "-1", "three", "1" * 5000):
        with pytest.raises(RecipeError, match="not a number of channels"):
            load("own.pt", arch=f"{own_network}:make", settings={"channels": value})


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("{}", "not of the form"),
        ("{}:", "not of the form"),
        ("no_such_module:make", "importing no_such_module failed: ModuleNotFoundError"),
        ("{}:mke", "has no function mke"),
        ("{}:NUMBER", "has no function NUMBER"),
        ("{}:broken", r"broken\(\) failed: ValueError: no weights today"),
        ("{}:needs", r"needs\(\) failed: TypeError"),
        ("{}:number", r"number\(\) returned a int"),
    ],
)
def test_a_wrong_arch_is_explained(own_network: str, arch: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("own.pt", arch=arch.format(own_network))


def test_a_checkpoint_of_another_network_is_explained(own_network: str, small: nn.Module) -> None:
    torch.save(small.state_dict(), "other.pt")
    with pytest.raises(CheckpointError, match=rf"does not fit {own_network}:make: 2 keys are miss"):
        load("other.pt", arch=f"{own_network}:make")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strid": "2"}, "there is no setting strid"),
        ({"channels": "4"}, "there is no setting channels"),
        ({"depth": "3"}, "the checkpoint tells that depth is 2"),
        ({"stride": "two"}, "stride=two"),
        ({"stride": "0"}, "stride=0"),
        ({"dropout": "1.5"}, "dropout=1.5"),
        ({"mean": "a,b,c"}, "not a list of numbers"),
        ({"mean": "0.1,0.2"}, "has 2 values, the network has 3 input channels"),
        ({"mean": "nan"}, "not finite"),
        ({"std": "0"}, "std must be positive"),
        ({"range": "1,0"}, "lowest and a highest"),
        ({"task": "detection"}, "no such task"),
        ({"input_size": "big"}, "not a height and a width"),
    ],
)
def test_a_wrong_setting_is_explained(
    tmp_path: Path, small: nn.Module, settings: dict[str, str], message: str
) -> None:
    torch.save(small.state_dict(), tmp_path / "model.pt")
    with pytest.raises(RecipeError, match=message) as caught:
        load(tmp_path / "model.pt", settings=settings)
    assert caught.value.hint


def test_settings_change_the_network_and_leave_the_list_of_assumed(
    tmp_path: Path, small: nn.Module
) -> None:
    torch.save(small.state_dict(), tmp_path / "model.pt")
    assert spec_of(load(tmp_path / "model.pt")).assumed == ("dropout", "stride")
    model = load(tmp_path / "model.pt", settings={"stride": "2", "std": "0.5"})
    spec = spec_of(model)
    assert spec.assumed == ("dropout",)
    assert (spec.size_multiple, spec.preprocessing.std) == (8, (0.5,))
    assert model(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 8, 8)


def test_an_input_size_between_the_multiples_is_refused(tmp_path: Path, small: nn.Module) -> None:
    torch.save(small.state_dict(), tmp_path / "model.pt")
    with pytest.raises(InputError, match="2 divides"):
        load(tmp_path / "model.pt", settings={"input_size": "63x64"})
