"""The subspaces in which states live: zero padding, zero centre of mass."""

from abc import ABC, abstractmethod

from torch import Tensor
from typing_extensions import override

from graft.core.recorded_arguments import Described
from graft.core.state import Condition


class Projection(Described, ABC):
    """A linear, orthogonal projection of a field, given the condition."""

    mixes_positions: bool = True
    """False if each position of a field stays as it is or becomes zero, as a field of classes needs."""

    @abstractmethod
    def __call__(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """Return the projection of ``x`` (B, ...)."""

    @abstractmethod
    def dimension(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """Return the (B,) dimension of the subspace onto which ``x`` (B, ...) is projected."""


class MaskProjection(Projection):
    """Set padding and fixed parts of x (B, N, d) to zero.

    Args:
        key: Key of the mask in the condition, 1 for free parts: (B, N) for whole rows, or (B, N, d).
    """

    mixes_positions = False

    def __init__(self, key: str = "mask") -> None:
        self.key = key

    @override
    def __call__(self, x: Tensor, condition: "Condition | None") -> Tensor:
        return x * self._free(x, condition)

    @override
    def dimension(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """Return the (B,) number of free entries."""
        return self._free(x, condition).expand_as(x).flatten(1).sum(1)

    def _free(self, x: Tensor, condition: "Condition | None") -> Tensor:
        assert condition is not None
        free = condition[self.key].to(x.dtype)
        return free if free.ndim == x.ndim else free[..., None]


class ZeroCenterOfMass(Projection):
    """Move the centre of mass of x (B, N, d) to zero and set padding to zero.

    condition["mask"] (B, N) is 1 for entries that are not padding. Noise after this projection is the isotropic
    Gaussian of the translation-free subspace (Hoogeboom et al. 2022, section 3.1).
    """

    @override
    def __call__(self, x: Tensor, condition: "Condition | None") -> Tensor:
        assert condition is not None
        mask = condition["mask"][..., None].to(x.dtype)
        return (x - (x * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)) * mask

    @override
    def dimension(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """Return (B,) the number of entries that are not padding, minus d for the centre."""
        assert condition is not None
        return (condition["mask"].sum(1).to(x.dtype) - 1) * x.shape[-1]
