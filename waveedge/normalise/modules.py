"""Modules under qualified names, with containers made on the way."""

from __future__ import annotations

from torch import nn

__all__ = ["owner_of", "set_module"]


def owner_of(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds what ``name`` names, and the last part of the name.

    Modules on the way that do not exist are made, empty.
    """
    *path, leaf = name.split(".")
    owner = root
    for part in path:
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
    return owner, leaf


def set_module(root: nn.Module, name: str, module: nn.Module) -> str:
    """Put ``module``, in eval mode, at the qualified name ``name``, replacing what is there."""
    owner, leaf = owner_of(root, name)
    owner.add_module(leaf, module.eval())
    return name
