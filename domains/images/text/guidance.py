"""Classifier-free guidance (Ho & Salimans 2022).

It is the same in rollouts, in training and at the hand-over.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from graft.core import limits


@dataclass(frozen=True)
class Guidance:
    """Strength of the prompt: output = without + scale · (with − without).

    The guided network is one denoiser. It samples the rollouts, it finishes below the hand-over with its adapter off,
    and with ``train: guided`` it is trained through both of its branches, so that training and sampling use the same
    network.

    Args:
        guidance_scale: Guidance scale; 1 for none. For FLUX's distilled models leave it at 1 and use
            ``embedded_guidance_scale``.
        negative_prompt: Prompt of the branch "without"; the pipeline's own empty one if not given.
        embedded_guidance_scale: Guidance scale that is an input of networks distilled with guidance (FLUX).
        train: ``guided``, or ``conditional``: fine-tuning of the branch with the prompt alone, at half the cost. The
            network without guidance then learns the distribution, and sampling still adds guidance.
        prompt_dropout: Share of the samples with the negative prompt in ``conditional`` training.
    """

    guidance_scale: float = 7.5
    negative_prompt: "str | None" = None
    embedded_guidance_scale: float = 3.5
    train: Literal["guided", "conditional"] = "guided"
    prompt_dropout: float = 0.1

    def __post_init__(self) -> None:
        limits.check("model.guidance.guidance_scale", self.guidance_scale, 1)
        limits.check("model.guidance.prompt_dropout", self.prompt_dropout, 0, 1, below=True)

    @property
    def on(self) -> bool:
        """Return True if a step takes two network outputs."""
        return self.guidance_scale > 1

    def mix(self, both: Tensor) -> Tensor:
        """Return (B, ...) guided outputs of (2B, ...) outputs: without, then with the prompt."""
        without, given = both.chunk(2)
        return without + self.guidance_scale * (given - without)
