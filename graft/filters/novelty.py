"""Nothing that the training data has."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from graft.filters.base import Candidates, Filter, Past


class Novelty(Filter):
    """A draw whose key the training data has is refused; the domain knows the data's keys (`GraftModule.known`).

    Alone, the accepted law is that of the draws given that they are new, KL = −log P(new). A draw with an empty key is
    in no data.
    """

    needs = frozenset({"keys", "known"})
    remedy = "the model draws nothing new, so draw more or leave the filter out"

    def __call__(
        self, draws: Candidates, past: Sequence[Past], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        """See `Filter.__call__`."""
        assert draws.known is not None
        return draws.left & ~draws.known, torch.zeros_like(draws.left)

    def __str__(self) -> str:
        return "not in the training data"
