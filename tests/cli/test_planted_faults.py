"""A fault planted in any exact rewrite is caught by every verb: the rewrite is left out and named,
and what ships is the user's network."""

from __future__ import annotations

import functools
import json
import operator
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from waveedge.artifact import load_artifact
from waveedge.compression import centre
from waveedge.compression.reparameterize import REWRITES, LeftOut, exact_form, reparameterize
from waveedge.decibels import snr_db
from waveedge.export.autotune import Form, _Stand, autotune
from waveedge.models.build import attach_spec
from waveedge.normalise import normalise
from waveedge.reference import Reference
from waveedge.runtime import Session
from waveedge.spec import ModelSpec

from . import planted_nets
from .inside import Result, run_inside
from .planted_nets import NETWORKS, SIZE, network

SPEC = ModelSpec(family="custom", task="restoration", input_size=SIZE)
ALL = [rewrite.name for rewrite in REWRITES]

Plant = Callable[[str, str], None]


@functools.cache
def normal_form(rewrite: str) -> fx.GraphModule:
    return normalise(attach_spec(network(rewrite), SPEC), (3, *SIZE))


def _tensors(graph: fx.GraphModule) -> dict[str, Tensor]:
    return {**dict(graph.named_parameters()), **dict(graph.named_buffers())}


def _disturb(graph: fx.GraphModule, before: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Double the largest number of the largest tensor that the rewrite touched."""
    touched = []
    for name, tensor in _tensors(graph).items():
        same, value = before.get(name, (None, None))
        if tensor is not same or not torch.equal(tensor, value):  # type: ignore[arg-type]
            touched.append(tensor)
    tensor = max(touched, key=Tensor.numel)
    with torch.no_grad():
        tensor[np.unravel_index(int(tensor.abs().argmax()), tensor.shape)] *= 2


def _raise(_graph: fx.GraphModule, _before: object) -> None:
    raise KeyError("planted")


def _reshape(graph: fx.GraphModule, _before: object) -> None:
    """Lose the last channel of the output."""
    output = next(node for node in graph.graph.nodes if node.op == "output")
    with graph.graph.inserting_before(output):
        index = (slice(None), slice(0, -1))
        output.args = (graph.graph.call_function(operator.getitem, (output.args[0], index)),)


FAULTS: dict[str, Callable[[fx.GraphModule, dict[str, tuple[Tensor, Tensor]]], None]] = {
    "weight": _disturb,
    "exception": _raise,
    "shape": _reshape,
}
REASONS = {
    "weight": "changed the output by ",
    "exception": "KeyError",
    "shape": "changed the number or shape of outputs",
}


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Let a rewrite end with a fault wherever it changes something."""

    def into(name: str, kind: str) -> None:
        owner = centre if name == "centre" else next(r for r in REWRITES if r.name == name)
        method = "centre_images" if name == "centre" else "apply"
        right = getattr(owner, method)

        def faulty(*arguments: object) -> object:
            graph = next(item for item in arguments if isinstance(item, fx.GraphModule))
            before = {name: (tensor, tensor.clone()) for name, tensor in _tensors(graph).items()}
            done = right(*arguments)
            if done or name == "centre":
                FAULTS[kind](graph, before)
            return done

        monkeypatch.setattr(owner, method, faulty)

    return into


def run(form: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: form(torch.from_numpy(x)).detach().numpy()


def quality_db(wanted: nn.Module, found: Callable[[np.ndarray], object]) -> float:
    x = np.random.default_rng(0).random((1, 3, *SIZE), np.float32)
    with torch.no_grad():
        expected = wanted(torch.from_numpy(x)).numpy()
    return snr_db(expected, np.asarray(found(x)))


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("rewrite", ALL)
def test_a_faulty_rewrite_is_left_out(plant: Plant, rewrite: str, kind: str) -> None:
    assert rewrite in {item.rule.split(".")[0] for item in exact(rewrite).applied}  # type: ignore[union-attr]
    plant(rewrite, kind)
    graph = exact(rewrite)
    (item,) = named(graph, rewrite)
    assert item.reason.startswith(REASONS[kind])
    assert rewrite not in {item.rule.split(".")[0] for item in graph.applied}  # type: ignore[union-attr]
    assert quality_db(network(rewrite), run(graph)) > 100


def exact(rewrite: str) -> fx.GraphModule:
    return reparameterize(normal_form(rewrite), SIZE)


def named(graph: fx.GraphModule, rewrite: str) -> list[LeftOut]:
    left_out: tuple[LeftOut, ...] = graph.left_out  # type: ignore[assignment]
    return [item for item in left_out if item.rewrite == rewrite]


@pytest.fixture
def verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a verb on the network of a rewrite, whose normal form is known from before."""
    shutil.copy(planted_nets.__file__, tmp_path / "planted_nets.py")
    factories = [f"def {name}():\n    return network({name!r})\n" for name in NETWORKS]
    (tmp_path / "net.py").write_text("from planted_nets import network\n" + "".join(factories))

    def call(name: str, rewrite: str, *options: str) -> Result:
        for module in ("compression.compress", "export.verb", "export.autotune"):
            monkeypatch.setattr(f"waveedge.{module}.normalise", lambda *_: normal_form(rewrite))
        torch.save(network(rewrite).state_dict(), tmp_path / "model.pt")
        arguments = ("--arch", f"net:{rewrite}", "--input-size", "16x16", "--set")
        return run_inside(tmp_path, name, "model.pt", *arguments, "task=restoration", *options)

    return call


@pytest.mark.parametrize("rewrite", NETWORKS)
def test_compress_leaves_it_out(
    plant: Plant, verb: Callable[..., Result], tmp_path: Path, rewrite: str
) -> None:
    plant(rewrite, "weight")
    result = verb("compress", rewrite, "--out", "small.safetensors")
    assert result.code == 0, result.err
    assert f"note: left out: {rewrite}" in result.out
    small = load_artifact(tmp_path / "small.safetensors")
    assert any(rewrite in item for item in small.report.left_out)
    assert not any(item.startswith(f"{rewrite}.") for item in small.report.rewrites)
    assert quality_db(network(rewrite), run(small)) > 25


@pytest.mark.parametrize("rewrite", ALL)
def test_export_leaves_it_out(
    plant: Plant, verb: Callable[..., Result], tmp_path: Path, rewrite: str
) -> None:
    plant(rewrite, "weight")
    shipped(verb("export", rewrite, "--out", "bundle"), tmp_path, rewrite)


def test_export_with_autotune_leaves_it_out(
    plant: Plant, verb: Callable[..., Result], tmp_path: Path
) -> None:
    plant("scales", "weight")
    shipped(verb("export", "scales", "--out", "bundle", "--autotune"), tmp_path, "scales")


def shipped(result: Result, folder: Path, rewrite: str) -> None:
    """The bundle is the user's network, and says in two places what was left out."""
    assert result.code == 0, result.err
    assert f"note: left out: {rewrite}" in result.out
    notes = json.loads((folder / "bundle" / "manifest.json").read_text())["notes"]
    assert any(note.startswith(f"left out: {rewrite}") for note in notes)
    assert quality_db(network(rewrite), Session(folder / "bundle").run) > 100


@pytest.mark.parametrize("rewrite", ALL)
def test_autotune_leaves_it_out(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, rewrite: str
) -> None:
    """Every form is built as it would be, and none is timed: the rewritten one wins."""

    def race(stand: _Stand, challenger: Form, best: Form) -> np.ndarray:
        forms = [stand.build(form) for form in (challenger, best)]
        assert all(quality_db(network(rewrite), run(form)) > 100 for form in forms)
        return np.tile([2.0, 1.0], (3, 1))

    plant(rewrite, "weight")
    monkeypatch.setattr(_Stand, "race", race)
    monkeypatch.setattr("waveedge.export.autotune.normalise", lambda *_: normal_form(rewrite))
    images = [np.full((1, 3, *SIZE), value, np.float32) for value in (0.3, 0.6)]
    choice = autotune(network(rewrite), SIZE, images=images)
    assert isinstance(choice.model, fx.GraphModule)
    assert named(choice.model, rewrite)
    assert quality_db(network(rewrite), run(choice.model)) > 100


def test_a_fault_that_few_images_show_takes_all_rewrites_with_it(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single rewrites are judged on two images, the result on all of them."""

    def bright(graph: fx.GraphModule, _before: object) -> None:
        """Add the part of the first image's pixels that is above 0.9."""
        image, *_, output = graph.graph.nodes
        with graph.graph.inserting_before(output):
            above = graph.graph.call_function(F.threshold, (image, 0.9, 0.0))
            output.args = (graph.graph.call_function(operator.add, (output.args[0], above)),)

    monkeypatch.setitem(FAULTS, "weight", bright)
    plant("batchnorm", "weight")
    model, graph = network("batchnorm"), normal_form("batchnorm")
    images = [np.full((1, 3, *SIZE), value, np.float32) for value in (0.3, 0.6, 0.8, 1.0)]
    assert exact_form(graph, SIZE, Reference(model, images[:3])).left_out == ()
    result = exact_form(graph, SIZE, Reference(model, images))
    (item,) = named(result, "all rewrites")
    assert item.reason.startswith("together they changed the output by")
    assert quality_db(model, run(result)) > 100
