"""Hints name libraries that an index has, as pyproject.toml asks for them."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from waveedge import extras
from waveedge.extras import install_line, requirement

ROOT = Path(__file__).parents[1]
ROOMS = ("waveedge", "export", "runtime", "calibration")


def asked_for(extra: str) -> list[str]:
    """What pyproject.toml lists under an extra, waveedge's own extras left out."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(rf"^{extra} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    assert listed is not None
    lines = re.sub(r"#.*", "", listed[1])
    found = [one.partition(";")[0].strip() for one in re.findall(r'"([^"]+)"', lines)]
    return [one for one in found if not one.startswith("waveedge")]


@pytest.mark.parametrize("extra", ["desk", "trt", "rtx", "plot", "openvino", "gpu", "accelerate"])
def test_the_line_names_what_the_extra_asks_for(extra: str) -> None:
    line = install_line(extra)
    assert line.startswith("pip install ")
    assert sorted(re.findall(r'"([^"]+)"', line)) == sorted(asked_for(extra))


def test_a_library_that_is_always_needed_has_its_versions() -> None:
    assert re.fullmatch(r"onnxruntime>=[\d.]+", requirement("onnxruntime"))
    assert requirement("numpy").startswith("numpy>=")
    assert requirement("no-such-library") == "no-such-library"


def test_without_an_installation_the_source_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: str) -> list[str]:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", nothing)
    extras._requirements.cache_clear()
    try:
        assert install_line("plot").startswith('pip install ".[plot]"')
        assert requirement("openvino") == "openvino"
    finally:
        extras._requirements.cache_clear()


def test_no_message_sends_anybody_to_an_index_for_waveedge_itself() -> None:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if path.name != "extras.py":
                assert not re.search(r"install .?waveedge\[", path.read_text("utf-8")), path
