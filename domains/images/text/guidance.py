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
        guidance_scale: 1: none. For FLUX's distilled models leave it at 1 and use ``embedded``.
        negative_prompt: The prompt in the place of "without"; the pipeline's own empty one if not given.
        embedded_guidance_scale: The scale that a network is told that was distilled with guidance (FLUX).
        train: ``guided``, or ``conditional``: the usual fine-tuning of the branch with the prompt, for half the cost.
            Then the law that is learned is that of the network without guidance, which sampling still adds on top.
        prompt_dropout: Share of the samples whose prompt is replaced by the negative one where ``conditional`` trains.
    """

    guidance_scale: float = 7.5
    negative_prompt: "str | None" = None
    embedded_guidance_scale: float = 3.5
    train: Literal["guided", "conditional"] = "guided"
    prompt_dropout: float = 0.1

    def __post_init__(self) -> None:
        if not self.guidance_scale >= 1:
            raise GraftError(
                f"model.guidance.guidance_scale is {self.guidance_scale:g}, but it is at least 1, which is no guidance"
            )
        if not 0 <= self.prompt_dropout < 1:
            raise GraftError(f"model.guidance.prompt_dropout is {self.prompt_dropout:g}, but it is a share in [0, 1)")

    @property
    def on(self) -> bool:
        """The network is asked twice."""
        return self.guidance_scale > 1

    def mix(self, both: Tensor) -> Tensor:
        """(B, ...) of the outputs (2B, ...): without, then with the prompt."""
        without, given = both.chunk(2)
        return without + self.guidance_scale * (given - without)
