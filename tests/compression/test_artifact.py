"""Artifacts: back to the bit, small, whole or absent, and never a way to run code."""

from __future__ import annotations

import copy
import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import waveedge
from waveedge.artifact import load_artifact, newest_artifact, save_artifact
from waveedge.calibration import open_images
from waveedge.compression.compress import Compressed, compress
from waveedge.cost import profile
from waveedge.description import inspect
from waveedge.errors import OutputError
from waveedge.serialize.tensors import pack, unpack

GOLDEN = Path(__file__).parent.parent / "data" / "golden"


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return waveedge.load(GOLDEN / "wavemix_sisr_l1.pth")


@pytest.fixture(scope="module")
def compressed(model: torch.nn.Module) -> Compressed:
    images = open_images(None, spec=model.spec, size=(32, 32), limit=2, held_out=1)
    recipe = {"bits": 4, "weight_bits": 4, "wcc_ratio": 0.5, "wcc_levels": 2, "wcc_select": "topk"}
    recipe["tune"] = 2
    return compress(model, images=images, **recipe)


@pytest.fixture
def path(compressed: Compressed, tmp_path: Path) -> Path:
    save_artifact(compressed, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_an_artifact_loads_back_to_the_bit(compressed: Compressed, path: Path) -> None:
    loaded = load_artifact(path)
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(x), compressed(x))
    assert loaded.recipe == compressed.recipe
    assert loaded.decisions == compressed.decisions
    assert loaded.report == compressed.report


def test_load_gives_the_network_of_an_artifact(compressed: Compressed, path: Path) -> None:
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(waveedge.load(path)(x), compressed(x))


def test_saving_twice_writes_the_same_bytes(compressed: Compressed, path: Path) -> None:
    before = path.read_bytes()
    save_artifact(load_artifact(path), path)
    assert path.read_bytes() == before


def test_weights_are_stored_as_integers(path: Path, model: torch.nn.Module) -> None:
    state = load_file(path)
    assert state["conv.0.weight"].dtype == torch.int8  # the first layer keeps 8 bits
    four_bits = state["layers.0.reduction.weight"]
    assert four_bits.dtype == torch.uint8
    assert four_bits.numel() == model.get_parameter("layers.0.reduction.weight").numel() // 2


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_packing_loses_nothing(count: int) -> None:
    values = torch.from_numpy(np.random.default_rng(count).integers(-8, 8, count)).to(torch.int8)
    packed = pack(values)
    assert packed.numel() == (count + 1) // 2
    assert torch.equal(unpack(packed, values.shape), values)


@pytest.mark.parametrize(
    "fields", [{"bits": 32, "wcc_ratio": 0.5, "wcc_select": "topk"}, {"bits": 8}, {"bits": 32}]
)
def test_each_kind_of_compression_alone(
    model: torch.nn.Module, tmp_path: Path, fields: dict[str, Any]
) -> None:
    images = open_images(None, spec=model.spec, size=(32, 32), limit=2, held_out=1)
    result = compress(model, images=images, wcc_levels=2, **fields)
    save_artifact(result, tmp_path / "a.safetensors")
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(load_artifact(tmp_path / "a.safetensors")(x), result(x))
    with torch.no_grad():
        error = (result(x) - model(x)).abs().max() / model(x).abs().max()
    if fields == {"bits": 32}:  # nothing is left but the exact rewrites
        assert float(error) < 1e-5
        assert result.report.quality.snr_db > 100
    else:
        assert float(error) > 1e-5


def test_an_own_network_loads_without_its_code(
    own_compressed: Compressed, own_artifact: Path
) -> None:
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_artifact(own_artifact)(x), own_compressed(x))


def test_loading_draws_no_random_numbers(path: Path) -> None:
    before = torch.get_rng_state()
    load_artifact(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_loaded_graph_is_the_saved_one(compressed: Compressed, path: Path) -> None:
    saved, loaded = compressed.graph, load_artifact(path).graph
    assert [node.format_node() for node in loaded.graph.nodes if node.op != "placeholder"] == [
        node.format_node() for node in saved.graph.nodes if node.op != "placeholder"
    ]
    assert loaded.spec == saved.spec
    assert loaded.applied == saved.applied
    assert copy.deepcopy(loaded).spec == saved.spec
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    kinds = [{n: type(m) for n, m in g.named_modules() if n} for g in (loaded, saved)]
    assert kinds[0] == kinds[1]
    quantizers = [
        {
            n: (m.bits, m.zero_point, m.pixel_step)
            for n, m in g.named_modules()
            if hasattr(m, "pixel_step")
        }
        for g in (loaded, saved)
    ]
    assert quantizers[0] == quantizers[1] != {}


def test_what_training_changes_is_told_apart(own_network: torch.nn.Module, tmp_path: Path) -> None:
    network = copy.deepcopy(own_network)
    network.head.requires_grad_(False)
    images = open_images(None, spec=network.spec, size=(16, 16), limit=2, held_out=1)
    result = compress(network, images=images, bits=32)
    save_artifact(result, tmp_path / "a.safetensors")
    loaded = load_artifact(tmp_path / "a.safetensors")
    trained = [
        {name for name, tensor in one.graph.named_parameters() if tensor.requires_grad}
        for one in (loaded, result)
    ]
    assert trained[0] == trained[1]
    assert profile(loaded.graph, (16, 16)) == profile(result.graph, (16, 16))


def test_inspect_takes_the_size_that_the_artifact_was_made_at(
    path: Path, own_artifact: Path
) -> None:
    for artifact, side in ((path, 32), (own_artifact, 16)):  # the other one needs no --arch
        facts = inspect(waveedge.load(artifact), None)
        assert facts["input"] == [1, 3, side, side]
        assert facts["multiply_adds"] > 0


def test_a_source_of_any_name(compressed: Compressed, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff my model:car:\n.pt")
    path = tmp_path / os.fsdecode(b"\xfe.safetensors")
    save_artifact(dataclasses.replace(compressed, source_name=name, original=None), path)
    assert load_artifact(path).source_name == name


def test_a_full_disk_leaves_the_old_artifact(
    compressed: Compressed, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="no space left"):
        save_artifact(compressed, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_newest_artifact_is_found_among_other_files(path: Path) -> None:
    save_file({"a": torch.zeros(1)}, path.parent / "plain.safetensors")
    (path.parent / "broken.safetensors").write_bytes(b"{")
    older = path.parent / "older.safetensors"
    older.write_bytes(path.read_bytes())
    os.utime(older, ns=(0, 0))
    with pytest.warns(UserWarning, match=r"broken\.safetensors is passed over"):
        assert newest_artifact(path.parent) == path
    assert newest_artifact(Path(path.parent / "nowhere")) is None
