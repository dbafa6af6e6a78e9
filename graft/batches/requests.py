"""Draws: what the network is asked to sample."""

from dataclasses import dataclass, field
from typing import Literal

from graft.state import Condition, State

Weights = Literal["reference", "tuned", "current"]
"""Whose draws: the reference's; the tuned model's, as it is judged and saved; or the current one's, as rounds have it.

The last two differ where an objective draws its rounds with other weights than those that are kept.
"""


@dataclass
class SampleRequest:
    """A request for samples, one for each row of ``condition``.

    Attributes:
        condition: What is given.
        seed_key: Seeds the generator, with the module's seed: what the draw is for.
        weights: Whose; all but the reference's hand over to the reference below the level.
        record: Levels to keep besides the last state.
        predict_x0: Ask the network for E[x_0 | x_u] at the levels to record, too.
        start: The level to start from, below 1 with ``state``.
        state: (B, ...) at ``start``; drawn from the prior if not given.
    """

    condition: Condition
    seed_key: tuple["int | str", ...]
    weights: Weights = "tuned"
    record: tuple[float, ...] = field(default=())
    predict_x0: bool = False
    start: float = 1.0
    state: "State | None" = None
