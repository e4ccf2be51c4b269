"""What the configurations of all network families have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from waveedge.spec import Colour, Task

__all__ = ["NetworkConfig"]


class NetworkConfig(BaseModel):
    """Everything that distinguishes one network of a family from another, and what follows from it.

    The fields are the constructor arguments of the family's module; the properties say which
    images it takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def task(self) -> Task:
        """What the output means."""
        raise NotImplementedError

    @property
    def channels(self) -> int:
        """Channels of the image."""
        return 3

    @property
    def colour(self) -> Colour:
        """What the channels of an image of three mean."""
        return "rgb"

    @property
    def size_multiple(self) -> int:
        """What image height and width must be multiples of."""
        return 1

    @property
    def minimum_size(self) -> int:
        """Smallest image height and width."""
        return self.size_multiple

    @property
    def usual_size(self) -> tuple[int, int]:
        """Height and width that the family's checkpoints are usually run at."""
        raise NotImplementedError
