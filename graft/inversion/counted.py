"""A model that counts the network calls of an inversion, whatever asks for them."""

from torch import Tensor
from torch.autograd import forward_ad

from graft.inversion.base import DERIVATIVE
from graft.process.base import Model
from graft.state import Condition, State, size


class Counted:
    """Counts the samples that a model is called for.

    A call with a derivative along a direction (forward mode) counts as `graft.inversion.base.DERIVATIVE` calls.

    Args:
        model: The network.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.calls = 0
        """Network calls so far, each for one sample."""

    def __call__(self, state: State, time: Tensor, condition: Condition) -> State:
        """Return the model's output."""
        self.calls += size(state) * (DERIVATIVE if _has_tangent(state) else 1)
        return self.model(state, time, condition)


def _has_tangent(state: State) -> bool:
    fields = [state] if isinstance(state, Tensor) else state.values()
    return any(forward_ad.unpack_dual(x).tangent is not None for x in fields)  # type: ignore[no-untyped-call]
