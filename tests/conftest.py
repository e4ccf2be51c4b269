"""Settings of the whole suite."""

from __future__ import annotations

import gc
import os

# Tests run side by side: threads of one torch would only wait for those of another. Set before
# torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tracing makes objects by the hundred thousand, few of them garbage: looking for it as often as
# Python does by default takes a fifth of the suite's time.
gc.set_threshold(50_000, 20, 20)
