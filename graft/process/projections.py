"""The subspaces in which states live: padding is zero, molecules have no place in space."""

from abc import ABC, abstractmethod

from torch import Tensor

from graft.state import Condition


class Projection(ABC):
    """A linear, orthogonal projection of a field, given the condition."""

    @abstractmethod
    def __call__(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """``x`` (B, ...) projected."""

    @abstractmethod
    def dimension(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """(B,) dimension of the subspace that ``x`` (B, ...) is projected onto."""


class Masked(Projection):
    """Rows of padding are zero: x (B, N, d), condition["mask"] (B, N) with 1 for what is there."""

    def __call__(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """See `Projection`."""
        assert condition is not None
        return x * condition["mask"][..., None].to(x.dtype)

    def dimension(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """See `Projection.dimension`: that of what is there."""
        assert condition is not None
        return condition["mask"].sum(1).to(x.dtype) * x.shape[-1]


class ZeroCentre(Projection):
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
