"""Deep learning accelerators: what they take, and what is refused; with no TensorRT at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from waveedge.commands.build import _placed
from waveedge.errors import InputError, MissingDependencyError
from waveedge.runtime.build import build
from waveedge.runtime.built import Built
from waveedge.runtime.dla import MOST_NAMES, place, require_dla
from waveedge.runtime.engine_builder import Settings

TRT = SimpleNamespace(
    __name__="tensorrt",
    __version__="10.3.0",
    DeviceType=SimpleNamespace(DLA="DLA"),
    BuilderFlag=SimpleNamespace(GPU_FALLBACK="GPU_FALLBACK"),
    LayerType=SimpleNamespace(CONSTANT="constant"),
)


class Config:
    def __init__(self) -> None:
        self.flags: list[str] = []

    def set_flag(self, flag: str) -> None:
        self.flags.append(flag)

    def can_run_on_DLA(self, layer: Any) -> bool:
        return bool(layer.name.startswith("conv"))


def network(*names: str, shape: tuple[int, ...] = (1, 3, 8, 8)) -> Any:
    layers = [SimpleNamespace(name=name, type=name.rstrip("0123456789")) for name in names]
    return SimpleNamespace(
        num_layers=len(layers),
        get_layer=layers.__getitem__,
        get_input=lambda index: SimpleNamespace(shape=shape),
    )


def test_what_the_gpu_runs_instead_is_named() -> None:
    config: Any = Config()
    found = place(TRT, network("conv1", "gelu1", "constant1", "conv2"), config, 1)
    assert (found.core, found.on_dla, found.on_gpu) == (1, 2, ("gelu1",))
    assert (config.default_device_type, config.DLA_core) == ("DLA", 1)
    assert config.flags == ["GPU_FALLBACK"]


def test_names_have_bounds() -> None:
    names = [f"gelu{'x' * 300}{number}" for number in range(MOST_NAMES + 5)]
    found = place(TRT, network("conv1", *names), Config(), 0)
    assert len(found.on_gpu) == MOST_NAMES
    assert max(map(len, found.on_gpu)) == 200


def test_a_network_of_free_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"one size and one batch(.|\n)*--batch 1"):
        place(TRT, network("conv1", shape=(-1, 3, 8, 8)), Config(), 0)


def test_a_network_that_it_cannot_run_at_all_is_refused() -> None:
    with pytest.raises(InputError, match=r"runs no layer(.|\n)*float16 and int8"):
        place(TRT, network("gelu1", "constant1"), Config(), 0)


@pytest.mark.parametrize(
    ("cores", "core", "says"),
    [(0, 0, r"10\.3\.0 sees no DLA core(.|\n)*Orin Nano"), (2, 2, r"no core 2\nUse 0 to 1\.")],
)
def test_a_core_that_is_not_there(cores: int, core: int, says: str) -> None:
    with pytest.raises(MissingDependencyError, match=says):
        require_dla(TRT, SimpleNamespace(num_DLA_cores=cores), core)
    require_dla(TRT, SimpleNamespace(num_DLA_cores=core + 1), core)


def test_desktop_gpus_have_none(tmp_path: Path, make_bundle: Any) -> None:
    bundle = make_bundle(tmp_path / "net.rtx", target="trt-rtx")
    with pytest.raises(InputError, match=r"TensorRT-RTX(.|\n)*these have no DLA"):
        build(bundle, settings=Settings(dla_core=0))


def test_the_table_names_some_of_them() -> None:
    built = Built("w8a8", Path("model.engine"), "model.onnx", "float32", dla_core=0, on_dla=3)
    assert _placed(built) == "3 layers"
    few = Built("w8a8", Path("a"), "a.onnx", "float32", dla_core=0, on_dla=3, on_gpu=("a", "b"))
    assert _placed(few) == "3 layers; on the GPU: a, b"
    many = Built(
        "w8a8", Path("a"), "a.onnx", "float32", dla_core=0, on_dla=3, on_gpu=tuple("abcdefg")
    )
    assert _placed(many) == "3 layers; on the GPU: a, b, c, d, e, and 2 more"
    assert many.to_dict()["on_gpu"] == list("abcdefg")
