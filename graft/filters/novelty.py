"""Novelty: objects of the training data are rejected."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.filters.base import AcceptedHistory, Candidates, Filter


class Novelty(Filter):
    """Reject draws with keys in the training data (`GraftModule.in_training_set`).

    Alone, the accepted distribution is that of the draws given that they are new, KL = −log P(new). A draw with an
    empty key is never rejected.
    """

    requires = frozenset({"keys", "known"})
    hint = "the model samples nothing new, so draw more or leave the filter out"

    @override
    def __call__(
        self, draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        assert draws.known is not None
        return draws.eligible & ~draws.known, torch.zeros_like(draws.eligible)

    @override
    def __str__(self) -> str:
        return "not in the training data"
