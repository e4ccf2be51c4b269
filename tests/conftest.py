"""Settings of the whole suite."""

from __future__ import annotations

import os

# Tests run side by side: threads of one torch would only wait for those of another. Set before
# torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
