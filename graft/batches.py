"""What passes between the data and the model: requests for draws, and training examples."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from graft.state import Condition, State, take

Weights = Literal["reference", "tuned", "current"]
"""Whose draws: the reference's; the tuned model's, as it is judged and saved; or the current one's, as rounds have it.

The last two differ where an objective draws its rounds with other weights than those that are kept.
"""


@dataclass
class Examples:
    """A training batch, or all that a round gives; what it means is the objective's.

    Attributes:
        state: (B, ...) samples at ``level``; for an objective of whole trajectories (B, levels, ...).
        condition: What they were drawn under.
        weight: (B,) what the rewards make of each: how much it counts, its advantage, its optimality probability.
        level: Of the states; 0 for data.
        target: The final samples of the same trajectories, for target (b).
    """

    state: State
    condition: Condition
    weight: "Tensor | None" = None
    level: float = 0.0
    target: "State | None" = None

    def take(self, index: Tensor) -> "Examples":
        """The rows ``index``."""
        condition = take(self.condition, index)
        assert isinstance(condition, dict)
        return Examples(
            take(self.state, index),
            condition,
            None if self.weight is None else self.weight[index],
            self.level,
            None if self.target is None else take(self.target, index),
        )


@dataclass
class Draws:
    """A request for samples, one for each row of ``condition``.

    Attributes:
        condition: What is given.
        purpose: Seeds the generator, with the module's seed: what the draw is for.
        weights: Whose; all but the reference's hand over to the reference below the level.
        record: Levels to keep besides the last state.
        estimate: Ask the network for E[x_0 | x_u] at the levels to record, too.
        start: The level to start from, below 1 with ``state``.
        state: (B, ...) at ``start``; drawn from the prior if not given.
    """

    condition: Condition
    purpose: tuple["int | str", ...]
    weights: Weights = "tuned"
    record: tuple[float, ...] = field(default=())
    estimate: bool = False
    start: float = 1.0
    state: "State | None" = None
