"""Shaping: GRAFT and P-GRAFT, which learn the distribution of accepted states at one level (arXiv 2510.02692)."""

from typing import Literal

from torch import Generator, Tensor
from typing_extensions import override

from graft.core.datatypes import TrainingBatch
from graft.errors import GraftError
from graft.objectives.base import Objective, RoundSpec, ScoredRound
from graft.policy import Policy

Target = Literal["transition", "trajectory", "renoised"]


class Shaping(Objective):
    """Train on the accepted samples by the denoising loss, noised from level u* on.

    If all samples are accepted with weights exp(reward / temperature) (`graft.accept.ExponentialTilt` without a
    maximum), this is reward-weighted regression (Peters & Schaal 2007); at u* = 0 it is the baseline of Black et al.
    (2023). If all samples are accepted with equal weights (`graft.accept.AcceptAll`), it is a control that learns
    nothing of the reward. With a corrector, which hands over at u* = 1, it is the corrector that learns: it learns the
    noise of the accepted samples.

    Args:
        target: The target of the loss at u* > 0. ``transition``: the distribution of the recorded states, learned from
            the noise between level u* and the network's level; it is unbiased for every sampler. ``trajectory``: the
            same distribution, learned from the final sample of each trajectory; it has less variance, and is unbiased
            if the sampler reverses the process in distribution and samples from the reference. ``renoised``: the
            distribution of the accepted final samples, noised to u*; it suits rounds from the current model, with the
            same samplers. ``auto``: ``trajectory`` for samples of the reference and ``renoised`` for samples of the
            current model where these are unbiased, else ``transition``.
    """

    repeats_reference_error = True

    def __init__(self, target: Literal["auto", "transition", "trajectory", "renoised"] = "auto") -> None:
        super().__init__()
        self.setting: Literal["auto", "transition", "trajectory", "renoised"] = target

    def target(self, policy: Policy, source: Literal["reference", "current"]) -> Target:
        """Return the target of the loss for samples of ``source``.

        Raises:
            GraftError: The chosen target is biased for them.
        """
        right = policy.process.reverses_in_distribution(policy.handover_level)
        if self.setting == "auto":
            return "transition" if not right else "trajectory" if source == "reference" else "renoised"
        if self.setting != "transition" and not right:
            raise GraftError(
                f"model.objective.target '{self.setting}' is biased unless the sampler reverses the process "
                "in distribution from model.level down (eta=1, or eta_above at least model.level): use 'transition'"
            )
        if self.setting == "trajectory" and source == "current":
            raise GraftError(
                "model.objective.target 'trajectory' is biased on draws of the current model (data.source=current): "
                "use 'renoised', 'transition' or 'auto'"
            )
        return self.setting

    @override
    def check(self, policy: Policy, spec: RoundSpec) -> None:
        target, level = self.target(policy, spec.behaviour), policy.handover_level
        if policy.interval.high < 1:
            self.require_consistent(policy)
        if spec.has_states(level) or level == 0:
            return
        if policy.corrector is not None:
            raise GraftError("a scored file does not say what noise its samples came from: model.corrector needs draws")
        if target != "renoised":
            raise GraftError(
                f"the scored file {spec.source} has no states at model.level {level:g}: that level needs "
                "a sampler that reverses the process in distribution from it down (eta=1, or eta_above at least "
                f"model.level) and the target 'renoised' or 'auto', not '{target}'"
            )

    @override
    def record_levels(self, policy: Policy) -> tuple[float, ...]:
        return (policy.handover_level,) if policy.handover_level > 0 else ()

    @override
    def training_batch(self, policy: Policy, scored: ScoredRound) -> TrainingBatch:
        target, chunk, weight = self.target(policy, scored.source), scored.chunk, scored.weight.float()
        level = policy.handover_level
        if policy.corrector is not None:  # the model's noise is the corrector's data
            return TrainingBatch(chunk.recorded[level], chunk.condition, weight)
        if level == 0 or target == "renoised":
            return TrainingBatch(chunk.state, chunk.condition, weight)
        final = chunk.state if target == "trajectory" else None
        return TrainingBatch(chunk.recorded[level], chunk.condition, weight, level, final)

    @override
    def loss(
        self, policy: Policy, batch: TrainingBatch, generator: "Generator | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return policy.loss(batch, generator), {}

    @override
    def describe(self, policy: Policy) -> str:
        return "noise shaping" if policy.corrector is not None else "P-GRAFT" if policy.handover_level > 0 else "GRAFT"
