"""What a method draws, and what it cost."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Drawn:
    """Samples of a method.

    Attributes:
        items: The objects.
        rewards: Of each, NaN where it failed; None where drawing took none.
        reward_calls: That drawing took.
        denoiser_calls: Likewise.
    """

    items: list[Any]
    rewards: "list[float] | None"
    reward_calls: int
    denoiser_calls: int
