"""ONNX files of other tools: open sizes, several inputs, other types, names of any kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, TypeProto, ValueInfoProto, helper

from waveedge.cli import main
from waveedge.errors import InputError, WaveedgeError
from waveedge.runtime import Session, benchmark
from waveedge.runtime.memory import peak_memory

Make = Callable[..., Path]
Shape = Sequence[int | str | None]


def save(path: Path, inputs: Sequence[tuple[str, int, Shape]], *extra: ValueInfoProto) -> Path:
    """Write a model that returns its first input, whatever else it is given."""
    infos = [helper.make_tensor_value_info(*each) for each in inputs]
    output = helper.make_tensor_value_info("y", inputs[0][1], None)
    node = helper.make_node("Identity", [inputs[0][0]], ["y"])
    graph = helper.make_graph([node], "foreign", [*infos, *extra], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def dynamic(tmp_path: Path, make_chain: Make) -> Path:
    """Batch, height and width are free."""
    return make_chain(tmp_path / "dynamic.onnx", shape=("n", 3, "h", "w"))


@pytest.fixture
def two(tmp_path: Path, make_graph: Make) -> Path:
    """Two images, of which one is subtracted from the other."""
    nodes = [helper.make_node("Sub", ["left", "right"], ["difference"])]
    shape = ("n", 3, "h", "w")
    path: Path = make_graph(
        tmp_path / "two.onnx", nodes, shape, ["difference"], inputs=["left", "right"]
    )
    return path


def measured(path: Path, size: tuple[int, int] | None = None) -> tuple[int, ...]:
    result = benchmark(path, path, runs=1, warmup=0, memory=False, input_size=size)
    return result.input_shape


def test_an_open_height_and_width_take_the_size_that_is_given(dynamic: Path) -> None:
    assert measured(dynamic, (24, 40)) == (1, 3, 24, 40)
    with pytest.raises(InputError, match=r"input size open \('h', 'w'\)\n.*--input-size HxW"):
        measured(dynamic)


def test_the_command_line_takes_the_size(
    two: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(two.parent)
    bench = ["bench", "two.onnx", "--vs", "two.onnx", "--runs", "3", "--json", "--input-size"]
    with pytest.raises(SystemExit) as left:
        main([*bench, "24x40"])
    printed = capfd.readouterr()
    assert left.value.code == 0, printed.err
    result = json.loads(printed.out)
    assert result["input_shape"] == [1, 3, 24, 40]
    assert any("take 2 inputs" in note for note in result["notes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threads", "1000"], "threads is 1000; this machine has"),
        (["--runs", "100000000000", "--input-size", "8x8"], "Measure 1 to 100,000 runs"),
        (["--input-size", "20000x20000"], "too large"),
        (["--provider", "QuantumExecutionProvider"], "no provider 'QuantumExecutionProvider'"),
        ([], "--input-size HxW"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_measured(
    two: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(two.parent)
    with pytest.raises(SystemExit) as left:
        main(["bench", "two.onnx", "--vs", "two.onnx", *options])
    assert left.value.code in (1, 2)
    assert message in capsys.readouterr().err
    assert [file.name for file in two.parent.iterdir()] == ["two.onnx"]


def test_channels_may_come_last(tmp_path: Path) -> None:
    path = save(tmp_path / "last.onnx", [("x", TensorProto.FLOAT, (None, None, None, 3))])
    assert measured(path, (24, 40)) == (1, 24, 40, 3)


def test_a_size_that_the_network_fixes_may_only_be_repeated(chain: Path) -> None:
    assert measured(chain, (32, 32)) == (1, 3, 32, 32)
    with pytest.raises(InputError, match=r"takes \(1, 3, 32, 32\), not images of 32x48"):
        measured(chain, (32, 48))


def test_a_size_for_what_is_no_image(tmp_path: Path) -> None:
    path = save(tmp_path / "line.onnx", [("x", TensorProto.FLOAT, ("n", 7))])
    assert measured(path) == (1, 7)
    with pytest.raises(InputError, match="no image with height and width"):
        measured(path, (8, 8))


def test_open_channels_cannot_be_guessed(tmp_path: Path) -> None:
    path = save(tmp_path / "open.onnx", [("x", TensorProto.FLOAT, ("n", "c", "h", "w"))])
    with pytest.raises(InputError, match=r"open \('c'\)\nOnly batch, height and width"):
        measured(path, (8, 8))


@pytest.mark.parametrize("size", [(20000, 20000), (2**32, 2), (2, 10**30)])
def test_an_absurd_size_is_refused_before_anything_is_made(
    dynamic: Path, size: tuple[int, int]
) -> None:
    with pytest.raises(InputError, match=r"is too large to be measured\n.*--input-size"):
        measured(dynamic, size)


def test_several_inputs_are_given_in_their_order(two: Path) -> None:
    session = Session(two)
    assert [info.name for info in session.inputs] == ["left", "right"]
    left, right = np.full((2, 1, 3, 4, 4), 2, np.float32) ** np.array([[[[[3]]]], [[[[1]]]]], "f4")
    np.testing.assert_array_equal(session.run(left, right), left - right)
    with pytest.raises(InputError, match=r"takes 2 arrays \(left, right\), not 1"):
        session.run(left)
    with pytest.raises(InputError, match="the input right has dtype float64"):
        session.run(left, right.astype(float))


def test_several_inputs_are_measured_and_sizes_of_one_name_agree(two: Path) -> None:
    assert measured(two, (8, 16)) == (1, 3, 8, 16)
    left, right = Session(two).example_inputs(size=(8, 16), seed=1)
    assert left.shape == right.shape == (1, 3, 8, 16)
    assert not np.array_equal(left, right)
    peak = peak_memory(two, shape=(1, 3, 512, 512)).peak_bytes
    assert peak is None or peak == pytest.approx(3 * 512 * 512 * 4, rel=0.1)


def test_each_type_gets_values_that_any_network_can_take(tmp_path: Path) -> None:
    kinds = {
        "image": (TensorProto.FLOAT16, ("n", 3, "h", "w")),
        "mask": (TensorProto.BOOL, ("n", 1, "h", "w")),
        "labels": (TensorProto.INT64, ("n", 5)),
        "pixels": (TensorProto.UINT8, (None, 3, None, None)),
        "signed": (TensorProto.INT8, (64,)),
        "scale": (TensorProto.DOUBLE, ()),
    }
    path = save(tmp_path / "all.onnx", [(name, *kind) for name, kind in kinds.items()])
    session = Session(path)
    arrays = session.example_inputs(size=(16, 16))
    image, mask, labels, pixels, signed, scale = arrays
    assert [array.dtype for array in arrays] == [info.dtype for info in session.inputs]
    assert 0.8 < image.std() < 1.2
    assert (mask.shape, mask.any()) == ((1, 1, 16, 16), False)
    assert (labels.shape, labels.any()) == ((1, 5), False)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert signed.min() < -50
    assert signed.max() > 50
    assert scale.shape == ()
    np.testing.assert_array_equal(session.run(*arrays), image)
    assert measured(path, (16, 16)) == (1, 3, 16, 16)
    again, other = (session.example_inputs(size=(16, 16), seed=seed)[0] for seed in (0, 1))
    np.testing.assert_array_equal(again, image)
    assert not np.array_equal(other, image)


def test_a_further_input_with_a_size_of_its_own_is_named(tmp_path: Path) -> None:
    inputs = [
        ("x", TensorProto.FLOAT, (1, 3, 8, 8)),
        ("tokens", TensorProto.INT64, ("n", "length")),
    ]
    path = save(tmp_path / "tokens.onnx", inputs)
    with pytest.raises(InputError, match="leaves 'length' of its input tokens open"):
        measured(path)


def test_texts_and_sequences_are_refused(tmp_path: Path) -> None:
    image = ("x", TensorProto.FLOAT, (1, 3, 8, 8))
    path = save(tmp_path / "text.onnx", [image, ("words", TensorProto.STRING, (1,))])
    with pytest.raises(InputError, match=r"takes a tensor\(string\) as its input words"):
        Session(path)
    kind = TypeProto()
    kind.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    path = save(tmp_path / "seq.onnx", [image], helper.make_value_info("many", kind))
    with pytest.raises(InputError, match=r"takes a seq\(tensor\(float\)\) as its input many"):
        Session(path)


def test_a_model_without_inputs_is_refused(tmp_path: Path, make_graph: Make) -> None:
    nodes = [helper.make_node("Identity", ["w"], ["y"])]
    weights = {"w": np.ones(3, np.float32)}
    path = make_graph(tmp_path / "none.onnx", nodes, (1,), ["y"], weights=weights, inputs=[])
    with pytest.raises(WaveedgeError, match="has no inputs"):
        Session(path)


def test_networks_that_take_different_inputs(two: Path, dynamic: Path) -> None:
    with pytest.raises(InputError, match="take different inputs: float32"):
        benchmark(two, dynamic, runs=1, input_size=(8, 8))


@pytest.mark.parametrize("name", ["n" * 10**6, "a\x1b[31m\n", "$\\frac{$x", "ünï 🚗"])
def test_names_of_any_kind_are_cut_and_escaped(tmp_path: Path, name: str) -> None:
    inputs = [
        (name, TensorProto.FLOAT, (1, name, 4, 4)),
        (f"{name}2", TensorProto.FLOAT, (1, 3, 4, 4)),
    ]
    path = save(tmp_path / "named.onnx", inputs)
    attempts: list[Callable[[], object]] = [
        lambda: measured(path),
        lambda: Session(path).run(np.zeros(1, np.float32)),
        lambda: Session(path).run(np.zeros(1), np.zeros(1)),
    ]
    for attempt in attempts:
        with pytest.raises(InputError) as caught:
            attempt()
        assert len(str(caught.value)) < 500
        assert "\x1b" not in str(caught.value)
        assert "\n" not in caught.value.what


def test_too_little_memory_is_a_message_of_its_own(tmp_path: Path, make_graph: Make) -> None:
    """No machine has 16 PiB."""
    nodes = [helper.make_node("Expand", ["image", "shape"], ["map"])]
    nodes.append(helper.make_node("ReduceMax", ["map"], ["peak"]))
    weights = {"shape": np.array([2**26, 2**26])}
    path = make_graph(tmp_path / "vast.onnx", nodes, (1, 1), ["peak"], weights=weights)
    with pytest.raises(WaveedgeError, match="not enough memory to run the network on an input of"):
        measured(path)
