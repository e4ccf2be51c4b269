"""Tuning with the user's own labels: they count beside the teacher, and wrong ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import waveedge
from waveedge.compression.compressed import Compressed
from waveedge.compression.scores import Score, surprise
from waveedge.compression.tuning import Tuning
from waveedge.errors import InputError
from waveedge.labels import images_wanted, read_labels

CLASSES = np.random.default_rng(1).integers(0, 3, 48)


def images() -> NDArray[np.float32]:
    """Noise in which one channel is brighter: which one is the class."""
    noise = np.random.default_rng(0).random((48, 3, 8, 8), np.float32)
    for image, channel in zip(noise, CLASSES, strict=True):
        image[channel] += 0.7
    return noise


IMAGES = images()
STEPS = 12


@cache
def net() -> nn.Module:
    """Half trained: it knows some of the classes, and is sure of few."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(16, 8, 1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    x, classes = torch.from_numpy(IMAGES), torch.from_numpy(CLASSES)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), classes).backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def untuned() -> Compressed:
    return waveedge.compress(net(), IMAGES, bits=4, tune=0)


@pytest.fixture(scope="module")
def tuned(untuned: Compressed) -> Compressed:
    return waveedge.tune(untuned, IMAGES, labels=CLASSES, steps=48)


def test_labels_are_learnt_and_the_report_says_so(untuned: Compressed, tuned: Compressed) -> None:
    report = tuned.report.tuned
    assert report is not None
    assert report.accuracy is not None
    assert report.accuracy_before is not None
    assert report.accuracy > report.accuracy_before + 0.2
    right = tuned(torch.from_numpy(IMAGES)).argmax(1).numpy() == CLASSES
    assert right.mean() > 0.9
    without = waveedge.tune(untuned, IMAGES, steps=12)
    assert (without(torch.from_numpy(IMAGES)).argmax(1).numpy() == CLASSES).mean() < 0.9
    assert without.report.tuned is not None
    assert without.report.tuned.accuracy is None


def test_what_is_judged_is_what_is_trained(untuned: Compressed) -> None:
    """Never worse in the sum of both parts, which are 1 each for a network that says nothing."""
    nothing = torch.zeros(5, 7)
    assert float(surprise(nothing, torch.arange(5))) == pytest.approx(1)
    assert Score(0.25, 0.5, 0.75).total == 0.75
    assert Score(float("nan"), 0.0).total == float("inf")
    assert str(Score(0.01)) == "20.0 dB"
    assert str(Score(0.01, 0.5, 0.875)) == "87.5% right"
    labels = waveedge.labels.Labels(CLASSES[:6], CLASSES[6:9])
    parts = list(IMAGES[:, None])
    tuning = Tuning(untuned.graph, net(), parts[:6], parts[6:9], 12, 0, labels)
    tuning.run()
    assert tuning.found.after.total < tuning.found.before.total


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The images as pictures in a folder for each class, and ``labels.csv`` beside it."""
    lines = ["name, class"]
    for index, (image, number) in enumerate(zip(IMAGES, CLASSES, strict=True)):
        pixels = (image.transpose(1, 2, 0) * 255 / 1.7).astype(np.uint8)
        place = tmp_path / "photos" / f"class, {number}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index}.png")
        lines.append(f'"class, {number}/{index}.png", {number}')
    (tmp_path / "labels.csv").write_text("\ufeff" + "\r\n".join(lines) + "\r\n\r\n")
    return tmp_path


def test_a_file_names_the_images_of_a_folder(untuned: Compressed, folder: Path) -> None:
    opened = waveedge.open_images(folder / "photos", spec=untuned.spec, size=(8, 8))
    found = read_labels(folder / "labels.csv", folder / "photos").of(opened, 3)
    wanted = [int(Path(name).parent.name[-1]) for name in opened.names]
    assert [*found.trained, *found.judged] == wanted
    assert len(found.trained) == len(opened.calibration)
    learnt = waveedge.tune(untuned, folder / "photos", labels=folder / "labels.csv", steps=12)
    assert learnt.report.tuned is not None
    assert learnt.report.tuned.accuracy is not None


def test_labels_keep_to_their_images(untuned: Compressed, tuned: Compressed) -> None:
    """Arrays, lists, tensors and image sets, whatever order images are drawn in."""
    pairs = waveedge.tune(untuned, list(IMAGES), labels=torch.from_numpy(CLASSES), steps=48)
    assert pairs.report.tuned == tuned.report.tuned
    opened = waveedge.open_images(list(IMAGES), spec=untuned.spec, size=(8, 8))
    order = [int(name.removeprefix("item ")) for name in opened.names]
    again = waveedge.tune(untuned, opened, labels=[int(CLASSES[i]) for i in order], steps=48)
    assert again.report.tuned == tuned.report.tuned


def test_a_state_of_other_labels_is_not_gone_on_from(untuned: Compressed, tmp_path: Path) -> None:
    state = tmp_path / "state"
    said: list[str] = []
    for labels in (CLASSES, CLASSES, (CLASSES + 1) % 3):
        waveedge.tune(untuned, IMAGES, labels=labels, steps=4, state=state, warn=said.append)
    assert said == [f"goes on after 4 steps, from {state}"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (CLASSES[:-1], "there are 47 labels and 48 images"),
        (CLASSES / 2, r"of shape \(48,\) and type float64, not a whole number"),
        (CLASSES > 1, "type bool, not a whole number"),
        (CLASSES[:, None], r"of shape \(48, 1\)"),
        (CLASSES + 1, "has class 3 for item .*, and the network has 3 outputs: classes 0 to 2"),
        (CLASSES - 1, "has class -1 for item"),
        (Path("labels.csv"), "no folder is given"),
    ],
)
def test_wrong_labels_are_refused(untuned: Compressed, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        waveedge.tune(untuned, IMAGES, labels=labels)


def test_labels_without_an_order_of_images_are_refused(untuned: Compressed, folder: Path) -> None:
    stream = iter(IMAGES)
    for source, message in (
        (None, "labels are given, and no images"),
        (stream, "need images in an order"),
        (folder / "photos", "need images in an order"),
        ([IMAGES[:24], IMAGES[24:]], "has no class for 48 of the 48 images"),
    ):
        labels = CLASSES[:2] if isinstance(source, list) else CLASSES
        with pytest.raises(InputError, match=message):
            waveedge.tune(untuned, source, labels=labels)


def test_a_network_of_images_takes_no_classes() -> None:
    dense = waveedge.compress(nn.Conv2d(3, 3, 1), IMAGES, bits=8)
    with pytest.raises(InputError, match=r"output of this network is of shape \(1, 3, 8, 8\)"):
        waveedge.tune(dense, IMAGES, labels=CLASSES)


def _lines(*lines: str) -> Callable[[Path], object]:
    return lambda file: file.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "No such file"),
        (lambda file: file.mkdir(), "cannot be read: Is a directory"),
        (_lines(""), "holds no labels"),
        (_lines("name,class"), "holds no labels"),
        (_lines("a.png,0", "b.png"), "line 2: it is not a name and a class"),
        (_lines("a.png,0,1"), "line 1: it is not a name and a class"),
        (_lines(",0"), "line 1: it is not a name and a class"),
        (_lines("a.png,cat"), "line 1: 'cat' is no class"),
        (_lines("a.png,1.0"), "'1.0' is no class"),
        (_lines("a.png,-1"), "'-1' is no class"),
        (_lines("a.png," + "9" * 5000), "is no class"),
        (_lines("a.png,0", "./a.png,1"), "line 2: ./a.png has a class already"),
        (_lines("a" * 200_000 + ",0"), "field larger than field limit"),
        (lambda file: file.write_bytes(b"a.png,0\n" * (9 << 20)), "at most 64 MiB"),
    ],
)
def test_a_file_that_holds_no_labels_is_refused(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "labels.csv")
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / "labels.csv", tmp_path)


def test_an_image_without_a_class_is_named(untuned: Compressed, folder: Path) -> None:
    file = folder / "labels.csv"
    lines = file.read_text().splitlines()
    gone = next(line for line in lines if "/7.png" in line)
    file.write_text("\n".join(line for line in lines if line != gone))
    with pytest.raises(InputError, match=r"no class for 1 of the 48 images, .*7\.png"):
        waveedge.tune(untuned, folder / "photos", labels=file)


def test_labels_are_worth_more_images(untuned: Compressed) -> None:
    assert images_wanted((8, 8)) == images_wanted((224, 224)) == (512, 128)
    assert images_wanted((512, 512)) == (128, 32)
    assert images_wanted((4096, 4096)) == (64, 16)
    many = np.random.default_rng(0).random((160, 3, 8, 8), np.float32)
    tuned = waveedge.tune(untuned, many, labels=np.arange(160) % 3, steps=1)
    assert tuned.report.quality.images == 40
