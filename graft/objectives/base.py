"""Objective: what a rollout must record, what a training example holds, and the loss."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Generator, Tensor, nn

from graft.accept import AcceptAll
from graft.batches import TrainingBatch
from graft.errors import GraftError
from graft.network import EMA
from graft.recorded_arguments import Described
from graft.rounds import Chunk

if TYPE_CHECKING:
    from graft.module import GraftModule
    from graft.rollouts import Rollouts


_ENDS = (("level", ">", 0), ("upper_level", "<", 1))  # settings, and their values where the whole clock is trained


@dataclass
class ScoredRound:
    """What a round accepted, as an objective gets it; all of its draws for one of `Objective.needs_rejected`.

    Attributes:
        chunk: The A draws: final states, states at the recorded levels, conditions; they lie in a file.
        rewards: (A,) a larger one is better.
        groups: (A,) integer of the condition that each was drawn under.
        weight: (A,) how much each of them counts, as the acceptance rule has it; 0 if it was rejected.
        source: Whose draws they are.
    """

    chunk: Chunk
    rewards: Tensor
    groups: Tensor
    weight: Tensor
    source: Literal["reference", "current"]


class Objective(Described, nn.Module, ABC):
    """What the network of a `GraftModule` learns from rounds of draws.

    A round goes `start` (once), draws with the weights of `drawing` that keep the states at `levels`, rewards and
    acceptance, `examples`, and then `loss` for every batch of them. What it keeps between rounds are buffers (or extra
    state), so that checkpoints hold it; it is rebuilt by `attach`.
    """

    needs_rejected: bool = False
    """It learns from the draws that the rule rejected as well, and is given them, with rewards that may be NaN."""
    uses_rewards: bool = False
    """It learns from the rewards themselves, not only from what the rule accepts by them."""

    def setup(self, module: "GraftModule") -> None:
        """Begin anew with ``module``, whose weights were just made, loaded or mixed."""

    def check(self, module: "GraftModule", data: "Rollouts") -> None:
        """Refuse, before anything is drawn, what this objective would do wrong.

        Raises:
            GraftError: In one sentence.
        """

    def record_levels(self, module: "GraftModule") -> tuple[float, ...]:
        """The levels, besides 0, whose states a rollout records."""
        return ()

    def on_round_start(self, module: "GraftModule", number: int) -> None:
        """A round begins, counted from 0; after an interruption it may begin again."""

    def on_round_resume(self, module: "GraftModule") -> None:
        """Resume a round that was interrupted between two steps, for which `on_round_start` was called before."""

    def behaviour_weights(self, module: "GraftModule") -> AbstractContextManager[None]:
        """Within the block the network has the weights with which rounds of source ``current`` are drawn."""
        return module.ema_weights()

    @abstractmethod
    def training_batch(self, module: "GraftModule", scored: ScoredRound) -> TrainingBatch:
        """What a round gives to learn from."""

    @abstractmethod
    def loss(
        self, module: "GraftModule", examples: TrainingBatch, generator: "Generator | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss of a batch, what else is to be logged by name)."""

    def describe(self, module: "GraftModule") -> str:
        """The method's name."""
        return type(self).__name__

    def require_consistent(self, module: "GraftModule") -> None:
        """For those that noise final samples anew: at the ends of a part of the clock that must be their law.

        Raises:
            GraftError: The sampler does not reverse the process in law.
        """
        partial = [f"model.{name} {bound} {end}" for name, bound, end in _ENDS if getattr(module, name) != end]
        if partial and not module.process.reverses_in_law:
            raise GraftError(
                f"{type(self).__name__} noises final samples anew, which is biased at {' and '.join(partial)} unless "
                "the sampler reverses the process in law: use eta=1, or the whole clock"
            )


class OnPolicy(Objective):
    """An objective that compares the network with the one that drew: the old policy, a copy of the trained weights.

    It learns from all draws of the current model, good and bad, in the round in which they were drawn.
    """

    uses_rewards = True
    behaviour: EMA

    def setup(self, module: "GraftModule") -> None:
        """See `Objective.setup`."""
        self.behaviour = EMA(module.backbone, decay=0.0)

    def check(self, module: "GraftModule", data: "Rollouts") -> None:
        """See `Objective.check`."""
        name = type(self).__name__
        if module.corrector is not None:
            raise GraftError(f"{name} trains the model itself, not a corrector: use model.objective=Shaping")
        if data.source.name != "current":
            raise GraftError(f"{name} learns from the current model's own draws: use data.source=current")
        if not isinstance(data.accept, AcceptAll):
            raise GraftError(f"{name} learns from bad draws as from good ones: use data.accept=graft.accept.AcceptAll")
        if data.accept.deduplicate:
            raise GraftError(f"{name} needs the law that draws, copies included: use data.accept.deduplicate=false")
        if data.replay_rounds != 1:
            raise GraftError(f"{name} learns from the draws of one round at a time: use data.replay_rounds=1")

    def behaviour_weights(self, module: "GraftModule") -> AbstractContextManager[None]:
        """See `Objective.behaviour_weights`: those of the old policy."""
        return self.behaviour.average_parameters(module.backbone)
