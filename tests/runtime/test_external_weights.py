"""Weights beside a model: known before onnxruntime reads them, hashed in a bundle, never missed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from waveedge.errors import ArtifactError
from waveedge.runtime import Session, benchmark, open_bundle
from waveedge.runtime.external import MESSAGES, external_files
from waveedge.runtime.manifest import seal

Fields = Callable[..., dict[str, Any]]


def move_weights(path: Path, location: str) -> None:
    """Save a model again with its weights in ``location``."""
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=location,
        size_threshold=0,
    )


def rename_weights(path: Path, location: str) -> None:
    """Make a model claim that its weights are in ``location``, whatever is there."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, location)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())


def test_the_fields_that_are_followed_are_all_under_which_tensors_lie() -> None:
    """Against the definition of ONNX itself."""

    def children(message: Any) -> dict[int, Any]:
        return {f.number: f.message_type for f in message.fields if f.message_type is not None}

    def holds_tensors(message: Any, above: tuple[str, ...] = ()) -> bool:
        return message.name == "TensorProto" or any(
            holds_tensors(child, (*above, message.name))
            for child in children(message).values()
            if child.name not in above
        )

    wanted: dict[str, dict[int, str]] = {}
    waiting = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        name = message.name.removesuffix("Proto")
        if name in wanted or name == "Tensor":
            continue
        found = {
            number: child for number, child in children(message).items() if holds_tensors(child)
        }
        wanted[name] = {number: child.name.removesuffix("Proto") for number, child in found.items()}
        waiting += found.values()
    assert wanted == MESSAGES


def test_a_model_in_one_file_reads_no_other(chain: Path) -> None:
    assert external_files(chain) == set()


def test_tensors_are_found_wherever_a_model_may_hold_them(tmp_path: Path) -> None:
    def outside(name: str) -> TensorProto:
        tensor = numpy_helper.from_array(np.ones(3, np.float32), name)
        onnx.external_data_helper.set_external_data(tensor, f"{name}.bin")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        return tensor

    sparse = helper.make_sparse_tensor(outside("values"), outside("indices"), [9])
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=outside("constant"))], "inner", [], []
    )
    middle = helper.make_graph([], "middle", [], [], [outside("branch")])
    node = helper.make_node("If", ["condition"], ["y"], then_branch=inner, else_branch=middle)
    node.attribute.append(helper.make_attribute("many", [outside("many")]))
    node.attribute.append(helper.make_attribute("graphs", [inner]))
    graph = helper.make_graph([node], "outer", [], [], [outside("weight")])
    graph.sparse_initializer.append(sparse)
    function = helper.make_function(
        "own",
        "F",
        [],
        ["c"],
        [helper.make_node("Constant", [], ["c"], value=outside("function"))],
        [],
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph, functions=[function]).SerializeToString())
    names = ("values", "indices", "constant", "branch", "many", "weight", "function")
    assert external_files(path) == {f"{name}.bin" for name in names}


def test_a_location_without_a_mark_is_not_read(chain: Path) -> None:
    model = onnx.load(chain)
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "old.bin"
    chain.write_bytes(model.SerializeToString())
    assert external_files(chain) == set()
    assert Session(chain).input_shape == (1, 3, 32, 32)


def test_a_bundle_with_weights_beside_its_model_is_whole_when_they_are_hashed(
    bundle: Path, make_fields: Fields
) -> None:
    image = np.ones((1, 3, 32, 32), np.float32)
    before = Session(bundle).run(image)
    move_weights(bundle / "model.onnx", "w.bin")
    manifest = bundle / "manifest.json"
    fields = make_fields(bundle)
    manifest.write_text(json.dumps(seal(fields)))
    np.testing.assert_array_equal(Session(bundle).run(image), before)

    weights = bytearray((bundle / "w.bin").read_bytes())
    weights[100] ^= 1
    (bundle / "w.bin").write_bytes(weights)
    with pytest.raises(ArtifactError, match=r"w\.bin is not the file that was exported"):
        Session(bundle)
    del fields["files"]["w.bin"]
    manifest.write_text(json.dumps(seal(fields)))
    with pytest.raises(ArtifactError, match=r"weights in w\.bin, which is not among the files"):
        open_bundle(bundle)


def test_a_baseline_with_weights_beside_it_is_held_to_the_same(
    bundle: Path, make_fields: Fields
) -> None:
    move_weights(bundle / "published.onnx", "w.bin")
    fields = make_fields(bundle)
    del fields["files"]["w.bin"]
    (bundle / "manifest.json").write_text(json.dumps(seal(fields)))
    with pytest.raises(ArtifactError, match=r"published\.onnx keeps weights in w\.bin"):
        open_bundle(bundle)


@pytest.mark.parametrize("location", ["/etc/hostname", "../w.bin", "a/../../w.bin", "", "."])
def test_weights_outside_the_folder_are_refused(chain: Path, location: str) -> None:
    rename_weights(chain, location)
    with pytest.raises(ArtifactError, match=r"chain\.onnx keeps weights in .*outside its folder"):
        Session(chain)


@pytest.mark.parametrize("location", ["w.bin", "*/_ORT_MEM_ADDR_/*", "a" * 300, "a\x1b[31m\n"])
def test_weights_that_are_missing_are_named(chain: Path, location: str) -> None:
    rename_weights(chain, location)
    with pytest.raises(ArtifactError, match=r"which is not beside it\nCopy it from") as caught:
        Session(chain)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in caught.value.what


def test_a_pipe_in_the_place_of_weights_is_not_opened(chain: Path) -> None:
    rename_weights(chain, "w.bin")
    os.mkfifo(chain.parent / "w.bin")
    with pytest.raises(ArtifactError, match="which is not beside it"):
        Session(chain)


def test_the_size_of_a_network_counts_the_weights_beside_it(chain: Path) -> None:
    inside = chain.stat().st_size
    move_weights(chain, "other name.bin")
    assert chain.stat().st_size < inside / 2
    comparison = benchmark(chain, chain, runs=1, warmup=0, memory=False)
    beside = (chain.parent / "other name.bin").stat().st_size
    assert comparison.a.file_bytes == chain.stat().st_size + beside
