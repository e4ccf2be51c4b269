"""The choice of a form: the rule on made-up times, and every form of a published network."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from waveedge.calibration import open_images
from waveedge.checkpoint import load
from waveedge.export import autotune as module
from waveedge.export import export_model
from waveedge.export.autotune import PUBLISHED, REWRITTEN, Choice, Form, autotune, search
from waveedge.runtime import Session

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
SIZE = (32, 32)


class Race:
    """Made-up times: milliseconds by form, each with a spread of ``noise``. No clock is read."""

    def __init__(self, times: dict[Form, float], *, noise: float = 0.02, pairs: int = 15) -> None:
        self.times, self.noise, self.pairs = times, noise, pairs
        self.met: list[tuple[Form, Form]] = []

    def __call__(self, challenger: Form, best: Form) -> np.ndarray:
        self.met.append((challenger, best))
        means = [self.times[challenger], self.times[best]]
        spread = np.random.default_rng(len(self.met)).normal(1, self.noise, (self.pairs, 2))
        return means * spread


def without(*names: str) -> Form:
    return Form("rewritten", names)


def test_a_tie_keeps_the_rewritten_form() -> None:
    race = Race(dict.fromkeys([REWRITTEN, PUBLISHED, without("haar"), without("chains")], 10.0))
    form, trials = search(race, lambda _: {"haar", "chains"})
    assert form == REWRITTEN
    assert len(trials) == 4


def test_a_faster_median_is_not_enough() -> None:
    times = {REWRITTEN: 10.0, PUBLISHED: 14.0, without("haar"): 7.5}
    form, trials = search(Race(times, noise=0.3), lambda _: {"haar"})
    ratio = trials[-1].ratio
    assert ratio is not None
    assert ratio.value < 1 < ratio.high, "these times are to be faster, and not surely so"
    assert form == REWRITTEN


def test_published_wins_where_rewriting_is_slower() -> None:
    race = Race({REWRITTEN: 10.0, PUBLISHED: 8.0, without("haar"): 9.0})
    form, trials = search(race, lambda _: {"haar"})
    assert form == PUBLISHED
    assert trials[-1].against == PUBLISHED


def test_what_is_faster_without_is_left_out_and_the_search_goes_on_from_there() -> None:
    both = without("haar", "transposed")
    times = {REWRITTEN: 10.0, PUBLISHED: 9.0, without("haar"): 8.0, both: 7.0}
    # Without haar, residual finds nothing any more, and transposed finds something.
    applied = {REWRITTEN: {"haar", "residual"}, without("haar"): {"transposed"}, both: set()}
    race = Race(times)
    form, trials = search(race, lambda form: applied[form])
    assert form == both
    assert race.met == [
        (PUBLISHED, REWRITTEN),
        (without("haar"), PUBLISHED),
        (both, without("haar")),
    ]
    assert [trial.form for trial in trials] == [REWRITTEN, PUBLISHED, without("haar"), both]


def test_rewrites_that_clean_up_are_never_left_out() -> None:
    race = Race({REWRITTEN: 10.0, PUBLISHED: 12.0})
    search(race, lambda _: {"batchnorm", "scales"})
    assert race.met == [(PUBLISHED, REWRITTEN)]


@pytest.fixture(scope="module")
def network():
    """A published network, and photos as it takes them."""
    model = load(GOLDEN / "wavemix_cls_l1_strided.pth")
    images = open_images(None, spec=model.spec, size=SIZE, limit=2, held_out=2)
    return model, images.held_out


@pytest.fixture(scope="module")
def chosen(network) -> tuple[Choice, list[float]]:
    """A choice by made-up times that favour the form without "haar".

    The forms themselves are real: each runs once, and its distance from the form that it is
    compared with is returned, as a share of the output's largest value.
    """
    model, images = network
    times = iter((2.0, 0.5, 1.0))  # published, without haar, without haar and residual
    distances = []

    def made_up(a, b, *, runs, **_):
        outputs = [step() for step in (a[0], b[0])]
        distances.append(float(np.abs(outputs[0] - outputs[1]).max() / np.abs(outputs[1]).max()))
        return np.tile([next(times), 1.0], (runs, 1)), None, ()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time_pairs", made_up)
        return autotune(model, SIZE, images=images, runs=3), distances


def test_every_form_computes_the_same(chosen) -> None:
    _, distances = chosen
    assert len(distances) == 3
    assert max(distances) < 1e-4


def test_the_choice_is_the_network_in_that_form(chosen) -> None:
    choice, _ = chosen
    assert choice.form == without("haar")
    rules = {change.rule.split(".")[0] for change in choice.model.applied}
    assert "residual" in rules
    assert "haar" not in rules


def test_the_manifest_tells_what_was_chosen_and_from_what(chosen, network, tmp_path) -> None:
    choice, _ = chosen
    model, images = network
    out = tmp_path / "net.ort"
    export_model(
        choice.model,
        out,
        target="ort",
        input_size=SIZE,
        images=images,
        published=model,
        autotune=choice.to_dict(),
    )
    manifest = json.loads((out / "manifest.json").read_text())
    record = manifest["autotune"]
    assert record["chosen"] == {"form": "rewritten", "left_out": ["haar"]}
    assert (record["threads"], record["runs"]) == (1, 3)
    assert record["machine"]["cores"] >= 1
    first, *others = record["candidates"]
    assert first["cpu_ratio"] is first["interval"] is first["against"] is None
    assert [item["left_out"] for item in others] == [[], ["haar"], ["haar", "residual"]]
    assert [item["cpu_ratio"] for item in others] == [2.0, 0.5, 1.0]
    assert [item["against"]["left_out"] for item in others] == [[], [], ["haar"]]

    outputs = [Session(path).run(images[0]) for path in (out, out / "published.onnx")]
    np.testing.assert_allclose(*outputs, atol=1e-4)


def test_a_slow_network_gets_fewer_pairs(network, monkeypatch) -> None:
    model, images = network
    asked = []

    def made_up(a, b, *, runs, **_):
        asked.append(runs)
        return np.ones((runs, 2)), None, ()

    monkeypatch.setattr(module, "time_pairs", made_up)
    monkeypatch.setattr(module, "search", lambda race, _: (race(PUBLISHED, REWRITTEN), ()))
    session = SimpleNamespace(run=lambda image: image)
    monkeypatch.setattr(module._Stand, "_load", lambda self, form: session)
    monkeypatch.setattr(module._Stand, "build", lambda self, form: self.model)
    monkeypatch.setattr(module, "_cpu", lambda run: 0.5)
    assert autotune(model, SIZE, images=images, runs=50).runs == 10
    monkeypatch.setattr(module, "_cpu", lambda run: 60.0)
    assert autotune(model, SIZE, images=images, runs=50).runs == 7
    assert asked == [10, 7]
