"""The subspaces in which states live: padding is zero, molecules have no place in space."""

from abc import ABC, abstractmethod

from torch import Tensor

from graft.recorded_arguments import Described
from graft.state import Condition


class Projection(Described, ABC):
    """A linear, orthogonal projection of a field, given the condition."""

    @abstractmethod
    def __call__(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """``x`` (B, ...) projected."""

    @abstractmethod
    def dimension(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """(B,) dimension of the subspace that ``x`` (B, ...) is projected onto."""


class MaskProjection(Projection):
    """What is not there, or is given, is zero: x (B, N, d), 1 for what is there and free to vary.

    Args:
        key: Of the condition that says so: (B, N) for whole rows, or (B, N, d).
    """

    def __init__(self, key: str = "mask") -> None:
        self.key = key

    def __call__(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """See `Projection`."""
        return x * self._free(x, condition)

    def dimension(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """See `Projection.dimension`: that of what is there."""
        return self._free(x, condition).expand_as(x).flatten(1).sum(1)

    def _free(self, x: Tensor, condition: "Condition | None") -> Tensor:
        assert condition is not None
        free = condition[self.key].to(x.dtype)
        return free if free.ndim == x.ndim else free[..., None]


class ZeroCenterOfMass(Projection):
    """Zero centre of mass over what is there, zero elsewhere: x (B, N, d), condition["mask"] (B, N).

    Noise so projected is the isotropic Gaussian of the translation-free subspace (Hoogeboom et al. 2022, section 3.1).
    """

    def __call__(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """See `Projection`."""
        assert condition is not None
        mask = condition["mask"][..., None].to(x.dtype)
        return (x - (x * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)) * mask

    def dimension(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """See `Projection.dimension`: that of what is there, less the centre's."""
        assert condition is not None
        return (condition["mask"].sum(1).to(x.dtype) - 1) * x.shape[-1]
