"""Treat denormal floats as zero while a network runs, and only then.

Arithmetic on denormals (below 1.2e-38 in float32) can be a hundred times slower on x86, and
networks do meet them: decayed weights, saturated activations. onnxruntime's session option
``session.set_denormal_as_zero`` sets the flags for its worker threads, and for the thread that
makes the first session of the process. That last part is a trap twice over: it is skipped for
every later session, and it stays on afterwards, so numpy and torch in that thread lose their
denormals too. This module saves and restores the thread's flags around each call instead.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

__all__ = ["flushed_denormals"]

# Layout of glibc's fenv_t on x86-64: MXCSR is its last word.
_MXCSR_OFFSET = 28
_FLUSH_TO_ZERO, _DENORMALS_ARE_ZERO = 0x8000, 0x0040
# Larger than fenv_t on any architecture of glibc.
_ENVIRONMENT_BYTES = 256


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Flush denormals in this thread inside the block, and restore the thread's flags after it.

    Takes under two microseconds. Outside glibc it does nothing; on other processors than x86-64,
    which handle denormals at full speed, it only restores.
    """
    libm = _libm()
    if libm is None:
        yield
        return
    saved = ctypes.create_string_buffer(_ENVIRONMENT_BYTES)
    libm.fegetenv(saved)
    if platform.machine() == "x86_64":
        flushing = ctypes.create_string_buffer(saved.raw, _ENVIRONMENT_BYTES)
        mxcsr = ctypes.c_uint32.from_buffer(flushing, _MXCSR_OFFSET)
        mxcsr.value |= _FLUSH_TO_ZERO | _DENORMALS_ARE_ZERO
        libm.fesetenv(flushing)
    try:
        yield
    finally:
        libm.fesetenv(saved)


@cache
def _libm() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        # The name is glibc's; musl and bionic have no such file.
        return ctypes.CDLL("libm.so.6")
    except OSError:
        return None
