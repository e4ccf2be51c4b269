"""Networks with recurrent layers: those stay whole, in floating point, and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import waveedge
from waveedge.cost import profile
from waveedge.normalise import normalise


class Reader(nn.Module):
    """A text recogniser: columns of a map, read one after another."""

    def __init__(self, recurrent: nn.Module, features: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 1))
        self.recurrent, self.scores = recurrent, nn.Linear(features, 5)

    def forward(self, x: Tensor) -> Tensor:
        columns = self.features(x).mean(2).permute(2, 0, 1)
        y, _ = self.recurrent(columns)
        scores: Tensor = self.scores(y)
        return scores


@pytest.mark.parametrize(
    ("recurrent", "features", "numbers"),
    [
        (nn.LSTM(8, 4, bidirectional=True), 8, 2 * 4 * 4 * (8 + 4)),
        (nn.GRU(8, 4, num_layers=2, bias=False), 4, 3 * 4 * (8 + 4 + 4 + 4)),
        (nn.RNN(8, 4, nonlinearity="relu"), 4, 4 * (8 + 4)),
    ],
    ids=["LSTM", "GRU", "RNN"],
)
def test_the_layer_is_one_of_the_normal_form(
    recurrent: nn.Module, features: int, numbers: int
) -> None:
    net = Reader(recurrent, features).eval()
    normal = normalise(net, (3, 16, 12))
    assert normal.any_size
    assert type(normal.get_submodule("recurrent")) is type(recurrent)
    (row,) = [row for row in profile(normal, (16, 12)).layers if row.kind == "recurrent"]
    assert row.macs == 6 * numbers, "one column of the map for each step"
    for batch, width in ((1, 12), (3, 20)):
        x = torch.rand(batch, 3, 16, width, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(normal(x), net(x), rtol=0, atol=1e-6)


def test_a_text_recogniser_goes_the_whole_way(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Reader(nn.LSTM(8, 4, bidirectional=True), 8).eval()
    images = np.random.default_rng(0).random((9, 3, 16, 16), np.float32)
    small = waveedge.compress(net, images, bits=8)
    said = small.report.coverage()
    assert said is not None
    assert "recurrent" in said
    waveedge.save_artifact(small, tmp_path / "small.safetensors")
    x = images[:1]
    loaded = waveedge.load(tmp_path / "small.safetensors")
    assert isinstance(loaded, waveedge.Compressed)
    with torch.no_grad():
        assert torch.equal(loaded.graph(torch.from_numpy(x)), small.graph(torch.from_numpy(x)))
    waveedge.export(small, tmp_path / "bundle", target="ort", images=images)
    with torch.no_grad():
        wanted = net(torch.from_numpy(x)).numpy()
    found = waveedge.Session(tmp_path / "bundle").run(x)
    assert isinstance(found, np.ndarray)
    noise = np.square(wanted - found).sum()
    assert 10 * np.log10(np.square(wanted).sum() / noise) > 20
