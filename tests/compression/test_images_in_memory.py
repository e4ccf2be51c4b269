"""Compressing with the images that a notebook holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from waveedge.calibration import open_images
from waveedge.calibration.folders import built_in_photos
from waveedge.compression.compress import compress
from waveedge.models.build import attach_spec
from waveedge.spec import ModelSpec

FLOATS = np.random.default_rng(0).random((8, 3, 16, 24), np.float32)


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    return attach_spec(model, ModelSpec(family="custom", input_size=(32, 32)))


@pytest.mark.parametrize(
    "form",
    [
        lambda a: a,
        torch.from_numpy,
        list,
        lambda a: DataLoader(TensorDataset(torch.from_numpy(a), torch.arange(8)), 4),
        lambda a: iter(torch.from_numpy(a)),
        lambda a: open_images(a),
    ],
    ids=["array", "tensor", "list", "loader", "iterator", "image set"],
)
def test_every_form_and_nothing_of_the_user_s_is_changed(form: Callable[[Any], Any]) -> None:
    mine = FLOATS.copy()
    small = compress(network(), form(mine), bits=8)
    assert small.input_size == (16, 24)
    assert small.report.quality.images == 2
    assert small.report.quality.snr_db > 25
    np.testing.assert_array_equal(mine, FLOATS)


def test_a_folder_by_its_name_and_its_suspicions_in_the_report() -> None:
    folder = str(built_in_photos()[0].parent)
    assert "uspicious" not in compress(network(), images=folder, bits=8).report.calibration
    with pytest.warns(UserWarning, match="suspicious images: Values run only from"):
        faint = compress(network(), images=0.01 * FLOATS, bits=8)
    assert "Suspicious: Values run only from" in faint.report.calibration
