"""Sessions: what they compute, what they refuse, and what they leave alone."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from waveedge.errors import ArtifactError, InputError, MissingDependencyError
from waveedge.runtime import Session

Make = Callable[..., Path]


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def test_output_is_onnxruntimes(chain: Path) -> None:
    x = image(1, 3, 32, 32)
    plain = onnxruntime.InferenceSession(str(chain), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(Session(chain)(x), plain.run(None, {"image": x})[0])


def test_a_session_says_what_it_takes(bundle: Path, chain: Path) -> None:
    session = Session(bundle)
    assert session.input_name == "image"
    assert session.input_shape == (1, 3, 32, 32)
    assert session.input_dtype == np.float32
    assert session.output_names == ("relu2",)
    assert session.manifest is not None
    assert session.manifest["name"] == "net"
    assert session.path == bundle / "model.onnx"
    assert session.backend == "onnxruntime (CPU)"
    assert session.load_seconds > 0
    assert Session(chain).manifest is None


def test_several_outputs_come_as_a_tuple(tmp_path: Path, make_graph: Make) -> None:
    nodes = [helper.make_node("Relu", ["image"], ["a"]), helper.make_node("Neg", ["image"], ["b"])]
    session = Session(make_graph(tmp_path / "two.onnx", nodes, (1, 3, 4, 4), ["a", "b"]))
    x = image(1, 3, 4, 4)
    a, b = session.run(x)
    np.testing.assert_array_equal(a, np.maximum(x, 0))
    np.testing.assert_array_equal(b, -x)


def test_a_free_batch_takes_any_batch(tmp_path: Path, make_chain: Make) -> None:
    session = Session(make_chain(tmp_path / "free.onnx", shape=("batch", 3, 16, 16)))
    assert session.input_shape == ("batch", 3, 16, 16)
    x = image(3, 3, 16, 16)
    whole = session(x)
    assert isinstance(whole, np.ndarray)
    for index in range(3):
        np.testing.assert_allclose(session(x[index : index + 1])[0], whole[index], rtol=1e-5)


def test_an_input_that_is_not_contiguous_is_read_rightly(chain: Path) -> None:
    session, x = Session(chain), image(1, 32, 32, 3)
    view = x.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(session(view), session(view.copy()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0, 2.0], "is a list"),
        (np.zeros((1, 3, 32, 32)), r"dtype float64; the network takes float32"),
        (np.zeros((1, 3, 32, 32), np.uint8), "'preprocessing'"),
        (image(3, 32, 32), r"x\[numpy.newaxis\]"),
        (image(32, 32), "of rank 2"),
        (image(1, 32, 32, 3), r"number of channels must be 3, not 32\n.*transpose\(0, 3, 1, 2\)"),
        (image(1, 4, 32, 32), "number of channels must be 3, not 4"),
        (image(1, 3, 30, 32), "height must be 32, not 30\n.*--input-size"),
        (image(1, 3, 32, 33), "width must be 32, not 33"),
        (image(2, 3, 32, 32), "batch must be 1, not 2\n.*--batch dynamic"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(chain: Path, given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Session(chain).run(given)  # type: ignore[arg-type]


def test_an_empty_batch_is_refused(tmp_path: Path, make_chain: Make) -> None:
    session = Session(make_chain(tmp_path / "free.onnx", shape=("batch", 3, 16, 16)))
    with pytest.raises(InputError, match="batch must be batch, not 0"):
        session.run(image(0, 3, 16, 16))


def test_a_size_that_the_graph_cannot_take_is_an_input_error(
    tmp_path: Path, make_graph: Make
) -> None:
    """A free size that fails inside the network is still the user's input."""
    add = [helper.make_node("Add", ["image", "bias"], ["sum"])]
    weights = {"bias": np.zeros((1, 3, 4, 4), np.float32)}
    path = make_graph(tmp_path / "a.onnx", add, (1, 3, "h", "w"), ["sum"], weights=weights)
    assert Session(path).run(image(1, 3, 4, 4)).shape == (1, 3, 4, 4)  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"cannot run on an input of shape \(1, 3, 5, 5\)"):
        Session(path).run(image(1, 3, 5, 5))


@pytest.mark.parametrize("content", [b"", b"not a model", "half"])
def test_a_damaged_model_is_an_artifact_error(chain: Path, content: bytes | str) -> None:
    whole = chain.read_bytes()
    chain.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    with pytest.raises(ArtifactError, match=r"cannot load .*chain\.onnx"):
        Session(chain)


def test_paths_and_options_that_make_no_sense(tmp_path: Path, chain: Path, bundle: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(InputError, match="no file or folder"):
        Session(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match="no file or folder"):
        Session(tmp_path / f"{'x' * 300}.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(InputError, match=r"pipe\.onnx is not a regular file"):
        Session(tmp_path / "pipe.onnx")
    with pytest.raises(InputError, match=r"notes\.txt is no model"):
        Session(text)
    for threads in (0, (os.cpu_count() or 1) + 1, 10**9):
        with pytest.raises(InputError, match=r"threads is .* this machine has .*\nUse 1"):
            Session(chain, threads=threads)
    with pytest.raises(InputError, match=r"no provider 'QuantumExecutionProvider'\nAvailable: "):
        Session(chain, provider="QuantumExecutionProvider")
    with pytest.raises(InputError, match="no TensorRT engine"):
        Session(chain, provider="engine")
    with pytest.raises(InputError, match="holds no TensorRT engine"):
        Session(bundle, provider="engine")


@pytest.mark.parametrize("name", ["CUDAExecutionProvider", "TensorrtExecutionProvider"])
def test_a_provider_of_a_gpu_is_asked_for_by_name_and_never_replaced_in_silence(
    chain: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime itself goes on on the CPU where such a provider's libraries do not load."""
    if name not in onnxruntime.get_available_providers():
        with pytest.raises(InputError, match=f"no provider '{name}'"):
            Session(chain, provider=name)
    asked: list[list[str]] = []

    class Falls(onnxruntime.InferenceSession):
        def __init__(self, model: object, options: object, *, providers: list[str]) -> None:
            asked.append(providers)
            super().__init__(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [name])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Falls)
    with pytest.raises(MissingDependencyError, match=f"has {name}, and cannot start it here"):
        Session(chain, provider=name)
    assert asked == [[name]]
    monkeypatch.setattr(Falls, "get_providers", lambda self: [name, "CPUExecutionProvider"])
    session = Session(chain, provider=name)
    assert session.on_gpu
    assert session.backend == f"onnxruntime ({name.removesuffix('ExecutionProvider')})"


def test_without_onnxruntime_the_message_says_how_to_get_it(
    chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match="pip install onnxruntime"):
        Session(chain)


@pytest.mark.parametrize("threads", range(1, 1 + min(2, os.cpu_count() or 1)))
def test_denormals_vanish_in_the_network_and_nowhere_else(
    tmp_path: Path, make_graph: Make, threads: int
) -> None:
    nodes = [helper.make_node("Mul", ["image", "small"], ["product"])]
    weights = {"small": np.array(1e-10, np.float32)}
    path = make_graph(tmp_path / "mul.onnx", nodes, (1, 8), ["product"], weights=weights)
    x = np.full((1, 8), 1e-30, np.float32)
    denormal = x * np.float32(1e-10)
    assert denormal.max() > 0, "this test needs a processor that keeps denormals"
    outputs = Session(path, threads=threads).run(x)
    if platform.machine() == "x86_64":
        np.testing.assert_array_equal(outputs, np.zeros((1, 8), np.float32))
    # The process's first session would leave the flags set, were they not restored.
    np.testing.assert_array_equal(x * np.float32(1e-10), denormal)
