"""What shapes cannot tell, said wherever a checkpoint is used."""

from __future__ import annotations

from waveedge import console
from waveedge.spec import ModelSpec

__all__ = ["say_assumed"]


def say_assumed(spec: ModelSpec) -> None:
    """Print in one line what was assumed about a network, if anything was."""
    if spec.assumed:
        values = ", ".join(f"{name}={spec.config.get(name)}" for name in spec.assumed)
        console.say(f"assumed (shapes cannot tell; --set changes it): {values}")
