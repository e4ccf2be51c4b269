"""``input_size="dynamic"``: one file is the network at every size that it takes, and says which."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import waveedge
from waveedge.errors import ExportError, InputError, UsageError
from waveedge.export.device_script import write_build_script
from waveedge.export.free_sizes import explained
from waveedge.export.torch_to_onnx import to_onnx
from waveedge.nn import WaveletCompressedConv2d
from waveedge.runtime import Session
from waveedge.runtime.engine_builder import backend_version
from waveedge.runtime.sizes import SizeRange

KEPT = Path(__file__).parents[1] / "data" / "artifacts" / "sisr_w8a8.safetensors"
IMAGES = np.random.default_rng(0).random((4, 3, 24, 16), dtype=np.float32)


class Gated(nn.Module):
    """Halves and doubles its map, resizes, reflects borders, and weighs channels by their means."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.gate = nn.Conv2d(8, 8, 1)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.stem(F.pad(x, (1, 0, 1, 0), mode="reflect")))
        y = y * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(y, 1)))
        out: Tensor = self.head(torch.relu(self.up(y))) + x
        return F.interpolate(out, scale_factor=2, mode="nearest")


class Plain(nn.Module):
    """Two convolutions, the first of stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=2, padding=1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.stem(x)))
        return out


class Fixed(nn.Module):
    """Its linear layer fixes the size of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 24 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x.flatten(1))
        return out


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    torch.manual_seed(0)
    model = Gated().eval()
    out = tmp_path_factory.mktemp("free") / "net.ort"
    return SimpleNamespace(
        model=model,
        bundle=waveedge.export(model, out, target="ort", images=IMAGES, input_size="dynamic"),
    )


@pytest.mark.parametrize("size", [(4, 4), (6, 40), (24, 16), (50, 34)])
@pytest.mark.parametrize("file", ["", "published.onnx"])
def test_one_file_is_the_users_network_at_every_size(
    gated: SimpleNamespace, size: tuple[int, int], file: str
) -> None:
    image = np.random.default_rng(1).random((1, 3, *size), dtype=np.float32)
    with torch.no_grad():
        wanted = gated.model(torch.from_numpy(image)).numpy()
    found = Session(gated.bundle.path / file).run(image)
    assert np.abs(wanted - found).max() < 1e-4 * np.abs(wanted).max()


def test_the_bundle_says_which_sizes_it_takes_and_was_verified_at_others(
    gated: SimpleNamespace,
) -> None:
    manifest, verification = gated.bundle.manifest, gated.bundle.verification
    assert manifest["input"]["shape"] == [1, 3, "height", "width"]
    assert manifest["outputs"][0]["shape"] == [1, 3, "output_height", "output_width"]
    sizes = SizeRange.of_manifest(manifest)
    assert sizes is not None
    assert (sizes.calibrated, sizes.multiple, sizes.most) == ((24, 16), (2, 2), None)
    at_sizes = verification["at_sizes"]
    assert len(at_sizes) == 2
    assert "24x16" not in at_sizes
    for found in (verification, *at_sizes.values()):
        assert {check["name"]: check["limit"] for check in found["checks"]} == {
            "whole: relative error": 1e-4,
            "whole: SNR, dB": 100.0,
        }
        assert found["passed"]
    assert any("height and width are free" in note for note in manifest["notes"])


def test_a_size_that_it_cannot_take_is_refused_and_the_others_named(
    gated: SimpleNamespace,
) -> None:
    session = Session(gated.bundle.path)
    with pytest.raises(InputError, match="does not take images of 25x16") as refused:
        session.run(np.zeros((1, 3, 25, 16), np.float32))
    assert "multiples of 2 from" in refused.value.hint
    with pytest.raises(InputError, match="does not take images of 24x15"):
        waveedge.benchmark(gated.bundle.path, runs=1, warmup=0, memory=False, input_size=(24, 15))


def test_bench_runs_at_the_calibrated_size_or_at_the_one_that_is_asked_for(
    gated: SimpleNamespace,
) -> None:
    def shape(size: tuple[int, int] | None) -> tuple[int, ...]:
        options = {"runs": 1, "warmup": 0, "memory": False}
        return waveedge.benchmark(gated.bundle.path, input_size=size, **options).input_shape

    assert shape(None) == (1, 3, 24, 16)
    assert shape((32, 48)) == (1, 3, 32, 48)
    assert Session(gated.bundle.path).example_inputs()[0].shape == (1, 3, 24, 16)


def test_a_compressed_network_goes_to_tensorrt_with_a_profile(tmp_path: Path) -> None:
    torch.manual_seed(1)
    small = waveedge.compress(Plain().eval(), images=IMAGES, bits=8)
    options = {"target": "trt", "images": IMAGES, "input_size": "dynamic"}
    with pytest.raises(InputError, match="this network does not take images of 65x48"):
        waveedge.export(small, tmp_path / "net.trt", max_size=(65, 48), **options)
    with pytest.raises(UsageError, match="24x16, lies outside"):
        waveedge.export(small, tmp_path / "net.trt", max_size=(16, 48), **options)
    bundle = waveedge.export(
        small, tmp_path / "net.trt", min_size=(8, 12), max_size=(64, 48), **options
    )
    sizes = bundle.manifest["sizes"]
    assert (sizes["least"], sizes["calibrated"], sizes["most"]) == ([8, 12], [24, 16], [64, 48])
    assert all(found["passed"] for found in bundle.verification["at_sizes"].values())
    assert bundle.verification["at_sizes"].keys() == {"8x14", "26x20"}
    script = (bundle.path / "build_engine.sh").read_text()
    for shape in ("min", "1x3x8x12"), ("opt", "1x3x24x16"), ("max", "1x3x64x48"):
        assert "--{}Shapes=input:{}".format(*shape) in script
    if backend_version("tensorrt_rtx") is not None:
        assert bundle.verification["engine"]["built"]
    image = np.zeros((1, 3, 66, 48), np.float32)
    with pytest.raises(InputError, match="does not take images of 66x48") as refused:
        Session(bundle.path, provider="cpu").run(image)
    assert "to 64x48" in refused.value.hint


def test_a_free_batch_and_free_sizes_go_into_one_profile(tmp_path: Path) -> None:
    sizes = SizeRange((24, 16), (8, 8), (8, 8), (64, 48))
    shape: list[int | str] = ["batch", 3, "height", "width"]
    script = write_build_script(tmp_path, "input", shape, sizes).read_text()
    for found in ("min", "1x3x8x8"), ("opt", "1x3x24x16"), ("max", "8x3x64x48"):
        assert "--{}Shapes=input:{}".format(*found) in script


def test_a_network_of_one_size_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="takes images of 24x16 alone: the network") as refused:
        waveedge.export(Fixed().eval(), tmp_path / "out", images=IMAGES, input_size="dynamic")
    assert "--input-size HxW" in refused.value.hint
    assert not list(tmp_path.iterdir())


def test_an_artifact_of_one_size_is_refused_at_another_before_any_image_is_read(
    tmp_path: Path,
) -> None:
    missing = tmp_path / "no such folder"
    with pytest.raises(InputError, match="is bound to that size because") as refused:
        waveedge.export(KEPT, tmp_path / "out", images=missing, input_size=(128, 96))
    assert "--input-size 128x96" in refused.value.hint


def test_a_share_of_wavelet_coefficients_is_refused_by_name() -> None:
    model = nn.Sequential(WaveletCompressedConv2d(3, 4, levels=1, ratio=0.5)).eval()
    with pytest.raises(ExportError, match="0 keeps a share of the wavelet"):
        to_onnx(model, (3, 24, 16), sizes=SizeRange((24, 16), (2, 2), (2, 2)))


def test_a_graph_that_no_runtime_takes_is_explained() -> None:
    sizes = SizeRange((24, 16))
    match = "with free sizes: no such shape"
    with pytest.raises(ExportError, match=match) as refused, explained(sizes):
        raise RuntimeError("no such shape\nand more")
    assert "--input-size HxW" in refused.value.hint
    with pytest.raises(RuntimeError), explained(None):
        raise RuntimeError("no such shape")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "ort", "input_size": "dynamic", "max_size": (64, 64)}, "--max-size are the"),
        ({"target": "trt", "input_size": (24, 16), "min_size": (8, 8)}, "--max-size are the"),
        ({"target": "trt", "input_size": "dynamic"}, "needs --max-size HxW"),
    ],
)
def test_ends_of_a_profile_belong_to_tensorrt(
    tmp_path: Path, options: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        waveedge.export(Fixed(), tmp_path / "out", images=IMAGES, **options)


def test_a_range_of_sizes_reads_as_people_write_it() -> None:
    sizes = SizeRange((24, 16), (8, 8), (8, 16), (64, 48))
    assert str(sizes) == "heights and widths that are multiples of 8 from 8x16 to 64x48"
    assert sizes.admits((64, 48))
    assert not sizes.admits((72, 48))
    assert all(map(sizes.admits, sizes.others()))
    assert SizeRange.of_manifest({"sizes": sizes.to_dict()}) == sizes
    alone = SizeRange((8, 8), (8, 8), (8, 8), (8, 8))
    assert alone.others() == []
