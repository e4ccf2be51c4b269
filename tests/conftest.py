"""Settings of the whole suite."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

# Tests run side by side: threads of one torch would only wait for those of another. Set before
# torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tracing makes objects by the hundred thousand, few of them garbage: looking for it as often as
# Python does by default takes a fifth of the suite's time.
gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the four blocks of the trained classifier, which benchmarks take for the whole."""
    # Not before the setting above; tests of benchmarks put their folder on the path themselves.
    import torch

    from benchmarks import networks, variants
    from benchmarks.pruning import peer
    from benchmarks.quality_tables import trial

    networks.scoring()  # found beside the network that there is
    trained = torch.load(networks.EXAMPLES / "fashion_mnist/model.pt", weights_only=True)
    folder = tmp_path / "examples/fashion_mnist"
    folder.mkdir(parents=True)
    others = ("layers.0.", "layers.2.", "layers.3.")
    state = {
        name.replace("layers.1.", "layers.0."): tensor
        for name, tensor in trained.items()
        if not name.startswith(others)
    }
    torch.save(state, folder / "model.pt")
    for module in (networks, variants, trial, peer):
        monkeypatch.setattr(module, "EXAMPLES", tmp_path / "examples")
