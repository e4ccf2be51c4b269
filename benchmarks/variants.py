"""Makes the forms of a network that are compared, as files, and says what is known of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from benchmarks.costs import account, executed, quantized_by_peer
from benchmarks.networks import EXAMPLES, Loaded, Network
from benchmarks.peers import PEERS, Peer
from benchmarks.records import Record, write_text
from benchmarks.trials import best_setting
from waveedge import load_artifact, save_artifact
from waveedge.compression.compress import compress
from waveedge.compression.reparameterize import reparameterize
from waveedge.console import say
from waveedge.cost import Cost, profile
from waveedge.export import export_model
from waveedge.runtime import Session

__all__ = ["OWN", "TITLES", "Made", "Workshop", "variants_of"]

OWN: dict[str, dict[str, Any] | None] = {
    "exact": None,
    "int8": {"bits": 8},
    "int8_wcc50": {"bits": 8, "wcc_ratio": 0.5},
    "int8_wcc25": {"bits": 8, "wcc_ratio": 0.25},
    "w8a4": {"bits": 4},
}
"""waveedge's own variants: fields of the recipe; None for the exact rewrites in float32."""

TITLES = {
    "published": "published, float32",
    "exact": "waveedge exact, float32",
    "int8": "waveedge w8a8",
    "w8a4": "waveedge w8a4",
    "int8_wcc50": "waveedge w8a8, WCC 50 %",
    "int8_wcc25": "waveedge w8a8, WCC 25 %",
    **{peer.name: peer.title for peer in PEERS},
}


@dataclass(frozen=True)
class Made:
    """A form of a network, ready to be measured.

    Attributes:
        variant: its name.
        path: a bundle folder or an ``.onnx`` file.
        account: operations and bytes, see :class:`benchmarks.costs.Account`.
        bits: ``requested``, and how many layers are ``executed`` in int8 and in float.
        artifact_bytes: size of the file that stores it.
        settings: how it was made; for a peer, also what else was tried.
        versions: of the packages that made it, other than waveedge's own environment.
    """

    variant: str
    path: Path
    account: dict[str, int]
    bits: dict[str, Any]
    artifact_bytes: int
    settings: Record
    versions: dict[str, str]

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.path / "model.onnx" if self.path.is_dir() else self.path


def variants_of(network: Network) -> list[str]:
    """List the variants that make sense for a network, beside ``published``."""
    own = [name for name in OWN if network.example or name in ("exact", "int8")]
    peers = [peer.name for peer in PEERS if network.int8 or not peer.int8]
    return [name for name in own if network.int8 or OWN[name] is None] + peers


class Workshop:
    """Makes and keeps the forms of one network.

    Args:
        network: which.
        folder: where files are kept; a variant that is there is not made again.
        quick: try only the first setting of each peer.
    """

    def __init__(self, network: Network, folder: Path, *, quick: bool = False) -> None:
        self.network = network
        self.folder = folder / network.name
        self.quick = quick
        self._failed: dict[str, Exception] = {}
        self.folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def loaded(self) -> Loaded:
        """The network in torch, and its images."""
        return self.network.load()

    @property
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
        if name in OWN:
            return self._own(name)
        return self._peer(next(peer for peer in PEERS if peer.name == name))

    def for_tensorrt(self, name: str) -> Path:
        """Return the ONNX file of a variant in TensorRT's encoding (int8, zero point 0)."""
        if OWN.get(name) is None:
            return self.make(name).model
        self.make(name)
        artifact = load_artifact(self._artifact(name))
        return self._bundle(f"{name}-zp0", artifact.graph, "onnx") / "model.onnx"

    def forget(self) -> None:
        """Make everything anew the next time; peers' files stay valid for the same input."""
        for note in self.folder.glob("*.json"):
            note.unlink()

    def _own(self, name: str) -> Made:
        recipe = OWN[name]
        if recipe is None:
            model = reparameterize(self.loaded.model, self.network.size)
            return self._float(name, model, "ort")
        compressed = compress(self.loaded.model, images=self.loaded.images, **recipe)
        save_artifact(compressed, self._artifact(name))
        bundle = self._bundle(name, compressed.graph, "ort")
        return Made(
            variant=name,
            path=bundle,
            account=self._account(
                profile(compressed.graph, self.network.size), bundle / "model.onnx"
            ),
            bits={
                "requested": compressed.recipe.label().split("-")[0],
                **executed(bundle / "model.onnx"),
            },
            artifact_bytes=self._artifact(name).stat().st_size,
            settings={"recipe": recipe},
            versions={},
        )

    def _float(self, name: str, model: nn.Module, target: str) -> Made:
        bundle = self._bundle(name, model, target)
        file = bundle / "model.onnx"
        example = self.network.example if name == "published" else None
        stored = EXAMPLES / example / "model.pt" if example else file
        return Made(
            variant=name,
            path=bundle,
            account=self._account(profile(model, self.network.size), file),
            bits={"requested": "w32a32", **executed(file)},
            artifact_bytes=stored.stat().st_size,
            settings={},
            versions={},
        )

    def _artifact(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _bundle(self, name: str, model: nn.Module, target: str) -> Path:
        return export_model(
            model,
            self.folder / name,
            target=target,
            input_size=self.network.size,
            images=self.images,
        ).path

    def _account(self, cost: Cost, model: Path) -> dict[str, int]:
        output = np.asarray(Session(model, provider="cpu").run(self.images[0]))
        return account(cost, self.images[0].size, output.size).to_dict()

    def _peer(self, peer: Peer) -> Made:
        calibration = self.folder / "calibration.npz"
        np.savez(calibration, images=np.concatenate(self.loaded.images.calibration))
        best = best_setting(
            peer,
            self.published.model,
            calibration,
            self.images,
            cache=self.folder.parent / "peers",
            first_only=self.quick,
        )
        cost = profile(self.loaded.model, self.network.size)
        return Made(
            variant=peer.name,
            path=best.file,
            account=self._account(quantized_by_peer(cost, best.file), best.file),
            bits={"requested": "w8a8" if peer.int8 else "w32a32", **executed(best.file)},
            artifact_bytes=best.file.stat().st_size,
            settings={"chosen": best.setting, "options": best.options, "tried": best.tried},
            versions=best.versions,
        )
