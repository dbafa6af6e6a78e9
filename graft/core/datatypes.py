"""The data that passes between the parts of graft: requests for samples, chunks of samples, training batches."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from graft.core.state import Condition, State, apply, take

Weights = Literal["reference", "tuned", "current"]
"""The network that samples: the reference, the tuned network as it is evaluated and saved, or the current one.

``current`` are the weights that rounds sample with. An objective may choose other ones for them than the tuned ones.
"""


@dataclass
class SampleRequest:
    """A request for samples, one for each row of ``condition``.

    Attributes:
        condition: The conditions of the samples.
        seed_key: The key of the random generator. The module's seed is added to it.
        weights: The network that samples. All but the reference hand over to the reference below the level.
        record: The levels whose states are kept in addition to the final state.
        predict_x0: Predict E[x_0 | x_u] at the recorded levels as well.
        start: The level that sampling starts from. A level below 1 needs ``state``.
        state: (B, ...) the states at ``start``; None samples them from the prior.
        samples_per_prefix: Number of neighbouring samples, with equal conditions, that share their steps above
            `graft.policy.Policy.upper_level`.
    """

    condition: Condition
    seed_key: tuple["int | str", ...]
    weights: Weights = "tuned"
    record: tuple[float, ...] = field(default=())
    predict_x0: bool = False
    start: float = 1.0
    state: "State | None" = None
    samples_per_prefix: int = 1


@dataclass
class Chunk:
    """The samples of one chunk of a round.

    Attributes:
        state: (B, ...) final states.
        recorded: The states at the recorded levels, by level.
        condition: The conditions that the samples were generated under.
    """

    state: State
    recorded: dict[float, State]
    condition: Condition


@dataclass
class ScoredSet:
    """Objects with scores, as a domain reads them from a file.

    Attributes:
        state: (B, ...) the objects as states at level 0.
        condition: The condition that a model would have generated each object under.
        values: (B,) scores.
        keys: (B,) canonical keys.
        left_out: (record, reason) of each record that cannot be used. Records are counted from 1.
        replicates: The number of records whose score was averaged with that of an earlier record of the same object.
        filtered: The number of records that the filters of the source remove.
        notes: Sentences on the file that are no faults of a record, such as replicates that differ widely.
    """

    state: State
    condition: Condition
    values: list[float]
    keys: list[str]
    left_out: list[tuple[int, str]] = field(default_factory=list)
    replicates: int = 0
    filtered: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class TrainingBatch:
    """Samples to train on: a batch, or all those of a round. The objective defines what they mean.

    Attributes:
        state: (B, ...) samples at ``from_level``; (B, levels, ...) for an objective of whole trajectories.
        condition: The conditions that the samples were generated under.
        weight: (B,) a number made of the rewards: a weight, an advantage or a probability of optimality.
        from_level: The level of the states; 0 for data.
        x0_target: (B, ...) the final samples of the same trajectories, for the target ``trajectory``.
    """

    state: State
    condition: Condition
    weight: "Tensor | None" = None
    from_level: float = 0.0
    x0_target: "State | None" = None

    def to(self, device: torch.device) -> "TrainingBatch":
        """Return the batch on a device. Without this method Lightning would search every field for tensors."""
        blocking = device.type in ("cpu", "mps")  # as Lightning moves tensors

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=not blocking)

        return TrainingBatch(
            apply(moved, self.state),
            apply(moved, self.condition),
            None if self.weight is None else moved(self.weight),
            self.from_level,
            None if self.x0_target is None else apply(moved, self.x0_target),
        )

    def take(self, index: Tensor) -> "TrainingBatch":
        """Return the rows ``index``."""
        return TrainingBatch(
            take(self.state, index),
            take(self.condition, index),
            None if self.weight is None else self.weight[index],
            self.from_level,
            None if self.x0_target is None else take(self.x0_target, index),
        )
