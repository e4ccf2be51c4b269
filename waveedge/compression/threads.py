"""One thread for numbers that go into a file.

With several threads, a convolution, a sum or a matrix product adds its terms in another order for
every number of threads, and the last bits of a network depend on the machine's load. With one they
depend on the input alone. On two processors this costs a half more time (docs/recipes.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread in the block, or in the function that this decorates."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
