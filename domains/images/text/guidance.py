"""Classifier-free guidance (Ho & Salimans 2022): in rollouts, in training and at the hand-over alike."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from graft.errors import GraftError


@dataclass(frozen=True)
class Guidance:
    """How strongly the prompt guides: output = without + scale · (with − without).

    The guided network is one denoiser: it draws the rollouts, it finishes below the hand-over with its adapter off, and
    (``train: guided``) it is what learns, through both of its branches, so that what is learned is what samples.

    Args:
        scale: 1: none. For FLUX's distilled models leave it at 1 and use ``embedded``.
        negative: The prompt in the place of "without"; the pipeline's own empty one if not given.
        embedded: The scale that a network is told that was distilled with guidance (FLUX).
        train: ``guided``, or ``conditional``: the usual fine-tuning of the branch with the prompt, for half the cost.
            Then the law that is learned is that of the network without guidance, which sampling still adds on top.
        drop: Share of the samples whose prompt is replaced by the negative one where ``conditional`` trains.
    """

    scale: float = 7.5
    negative: "str | None" = None
    embedded: float = 3.5
    train: Literal["guided", "conditional"] = "guided"
    drop: float = 0.1

    def __post_init__(self) -> None:
        if not self.scale >= 1:
            raise GraftError(f"model.guidance.scale is {self.scale:g}, but it is at least 1, which is no guidance")
        if not 0 <= self.drop < 1:
            raise GraftError(f"model.guidance.drop is {self.drop:g}, but it is a share in [0, 1)")

    @property
    def on(self) -> bool:
        """The network is asked twice."""
        return self.scale > 1

    def mix(self, both: Tensor) -> Tensor:
        """(B, ...) of the outputs (2B, ...): without, then with the prompt."""
        without, given = both.chunk(2)
        return without + self.scale * (given - without)
