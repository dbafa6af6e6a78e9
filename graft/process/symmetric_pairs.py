"""The subspace of symmetric fields of pairs, such as the bonds of a molecule."""

from torch import Tensor
from typing_extensions import override

from graft.core.state import Condition
from graft.process.projections import Projection


class SymmetricPairs(Projection):
    """Make a field of pairs x (B, N, N, d) symmetric, and zero on the diagonal and for padding.

    Noise after this projection is the isotropic Gaussian of that subspace. Its entries have the standard deviation
    1 / sqrt(2), since an entry is the mean of two draws. A network that was trained with noise of deviation 1 gets
    sqrt(2) times the field, and a one-hot has the size 1 / sqrt(2) in the field.

    Args:
        key: Key of the mask (B, N) in the condition, 1 for entries that are not padding.
    """

    def __init__(self, key: str = "mask") -> None:
        self.key = key

    @override
    def __call__(self, x: Tensor, condition: "Condition | None") -> Tensor:
        return (x + x.transpose(1, 2)) / 2 * self._pairs(x, condition)

    @override
    def dimension(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """Return d times the (B,) number of unordered pairs that are not padding."""
        return self._pairs(x, condition).expand_as(x).flatten(1).sum(1) / 2

    def _pairs(self, x: Tensor, condition: "Condition | None") -> Tensor:
        """Return (B, N, N, 1) with 1 for pairs of two different entries that are not padding."""
        assert condition is not None
        mask = condition[self.key].to(x.dtype)
        pairs = mask[:, :, None] * mask[:, None, :]
        pairs.diagonal(dim1=1, dim2=2).zero_()
        return pairs[..., None]
