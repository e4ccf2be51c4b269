"""What several processes exchange, one at a time; two of them run in tests/cli."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from waveedge.compression.processes import Accelerated, Processes, launched
from waveedge.errors import InputError, MissingDependencyError, WaveedgeError


class Fake(SimpleNamespace):
    """Stands for ``accelerate.Accelerator``: the second of two processes, the first its double."""

    device = torch.device("cpu")
    process_index = 1
    num_processes = 2

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor])

    def reduce(self, tensor: Tensor, how: str) -> Tensor:
        assert how == "sum"
        return tensor * 2


def second(**fields: Any) -> Accelerated:
    return Accelerated(Fake(**fields))


def test_a_batch_is_shared_evenly() -> None:
    assert [Processes().batch(wanted, 8) for wanted in (1, 5, 8)] == [1, 5, 8]
    assert [second().batch(wanted, 9) for wanted in (1, 4, 5, 9)] == [2, 4, 6, 8]
    with pytest.raises(InputError, match="2 processes cannot share 1 images"):
        second().batch(1, 1)
    assert second().part(torch.arange(6)).tolist() == [3, 4, 5]


def test_gradients_come_from_ones_own_part() -> None:
    own = torch.ones(2, 3, requires_grad=True)
    (whole,) = second().gather([own * 5])
    assert whole.shape == (4, 3)
    whole.square().sum().backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None
    assert own.grad.tolist() == [[50.0] * 3] * 2
    sums = [torch.ones(2), torch.full((1, 2), 3.0)]
    second().add_up(sums)
    assert [tensor.tolist() for tensor in sums] == [[2.0, 2.0], [[6.0, 6.0]]]


@pytest.mark.parametrize(
    "exchange",
    [lambda p: p.gather([torch.ones(1)]), lambda p: p.add_up([torch.ones(1)])],
)
def test_a_process_that_is_gone_ends_the_tuning(exchange: Callable[[Processes], object]) -> None:
    """Not as a network that cannot be trained, which would ship untuned."""

    def fails(*_: object) -> Tensor:
        raise RuntimeError("Connection closed by peer [127.0.0.1]")

    with pytest.raises(WaveedgeError, match=r"process of this tuning is gone.*closed by peer"):
        exchange(second(gather=fails, reduce=fails))


def test_the_device_is_the_cpu() -> None:
    with pytest.raises(InputError, match=r"works on cuda.*\n.*cpu=True"):
        second(device=torch.device("cuda"))


def test_it_takes_accelerate_for_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "accelerate>='):
        launched()
