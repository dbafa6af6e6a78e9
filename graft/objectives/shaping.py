"""Shaping: GRAFT and P-GRAFT, the law of accepted states at one level (arXiv 2510.02692)."""

from typing import TYPE_CHECKING, Literal

from torch import Generator, Tensor

from graft.batches import TrainingBatch
from graft.errors import GraftError
from graft.objectives.base import Objective, ScoredRound

if TYPE_CHECKING:
    from graft.module import GraftModule
    from graft.rollouts import Rollouts

Target = Literal["transition", "trajectory", "renoised"]


class Shaping(Objective):
    """Denoising of the accepted draws, noised from the level u* on.

    With all draws accepted and weighted by exp(reward / temperature) (`graft.accept.ExponentialTilt` without a maximum)
    it is reward-weighted regression (Peters & Schaal 2007), at u* = 0 the one that Black et al. (2023) compare with;
    with all draws accepted alike (`graft.accept.AcceptAll`) it is the control that learns nothing of the reward. With a
    corrector (u* = 1) it is the noise of the accepted draws that the corrector learns to draw.

    Args:
        target: Of the loss at u* > 0. ``transition``: the recorded states' law, from the noise between them and the
            network's level; right whatever made them. ``trajectory``: the same law, from each trajectory's own final
            sample; right, and of less variance, if the sampler reverses the process in law and draws from the
            reference. ``renoised``: the law of the accepted final samples, noised to u*; the one to iterate with, for
            the same samplers. ``auto``: ``trajectory`` on the reference's draws and ``renoised`` on the current
            model's where they are right, else ``transition``. Measured (tests/benchmarks): ``trajectory`` had the best
            molecules, ``renoised`` the better toys with few accepted samples.
    """

    def __init__(self, target: Literal["auto", "transition", "trajectory", "renoised"] = "auto") -> None:
        super().__init__()
        self.asked: Literal["auto", "transition", "trajectory", "renoised"] = target

    def target(self, module: "GraftModule", source: Literal["reference", "current"]) -> Target:
        """What the loss aims at, for draws of ``source``.

        Raises:
            GraftError: What was asked for is biased there.
        """
        right = module.process.reverses_in_law
        if self.asked == "auto":
            return "transition" if not right else "trajectory" if source == "reference" else "renoised"
        if self.asked != "transition" and not right:
            raise GraftError(
                f"model.objective.target '{self.asked}' is biased unless the sampler reverses the process in law "
                "(eta=1): use 'transition'"
            )
        if self.asked == "trajectory" and source == "current":
            raise GraftError(
                "model.objective.target 'trajectory' is biased on draws of the current model (data.source=current): "
                "use 'renoised', 'transition' or 'auto'"
            )
        return self.asked

    def check(self, module: "GraftModule", data: "Rollouts") -> None:
        """See `Objective.check`: a target that is biased."""
        target = self.target(module, data.source.behaviour)
        if module.upper_level < 1:
            self.require_consistent(module)
        if not data.source.is_model and module.corrector is not None:
            raise GraftError("a scored file does not say what noise its samples came from: model.corrector needs draws")
        if not data.source.is_model and module.level > 0 and target != "renoised":
            raise GraftError(
                "a scored file has no states between noise and data: at model.level above 0 it needs a sampler that "
                f"reverses the process in law (eta=1) and the target 'renoised' or 'auto', not '{target}'"
            )

    def record_levels(self, module: "GraftModule") -> tuple[float, ...]:
        """See `Objective.record_levels`: u*."""
        return (module.level,) if module.level > 0 else ()

    def training_batch(self, module: "GraftModule", scored: ScoredRound) -> TrainingBatch:
        """See `Objective.training_batch`: the accepted states at u*, or at 0."""
        target, chunk, weight = self.target(module, scored.source), scored.chunk, scored.weight.float()
        if module.corrector is not None:  # the model's noise is the corrector's data
            return TrainingBatch(chunk.recorded[module.level], chunk.condition, weight)
        if module.level == 0 or target == "renoised":
            return TrainingBatch(chunk.state, chunk.condition, weight)
        final = chunk.state if target == "trajectory" else None
        return TrainingBatch(chunk.recorded[module.level], chunk.condition, weight, module.level, final)

    def loss(
        self, module: "GraftModule", examples: TrainingBatch, generator: "Generator | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective.loss`: `GraftModule.loss`."""
        return module.loss(examples, generator), {}

    def describe(self, module: "GraftModule") -> str:
        """See `Objective.describe`."""
        return "noise shaping" if module.corrector is not None else "P-GRAFT" if module.level > 0 else "GRAFT"
