"""Objective: what a round makes the tuned network learn."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Generator, Tensor, nn
from typing_extensions import override

from graft.accept import AcceptAll, AcceptanceRule
from graft.core.datatypes import Chunk, TrainingBatch
from graft.core.recorded_arguments import Described
from graft.errors import GraftError
from graft.network import EMA
from graft.policy import Policy


@dataclass(frozen=True)
class RoundSpec:
    """The settings of rounds that an objective has to check.

    Attributes:
        source: ``reference``, ``current``, or the name of a scored file.
        behaviour: The network whose samples the objective has to assume: ``reference`` or ``current``.
        is_sampled: The model samples and the reward scores; False for a scored file.
        accept: The acceptance rule.
        replay_rounds: Number of rounds that are trained on together.
        recorded: Levels above 0 whose states a scored file holds.
    """

    source: str
    behaviour: Literal["reference", "current"]
    is_sampled: bool
    accept: AcceptanceRule
    replay_rounds: int = 1
    recorded: tuple[float, ...] = ()

    def has_states(self, level: float) -> bool:
        """Return True if the samples of rounds come with their states at a level above 0."""
        return self.is_sampled or level in self.recorded


@dataclass
class ScoredRound:
    """The accepted samples of a round with their rewards; all its samples for one of `Objective.needs_rejected`.

    Attributes:
        chunk: The A samples: final states, states at the recorded levels, conditions. They lie in a file.
        rewards: (A,) rewards, negated where a smaller reward is better.
        groups: (A,) integer of each sample's condition.
        weight: (A,) acceptance weight of each sample; 0 if the rule rejected it.
        source: The network that sampled.
        prefix: (A,) integer of the prefix of each sample; None if no samples share their first steps.
    """

    chunk: Chunk
    rewards: Tensor
    groups: Tensor
    weight: Tensor
    source: Literal["reference", "current"]
    prefix: "Tensor | None" = None


class Objective(Described, nn.Module, ABC):
    """The loss that trains the tuned network of a `Policy` on rounds of samples.

    `setup` is called once. A round calls `on_round_start`, samples with the states at `record_levels`, scores, accepts,
    and calls `training_batch` once and `loss` for each batch. State that an objective keeps between rounds is in
    buffers or extra state, so that checkpoints hold it.
    """

    needs_rejected: bool = False
    """The objective learns from rejected samples too. It gets all samples of a round, with rewards that may be NaN."""
    uses_rewards: bool = False
    """The objective learns from the rewards themselves, in addition to the acceptance that depends on them."""
    repeats_reference_error: bool = False
    """The objective trains on accepted samples alone, by the policy's own loss: errors that all samples share stay."""

    def setup(self, policy: Policy) -> None:
        """Start with a policy whose weights were just made, loaded or mixed."""

    def check(self, policy: Policy, spec: RoundSpec) -> None:
        """Raise GraftError before sampling if the objective would be wrong with these settings."""

    def record_levels(self, policy: Policy) -> tuple[float, ...]:
        """Return the levels above 0 whose states rounds record."""
        return ()

    def on_round_start(self, policy: Policy, number: int) -> None:
        """Prepare for round ``number``, counted from 0. A round that is interrupted while sampling starts again."""

    def on_round_resume(self, policy: Policy) -> None:
        """Prepare for the rest of a round that was interrupted while training."""

    @abstractmethod
    def training_batch(self, policy: Policy, scored: ScoredRound) -> TrainingBatch:
        """Return what a round gives to train on."""

    @abstractmethod
    def loss(
        self, policy: Policy, batch: TrainingBatch, generator: "Generator | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss () of a batch, and further values to log by name."""

    def describe(self, policy: Policy) -> str:
        """Return the name of the method."""
        return type(self).__name__

    def require_consistent(self, policy: Policy) -> None:
        """Raise GraftError if noising final samples again is biased for this policy.

        An objective that noises final samples needs a sampler that reverses the forward process in distribution, unless
        the tuned network samples the whole clock.
        """
        low, high = policy.interval.low, policy.interval.high
        partial = ["model.level > 0"] * (low > 0) + ["model.upper_level < 1"] * (high < 1)
        if partial and not policy.process.reverses_in_distribution(high if high < 1 else low):
            raise GraftError(
                f"{type(self).__name__} noises final samples again, which is biased at {' and '.join(partial)} unless "
                "the sampler reverses the process in distribution: use eta=1, eta_above of at least that level, or the "
                "whole clock"
            )


class OnPolicy(Objective):
    """An objective that compares the network with the one that sampled, a copy of the trained weights.

    It learns from all samples of the current model, good and bad, in the round in which they were sampled.
    """

    uses_rewards = True

    @override
    def setup(self, policy: Policy) -> None:
        policy.behaviour = EMA(policy.backbone, decay=0.0)

    @override
    def check(self, policy: Policy, spec: RoundSpec) -> None:
        name = type(self).__name__
        if policy.corrector is not None:
            raise GraftError(f"{name} trains the model itself, not a corrector: use model.objective=Shaping")
        if spec.source != "current":
            raise GraftError(f"{name} learns from the current model's own draws: use data.source=current")
        if not isinstance(spec.accept, AcceptAll):
            raise GraftError(f"{name} learns from bad draws as from good ones: use data.accept=graft.accept.AcceptAll")
        if spec.accept.deduplicate:
            raise GraftError(f"{name} needs all samples, duplicates included: use data.accept.deduplicate=false")
        if spec.replay_rounds != 1:
            raise GraftError(f"{name} learns from the draws of one round at a time: use data.replay_rounds=1")

    def sampling_weights(self, policy: Policy) -> EMA:
        """Return the weights that the round was sampled with."""
        assert policy.behaviour is not None, "set by setup"
        return policy.behaviour
