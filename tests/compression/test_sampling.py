"""How many images it takes to see something."""

from __future__ import annotations

import numpy as np

from waveedge.compression.sampling import enough, spread
from waveedge.opening import CALIBRATED, HELD_OUT, wanted_of


def test_small_images_are_looked_at_in_larger_numbers() -> None:
    small = [np.zeros((1, 3, 32, 32), np.float32)] * 100
    large = [np.zeros((1, 3, 512, 512), np.float32)] * 100
    assert len(enough(small, 8)) == 64  # of 1,024 pixels
    assert len(enough(large, 8)) == 8
    assert len(enough(small, 2, 2**13)) == 8
    assert len(enough(small[:5], 8)) == 5


def test_they_are_spread_over_all() -> None:
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(104), 64)[-1] == 102
    assert spread(range(3), 5) == [0, 1, 2]


def test_large_images_are_learnt_from_in_smaller_numbers() -> None:
    assert wanted_of((28, 28)) == wanted_of((256, 256)) == (256, HELD_OUT)
    assert wanted_of((512, 256)) == (128, HELD_OUT)
    assert wanted_of((2160, 3840)) == (CALIBRATED, HELD_OUT)
