"""A torch module in turn with what was exported: one core, and nothing of the user changes."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from waveedge.errors import InputError
from waveedge.runtime import benchmark
from waveedge.runtime.backend import TensorInfo
from waveedge.runtime.eager import TorchSession
from waveedge.runtime.throughput import measure_throughput

SHAPE = (1, 3, 32, 32)


class Several(nn.Module):
    """Returns more than a tensor, and computes otherwise while it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.drop = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> dict[str, object]:
        SEEN.append(torch.get_num_threads())
        return {"map": self.drop(self.conv(image)), "also": (image.mean(), None, "text")}


SEEN: list[int] = []


def test_a_module_and_a_bundle_take_turns(bundle: Path) -> None:
    network = Several().train()
    before = torch.get_num_threads()
    SEEN.clear()
    found = benchmark(bundle, network, runs=4, warmup=1, batches=(2,), seed=1)
    assert found.order.count("AB") == found.order.count("BA") == 2
    assert (found.a.name, found.b.name) == ("net", "Several")
    assert found.b.backend == f"torch {torch.__version__}, eager (CPU)"
    assert "different runtimes" in " ".join(found.notes)
    assert found.b.load_ms is None
    assert found.b.file_bytes == sum(p.numel() * 4 for p in network.parameters())
    assert found.b.memory is not None
    assert found.b.memory.process_bytes is None
    assert "a module in memory" in found.b.memory.how["process"]
    assert found.a.peak_bytes is None or found.a.peak_bytes > 0
    assert found.batches[0].b.images_per_second
    assert "Several" in found.table()
    assert set(SEEN) == {1}
    assert torch.get_num_threads() == before
    assert network.training
    assert network.drop.training


def test_either_side_may_be_the_module(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In windows of three runs each; test_throughput.py has whole ones.
    shortly = partial(measure_throughput, seconds=0.0)
    benchmarking = import_module("waveedge.runtime.benchmark")  # beside a function of that name
    monkeypatch.setattr(benchmarking, "measure_throughput", shortly)
    found = benchmark(nn.Conv2d(3, 8, 1), bundle, runs=1, warmup=0, memory=False, throughput=True)
    assert found.a.backend.startswith("torch")
    assert found.b.name == "net"
    assert found.throughput is not None
    assert found.throughput.a.how == "threads that call one module"


def test_it_computes_what_the_module_does() -> None:
    network = Several().eval()
    session = TorchSession(network, inputs=[TensorInfo("image", SHAPE, np.dtype(np.float32))])
    image = torch.rand(SHAPE)
    outputs = session.run(image.numpy())
    assert isinstance(outputs, tuple)
    with torch.no_grad():
        wanted = network.conv(image)
    np.testing.assert_array_equal(outputs[0], wanted.numpy())
    np.testing.assert_allclose(outputs[1], image.mean().numpy(), rtol=1e-6)
    assert len(outputs) == 2
    with pytest.raises(InputError, match="the network takes"):
        session.run(image.numpy()[:, :2])


def test_what_makes_no_comparison(bundle: Path) -> None:
    network = nn.Conv2d(3, 3, 1)
    for alone in (False, True):
        with pytest.raises(InputError, match=r"network is a module(.|\n)*benchmark\(bundle, mod"):
            benchmark(network, alone=alone)
    with pytest.raises(InputError, match="both networks are modules"):
        benchmark(network, network)
    with pytest.raises(
        InputError, match=r"module cannot run on an input of shape \(1, 3, 32, 32\)"
    ):
        benchmark(bundle, nn.Conv2d(4, 3, 1), runs=1, memory=False)
