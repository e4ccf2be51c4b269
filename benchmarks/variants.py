"""Makes the forms of a network that are compared, as files, and says what is known of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.costs import account, executed, executed_by_bundle, quantized_by_peer
from benchmarks.networks import EXAMPLES, Loaded, Network
from benchmarks.peers import Attempt, make, title_of
from benchmarks.records import Record, write_text
from waveedge import Compressed, load_artifact, save_artifact
from waveedge.compression.compress import compress
from waveedge.compression.reparameterize import reparameterize
from waveedge.console import say
from waveedge.cost import Cost, profile
from waveedge.errors import MissingDependencyError
from waveedge.export import export_model
from waveedge.runtime import Session
from waveedge.runtime.openvino import runs_bfloat16

__all__ = ["OWN", "Made", "Own", "Workshop", "on_paper", "title", "variants_of"]


@dataclass(frozen=True)
class Own:
    """How one of waveedge's own variants is made.

    Attributes:
        title: for readers.
        recipe: its fields; None for the exact rewrites in floating point.
        target: that it is exported for, and so the runtime that it is measured on.
        precision: of floating-point layers; the target's default where None.
        trained: made of the trained networks alone (True), of the full-size ones alone (False), or
            of all (None).
    """

    title: str
    recipe: dict[str, Any] | None
    target: str = "ort"
    precision: str | None = None
    trained: bool | None = None


OWN = {
    "exact": Own("waveedge exact, float32", None),
    "int8": Own("waveedge w8a8", {"bits": 8}),
    "exact_openvino": Own("waveedge exact on OpenVINO, float32", None, "openvino"),
    "bf16_openvino": Own("waveedge exact on OpenVINO, bfloat16", None, "openvino", "bfloat16"),
    "int8_openvino": Own("waveedge w8a8 on OpenVINO", {"bits": 8}, "openvino"),
    "int8_whole": Own("waveedge w8a8, not shrunk", {"bits": 8, "shrink": False}),
    # Time and memory alone: with random weights there is nothing to tune.
    "int8_third": Own(
        "waveedge w8a8, a third of the multiply-adds",
        {"bits": 8, "macs": 0.33, "tune": 0},
        trained=False,
    ),
    "line": Own("waveedge w8a4, WCC 50 %", {"bits": 4, "wcc_ratio": 0.5}, trained=True),
    "int8_topk50": Own(
        "waveedge w8a8, top-k WCC 50 %, untuned",
        {"bits": 8, "wcc_ratio": 0.5, "wcc_select": "topk", "tune": 0},
        trained=True,
    ),
}
"""waveedge's own variants."""


def title(variant: str) -> str:
    """A variant for readers."""
    if variant == "published":
        return "published, float32"
    return OWN[variant].title if variant in OWN else title_of(variant)


@dataclass(frozen=True)
class Made:
    """A form of a network, ready to be measured.

    Attributes:
        variant: its name.
        path: a bundle folder, or a peer's file.
        account: operations and bytes, see :class:`benchmarks.costs.Account`; None for what a peer
            made in a format of its own.
        bits: ``requested``, and how many layers are executed in ``int8`` and in ``float``; those
            are None where the format does not tell.
        artifact_bytes: size of the file that stores it.
        settings: how it was made; for a peer, also what else was tried.
        versions: of the packages that made it, other than waveedge's own environment.
    """

    variant: str
    path: Path
    account: dict[str, int] | None
    bits: dict[str, Any]
    artifact_bytes: int
    settings: Record
    versions: dict[str, str]

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.path / "model.onnx" if self.path.is_dir() else self.path


def on_paper(made: Made) -> Record:
    """What a record has of a form before anything is measured."""
    return {
        "artifact_bytes": made.artifact_bytes,
        **(made.account or {}),
        "bits": made.bits,
        "settings": made.settings,
    }


def variants_of(network: Network) -> list[str]:
    """List waveedge's variants that make sense for a network, beside ``published``."""
    return [
        name
        for name, own in OWN.items()
        if own.trained in (None, network.example is not None)
        and (network.int8 or own.recipe is None)
        and (own.precision != "bfloat16" or _has_bfloat16())
    ]


def _has_bfloat16() -> bool:
    # Where not, OpenVINO's own row of the contest says so, with the reason.
    try:
        return runs_bfloat16()
    except MissingDependencyError:
        return False


class Workshop:
    """Makes and keeps the forms of one network.

    Args:
        network: which.
        folder: where files are kept; a variant that is there is not made again.
        own: waveedge's variants by name.
        seed: of the choice of images.
    """

    def __init__(
        self, network: Network, folder: Path, own: Mapping[str, Own] = OWN, seed: int = 0
    ) -> None:
        self.network, self.own, self.seed = network, own, seed
        self.folder = folder / network.name
        self._failed: dict[str, Exception] = {}
        self.folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def loaded(self) -> Loaded:
        """The network in torch, and its images."""
        return self.network.load(self.seed)

    @cached_property
    def images(self) -> Sequence[Any]:
        """Images that nothing was calibrated on."""
        return self.loaded.images.held_out[:4]

    @cached_property
    def published(self) -> Made:
        """The network exported as it was published: what every ratio refers to."""
        return self.make("published")

    def make(self, name: str) -> Made:
        """Make a variant, or return it where it was made before.

        Raises:
            Exception: whatever keeps it from being made; again when it is asked for again.
        """
        note = self.folder / f"{name}.json"
        if note.is_file():
            fields = json.loads(note.read_text())
            return Made(**{**fields, "path": self.folder.parent / fields["path"]})
        if name in self._failed:
            raise self._failed[name]
        say(f"{self.network.name}: making {name}")
        try:
            made = self._make(name)
        except Exception as error:
            self._failed[name] = error
            raise
        relative = str(made.path.relative_to(self.folder.parent))
        write_text(note, json.dumps({**asdict(made), "path": relative}, indent=1))
        return made

    def _make(self, name: str) -> Made:
        if name == "published":
            return self._float(name, self.loaded.model, "onnx")
        return self._own(name)

    def forget(self) -> None:
        """Make everything anew the next time; peers' files stay valid for the same input."""
        for pattern in ("*.json", "*.safetensors", "*.pt2"):
            for file in self.folder.glob(pattern):
                file.unlink()

    def _own(self, name: str) -> Made:
        own = self.own[name]
        if own.recipe is None:
            model = reparameterize(self.loaded.model, self.network.size)
            return self._float(name, model, own.target, own.precision)
        compressed = self.compressed(name)
        bundle = self._bundle(name, compressed.graph, own.target, own.precision)
        requested = compressed.recipe.label().split("-")[0]
        return Made(
            variant=name,
            path=bundle,
            account=self._account(profile(compressed.graph, self.network.size), bundle),
            bits={"requested": requested, **executed_by_bundle(bundle)},
            artifact_bytes=self.artifact(name).stat().st_size,
            settings={"recipe": own.recipe},
            versions={},
        )

    def compressed(self, name: str) -> Compressed:
        """The variant's artifact; variants for other targets share it."""
        recipe = self.own[name].recipe
        assert recipe is not None
        return self.compressed_by(recipe)

    def compressed_by(self, recipe: Mapping[str, Any]) -> Compressed:
        """The artifact that a recipe makes."""
        file = self._file_of(recipe)
        if not file.is_file():
            loaded = self.loaded
            made = compress(loaded.model, images=loaded.images, warn=say, **recipe)
            save_artifact(made, file)
        return load_artifact(file)

    def _float(
        self, name: str, model: nn.Module, target: str, precision: str | None = None
    ) -> Made:
        bundle = self._bundle(name, model, target, precision)
        example = self.network.example if name == "published" else None
        stored = EXAMPLES / example / "model.pt" if example else bundle / "model.onnx"
        return Made(
            variant=name,
            path=bundle,
            account=self._account(profile(model, self.network.size), bundle),
            bits={"requested": "w32a32", **executed_by_bundle(bundle)},
            artifact_bytes=stored.stat().st_size,
            settings={},
            versions={},
        )

    def artifact(self, name: str) -> Path:
        """The file that a variant's artifact is kept in."""
        return self._file_of(self.own[name].recipe or {})

    def _file_of(self, recipe: Mapping[str, Any]) -> Path:
        label = "-".join(f"{field}{value}" for field, value in recipe.items())
        return self.folder / f"{label}.safetensors"

    def _bundle(
        self, name: str, model: nn.Module, target: str, precision: str | None = None
    ) -> Path:
        return export_model(
            model,
            self.folder / name,
            target=target,
            precision=precision,
            input_size=self.network.size,
            images=self.images,
        ).path

    def _account(self, cost: Cost, model: Path) -> dict[str, int]:
        output = np.asarray(Session(model).run(self.images[0]))
        return account(cost, self.images[0].size, output.size).to_dict()

    def attempt(self, attempt: Attempt) -> Made:
        """Let a peer make its form of the published network.

        Raises:
            MissingDependencyError: the peer is not installed.
            ExportError: it failed.
        """
        calibration = self.folder / "calibration.npz"
        np.savez(calibration, images=np.concatenate(self.loaded.images.calibration))
        source = self.published.model
        if attempt.peer.runtime == "inductor":
            source = self.folder / "published.pt2"
            if not source.is_file():
                image = torch.from_numpy(self.images[0])
                torch.export.save(torch.export.export(self.loaded.model, (image,)), source)
        file, versions = make(attempt, source, calibration, self.folder.parent / "peers")
        is_onnx = attempt.peer.runtime == "onnxruntime"
        cost = profile(self.loaded.model, self.network.size)
        layers = executed(file) if is_onnx else {"int8": None, "float": None}
        return Made(
            variant=attempt.name,
            path=file,
            account=self._account(quantized_by_peer(cost, file), file) if is_onnx else None,
            bits={"requested": "w8a8" if attempt.peer.int8 else "w32a32", **layers},
            artifact_bytes=sum(
                part.stat().st_size
                for part in file.parent.glob(f"{file.stem}.*")
                if part.suffix not in (".json", ".log")
            ),
            settings=attempt.options,
            versions=versions,
        )
