"""A network made smaller at one size is the user's network at others, and knows at which."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import waveedge
from waveedge.artifact import load_artifact, save_artifact
from waveedge.calibration import open_images
from waveedge.compression.compress import compress
from waveedge.compression.reparameterize import reparameterize
from waveedge.errors import InputError
from waveedge.models.build import attach_spec
from waveedge.normalise import normalise
from waveedge.reference import relative_error
from waveedge.sizes import Sizes, find_sizes
from waveedge.spec import ModelSpec

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
# Networks of every head: the size that they are rewritten at, the multiple, and others of theirs.
NETWORKS = {
    "wavemix_cls_l1_strided": ((32, 32), 2, [(18, 26), (40, 34)]),
    "wavemix_seg_l2": ((48, 32), 16, [(16, 32), (64, 48)]),
    "wavemix_sisr_l1": ((24, 40), 2, [(10, 14), (38, 30)]),
    "wavemix_v3_pixelshuffle": ((64, 64), 8, [(24, 40), (72, 80)]),
    "wavemixsr": ((21, 17), 1, [(12, 9), (26, 23)]),
    "wavepaint": ((36, 44), 4, [(24, 16), (40, 60)]),
    "wtconvnext_micro": ((64, 64), 64, [(64, 128)]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_form_made_at_one_size_is_the_network_at_others(name: str) -> None:
    size, multiple, others = NETWORKS[name]
    # In float64 nothing but a wrong kernel, or one in the wrong place, makes a difference.
    model = waveedge.load(GOLDEN / f"{name}.pth").double()
    channels = model.spec.channels
    normal = normalise(model, (channels, *size))
    form = reparameterize(normal, size)
    sizes = find_sizes([(model, form)], normal, size)
    assert not sizes.bound
    assert sizes.multiple == (multiple, multiple)
    for other in others:
        assert sizes.admits(other)
        image = torch.rand(2, channels, *other, dtype=torch.float64)
        with torch.no_grad():
            assert relative_error([model(image)], [form(image)]) < 1e-10


class Fixed(nn.Module):
    """Its own code fixes the size of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.conv(x)).flatten(1))
        return out


def test_a_network_of_one_size_says_so() -> None:
    model = attach_spec(Fixed().eval(), ModelSpec(family="custom", task="classification"))
    images = open_images(None, spec=model.spec, size=(16, 16), limit=2, held_out=1)
    sizes = compress(model, images=images, bits=8).sizes
    assert sizes.calibrated == (16, 16)
    assert not sizes.admits((32, 32))
    with pytest.raises(InputError, match="made at 16x16, and is bound to that size because"):
        sizes.check((32, 32), "this artifact")


def test_an_artifact_goes_out_at_another_size(tmp_path: Path) -> None:
    model = waveedge.load(GOLDEN / "wavemix_sisr_l1.pth")
    images = open_images(None, spec=model.spec, size=(24, 40), limit=4, held_out=2)
    save_artifact(compress(model, images=images, bits=8), tmp_path / "a.safetensors")
    small = load_artifact(tmp_path / "a.safetensors")
    assert small.sizes.multiple == (2, 2)
    with pytest.raises(InputError, match="does not take images of 25x40") as refused:
        small.sizes.check((25, 40), "this artifact")
    assert "multiples of 2 from" in str(refused.value.hint)
    other = open_images(None, spec=model.spec, size=(32, 20), limit=2, held_out=1)
    small.original = model
    bundle = waveedge.export(small, tmp_path / "bundle", images=other, input_size=(32, 20))
    assert bundle.manifest["input"]["shape"] == [1, 3, 32, 20]
    assert bundle.verification["figures"]["snr_db_to_your_network"] > 20


def test_artifacts_of_before_are_bound_to_their_size() -> None:
    kept = load_artifact(GOLDEN.parent / "artifacts" / "sisr_w8a8.safetensors")
    assert kept.sizes.admits(kept.input_size)
    with pytest.raises(InputError, match="an earlier version"):
        kept.sizes.check((128, 96), "this artifact")


def test_sizes_that_are_no_multiples_are_listed() -> None:
    sizes = Sizes(calibrated=(21, 17), multiple=(8, 8), least=(13, 9))
    assert sizes.admits((29, 9))
    assert not sizes.admits((24, 16))
    assert not sizes.admits((5, 9))
    assert str(sizes) == "heights 13, 21, 29, ... and widths 9, 17, 25, ..."
    assert all(map(sizes.admits, sizes.others()))
