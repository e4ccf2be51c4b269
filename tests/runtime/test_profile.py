"""The batch that an engine is tuned for, where it is free: asked for, recorded, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from waveedge.cli import main
from waveedge.errors import InputError
from waveedge.runtime.bundle import Bundle, open_bundle
from waveedge.runtime.engine_builder import Build, Settings, profile_shapes
from waveedge.runtime.manifest import MANIFEST, seal
from waveedge.runtime.sizes import SizeRange

module = import_module("waveedge.runtime.build")

FORM = {"name": "w8a8-float32", "file": "model.onnx", "precision": "float32"}


def test_the_usual_shape_has_the_batch_asked_for() -> None:
    free = ("batch", 3, 32, 48)
    assert [shape[0] for shape in profile_shapes(free, None)] == [1, 1, 8]
    assert profile_shapes(free, None, 4) == [(1, 3, 32, 48), (4, 3, 32, 48), (8, 3, 32, 48)]
    sizes = SizeRange((32, 48), (16, 16), (16, 16), (64, 64))
    found = profile_shapes(("n", 3, "h", "w"), sizes, 8)
    assert found == [(1, 3, 16, 16), (8, 3, 32, 48), (8, 3, 64, 64)]
    assert profile_shapes((1, 3, 32, 48), None, 4) == []
    assert [shape[0] for shape in profile_shapes((2, 3, "h", "w"), sizes, 4)] == [2, 2, 2]


@pytest.fixture
def free(tmp_path: Path, make_bundle: Callable[..., Path], make_fields: Any) -> Bundle:
    """A bundle for TensorRT with a free batch."""
    folder = make_bundle(tmp_path / "net.trt", target="trt")
    taken = {"name": "image", "shape": ["batch", 3, 32, 32], "dtype": "float32"}
    fields = make_fields(folder, target="trt", input=taken)
    (folder / MANIFEST).write_text(json.dumps(seal(fields)))
    return open_bundle(folder)


def test_a_fixed_batch_is_refused(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    folder = make_bundle(tmp_path / "net.trt", target="trt")
    with pytest.raises(InputError, match=r"a batch of 1 and no other.*\n.*--batch dynamic"):
        module.build(folder, settings=Settings(opt_batch=4))


def test_the_command_line_takes_it(
    tmp_path: Path, make_bundle: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_bundle(tmp_path / "net.trt", target="trt")
    for asked, code, said in (
        ("4", 1, "a batch of 1 and no other"),
        ("9", 2, "less than or equal to 8"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["build", str(folder), "--opt-batch", asked])
        assert left.value.code == code
        assert said in capfd.readouterr().err


@pytest.mark.parametrize("batch", [0, 9])
def test_a_batch_that_no_engine_takes_is_refused(free: Bundle, batch: int) -> None:
    with pytest.raises(InputError, match=rf"opt-batch is {batch}\nEngines take 1 to 8"):
        module.build(free.path, settings=Settings(opt_batch=batch))


@pytest.mark.parametrize(("asked", "kept"), [(None, True), (4, True), (1, False)])
def test_an_engine_that_is_tuned_for_another_batch_is_built_again(
    asked: int | None, kept: bool, free: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = [list(shape) for shape in profile_shapes(("batch", 3, 32, 32), None, 4)]
    monkeypatch.setattr(module, "engine_of", lambda *_: free.path / "model.engine")
    monkeypatch.setattr(module, "read_engine", lambda _: {"profile": profile})
    monkeypatch.setattr(module.Built, "of_manifest", lambda *_, **__: "kept")
    assert module._kept(free, FORM, Settings(opt_batch=asked)) == ("kept" if kept else None)


def test_the_manifest_has_the_profile_that_was_built(
    free: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "device_of", lambda _: {})
    shapes = tuple(profile_shapes(("batch", 3, 32, 32), None, 4))
    made = Build("tensorrt 10.3", (), proxy=False, engine=b"", profile=shapes)
    fields = module._manifest(free, "tensorrt", FORM, made, None)
    assert fields["profile"] == [[1, 3, 32, 32], [4, 3, 32, 32], [8, 3, 32, 32]]
