"""A model that counts the network calls of an inversion."""

from torch import Tensor
from torch.autograd import forward_ad

from graft.core.state import Condition, State, fields_of, size
from graft.process.arguments import Model
from graft.solvers.fixed_point.base import DERIVATIVE


class CallCounter:
    """A model that counts its calls, each for one sample.

    A call with a derivative along a direction (forward mode) counts as `DERIVATIVE` calls.

    Args:
        model: Network.

    Attributes:
        calls: Network calls so far, each for one sample.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.calls = 0

    def __call__(self, state: State, time: Tensor, condition: Condition) -> State:
        """Return the model's output."""
        self.calls += size(state) * (DERIVATIVE if _has_tangent(state) else 1)
        return self.model(state, time, condition)


def _has_tangent(state: State) -> bool:
    return any(forward_ad.unpack_dual(x).tangent is not None for x in fields_of(state))  # type: ignore[no-untyped-call]
