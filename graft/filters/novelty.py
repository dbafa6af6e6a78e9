"""Nothing that the training data has."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from graft.filters.base import AcceptedHistory, Candidates, Filter


class Novelty(Filter):
    """Reject draws whose keys are in the training data, which the domain knows (`GraftModule.in_training_set`).

    Alone, the accepted law is that of the draws given that they are new, KL = −log P(new). A draw with an empty key is
    in no data.
    """

    requires = frozenset({"keys", "known"})
    hint = "the model draws nothing new, so draw more or leave the filter out"

    def __call__(
        self, draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        """See `Filter.__call__`."""
        assert draws.known is not None
        return draws.eligible & ~draws.known, torch.zeros_like(draws.eligible)

    def __str__(self) -> str:
        return "not in the training data"
