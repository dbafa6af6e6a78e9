r"""Masked (absorbing) diffusion: a position without a class is a row of zeros, the mask.

.. math:: p(x_s = k \mid x_t = mask) = \frac{t - s}{t} \pi_k, \qquad p(x_s = mask \mid x_t = mask) = \frac{s}{t},

and a position with a class keeps it (Sahoo et al. 2024, eq. 6 and 7; s and t are the shares of masked positions). The
loss is the cross-entropy of the masked positions, weighted by 1 / t (Sahoo et al. 2024, eq. 10; Shi et al. 2024, eq.
5).

**The distribution at a level s > 0.** Let t be the share at u and t_s the share at s. A position that is masked at u
and has a class at s was masked between them at rate 1 / (t − t_s), so the bound for the distribution at s is

.. math:: L = E \int_s^1 \frac{dt}{t - t_s} \sum_{i:\ x_u^i = mask,\ x_s^i \ne mask} -\log \pi_{x_s^i}(x_u) + const,

least at :math:`\pi_k = P(x_s^i = k \mid x_u, x_s^i \ne mask)`; at s = 0 it is the loss above. A network of this kind
does not learn which positions are masked at s: each is masked with probability t_s, independently of its class. This is
right for every distribution that was noised to s (see `graft.process.categorical`), and only for those.
"""

import torch
from torch import Tensor
from typing_extensions import override

from graft.core.state import broadcast_to
from graft.process.arguments import Level
from graft.process.categorical import Categorical


class MaskedCategorical(Categorical):
    """Positions are masked one by one, and each gets its class once on the way back.

    Args:
        shape: Shape of one sample, without the batch dimension; the last dimension is the number of classes. The mask
            is not a class: it is a row of zeros.
        warp: Exponent of the clock: t = u^warp is the share of masked positions at level u.
        weight: Weight of the levels in the loss: ``elbo``, the continuous-time bound on the negative log-likelihood, in
            nats per position; ``equal``, the cross-entropy of the masked positions, the same at every level.
        projection: Padding: rows of zeros, which never change and have no part in any loss or density.
    """

    _masks = True

    @override
    def replace_lost(self, state: Tensor, lost: Tensor, kind: Tensor) -> Tensor:
        return torch.where(lost, torch.zeros_like(state), state)

    @override
    def posterior(self, chance: Tensor, state: Tensor, level: Level, next_level: Level) -> Tensor:
        t, x = self.time(level), state.to(chance)
        share = self.elapsed(level, next_level) / torch.where(t > 0, t, 1.0)  # at level 0 nothing is masked
        return x + _masked(x) * broadcast_to(share, chance) * chance

    @override
    def x0_given_state(self, chance: Tensor, state: Tensor) -> Tensor:
        """Return the class itself for a position with a class, ``chance`` for a masked one."""
        x = state.to(chance)
        return x + _masked(x) * chance

    @override
    def elbo_rate(self, log_chance: Tensor, noisy: Tensor, goal: Tensor, level: Tensor, from_level: Tensor) -> Tensor:
        # the bound avoids inf · 0: at level `from_level` itself no position is newly masked, and the sum below is 0
        weight = (self.dt_du(level) / self.elapsed(level, from_level).clamp(min=1e-100)).clamp(max=1e30)
        # -inf of a class that the network rules out would give NaN with a goal of 0
        nats = -(_masked(noisy.to(goal)) * goal * torch.where(goal > 0, log_chance, 0.0)).sum(-1)
        return nats * broadcast_to(weight, nats)

    @override
    def score(self, chance: Tensor, state: Tensor, level: float) -> Tensor:
        """Return the ratio for a class in place of a mask; the prior has masks only."""
        t = self.time(level)
        return _masked(state) * chance * broadcast_to((1 - t) / t, chance)


def _masked(state: Tensor) -> Tensor:
    """Return (B, ..., 1) with 1 where a position has no class."""
    return 1 - state.sum(-1, keepdim=True)
