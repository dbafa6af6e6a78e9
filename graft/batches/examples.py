"""Examples: what the network learns from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from graft.state import Condition, State, apply, take


@dataclass
class TrainingBatch:
    """A training batch, or all that a round gives; what it means is the objective's.

    Attributes:
        state: (B, ...) samples at ``level``; for an objective of whole trajectories (B, levels, ...).
        condition: What they were drawn under.
        weight: (B,) what the rewards make of each: how much it counts, its advantage, its optimality probability.
        from_level: Of the states; 0 for data.
        x0_target: The final samples of the same trajectories, for target (b).
    """

    state: State
    condition: Condition
    weight: "Tensor | None" = None
    from_level: float = 0.0
    x0_target: "State | None" = None

    def to(self, device: torch.device) -> "TrainingBatch":
        """Return the examples on a device, for Lightning, which otherwise searches every field for tensors."""
        blocking = device.type in ("cpu", "mps")  # as Lightning moves tensors

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=not blocking)

        condition = apply(moved, self.condition)
        assert isinstance(condition, dict)
        return TrainingBatch(
            apply(moved, self.state),
            condition,
            None if self.weight is None else moved(self.weight),
            self.from_level,
            None if self.x0_target is None else apply(moved, self.x0_target),
        )

    def take(self, index: Tensor) -> "TrainingBatch":
        """The rows ``index``."""
        condition = take(self.condition, index)
        assert isinstance(condition, dict)
        return TrainingBatch(
            take(self.state, index),
            condition,
            None if self.weight is None else self.weight[index],
            self.from_level,
            None if self.x0_target is None else take(self.x0_target, index),
        )
