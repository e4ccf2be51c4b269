from __future__ import annotations

import importlib
import sys
import types
import warnings
from typing import Any

import pytest


@pytest.fixture(scope="session")
def reference() -> Any:
    """pytorch_wavelets, the oracle.

    It imports ``pkg_resources`` (gone from current setuptools) for transforms that are not used
    here; an empty stand-in is enough.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("pkg_resources")
        except ImportError:
            stand_in = types.ModuleType("pkg_resources")
            stand_in.resource_stream = None  # type: ignore[attr-defined]
            sys.modules["pkg_resources"] = stand_in
        return importlib.import_module("pytorch_wavelets")
