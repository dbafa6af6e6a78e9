r"""Masked (absorbing) diffusion: a position that has lost its class is a row of zeros, the mask.

.. math:: p(x_s = k \mid x_t = mask) = \frac{t - s}{t} \pi_k, \qquad p(x_s = mask \mid x_t = mask) = \frac{s}{t},

and a position that has its class keeps it (Sahoo et al. 2024, eq. 6 and 7; s and t are the shares that are masked). The
loss is the cross-entropy of the masked positions, weighted by 1 / t (their eq. 10; Shi et al. 2024, eq. 5).

**The law at a level s > 0.** With t the share at u and t_s that at s, a position that is masked at u and has a class at
s has been masked since with rate 1 / (t − t_s), so that the bound for the law at s is

.. math:: L = E \int_s^1 \frac{dt}{t - t_s} \sum_{i:\ x_u^i = mask,\ x_s^i \ne mask} -\log \pi_{x_s^i}(x_u) + const,

least at :math:`\pi_k = P(x_s^i = k \mid x_u, x_s^i \ne mask)`; at s = 0 it is the one above. Which positions are masked
at s no network of this kind learns: it is the process's own law, each with probability t_s, whatever they hold. That is
so for every law that was noised to s (see `graft.process.categorical`), and else not.
"""

import torch
from torch import Tensor

from graft.process.base import Level
from graft.process.categorical import Categorical, broadcast_to


class MaskedCategorical(Categorical):
    """Positions are masked one by one, and on the way back each is given its class once.

    Args:
        shape: Of one sample, without the batch dimension; the last dimension is the number of classes. The mask is no
            class: it is a row of zeros.
        warp: t = u^warp is the share of masked positions at level u.
        weight: Of the levels in the loss: ``elbo``, the continuous-time bound on the negative log-likelihood, in nats a
            position; ``equal``, the cross-entropy of the masked positions, the same at every level.
        projection: Padding: rows of zeros, which never change and count nowhere.
    """

    _masks = True

    def replace_lost(self, state: Tensor, lost: Tensor, kind: Tensor) -> Tensor:
        """See `Categorical.replace_lost`."""
        return torch.where(lost, torch.zeros_like(state), state)

    def posterior(self, chance: Tensor, state: Tensor, level: Level, next_level: Level) -> Tensor:
        """See `Categorical.posterior`."""
        t, x = self.time(level), state.to(chance)
        share = self.elapsed(level, next_level) / torch.where(t > 0, t, 1.0)  # at level 0 nothing is masked
        return x + _masked(x) * broadcast_to(share, chance) * chance

    def x0_given_state(self, chance: Tensor, state: Tensor) -> Tensor:
        """See `Categorical.x0_given_state`: a class is what it was."""
        x = state.to(chance)
        return x + _masked(x) * chance

    def elbo_rate(self, log_chance: Tensor, noisy: Tensor, goal: Tensor, level: Tensor, since: Tensor) -> Tensor:
        """See `Categorical.elbo_rate`."""
        # bounded, for at the level of the goal itself nothing is masked since then and the sum below is 0
        weight = (self.dt_du(level) / self.elapsed(level, since).clamp(min=1e-100)).clamp(max=1e30)
        # a network may rule classes out with -inf
        nats = -(_masked(noisy.to(goal)) * goal * torch.where(goal > 0, log_chance, 0.0)).sum(-1)
        return nats * broadcast_to(weight, nats)

    def score(self, chance: Tensor, state: Tensor, level: float) -> Tensor:
        """See `Categorical.score`: a class for a mask; the prior has masks only."""
        t = self.time(level)
        return _masked(state) * chance * broadcast_to((1 - t) / t, chance)


def _masked(state: Tensor) -> Tensor:
    """(B, ..., 1) 1 where there is no class."""
    return 1 - state.sum(-1, keepdim=True)
