r"""Uniform categorical diffusion: a position that loses its class has any of the K, the old one included.

.. math:: q(x_t \mid x_0) = \alpha x_0 + c, \qquad c = (1 - \alpha) / K

(Austin et al. 2021, appendix A.2.1, in continuous time). A position may change at any step, so that early mistakes are
mended. With j the class at u, the forward rate of losing it is :math:`\beta = -\alpha' / \alpha`, and the rates of a
change back to k ≠ j are :math:`(\beta / K)\, g_k` with

.. math:: g_k = \sum_{x_0} \pi(x_0) \frac{q(k \mid x_0)}{q(j \mid x_0)}
    = 1 - \frac{\alpha}{\alpha + c} \pi_j + \frac{\alpha}{c} \pi_k,

the concrete score (Lou et al. 2024). The loss is the relative entropy of those rates and the true ones toward the state
that is given, which have :math:`r = \alpha_u / \alpha_s` and its own class in the place of :math:`\alpha` and
:math:`\pi` (their eq. 5 with the weights of their theorem 3.6; s = 0 for data), integrated over the levels:

.. math:: L = E \int_s^1 du\, \frac{\beta}{K} \sum_{k \ne j} f_k \log \frac{f_k}{g_k} - f_k + g_k.
"""

import torch
from torch import Tensor

from graft.process.base import Level
from graft.process.categorical import Categorical, one_hot, rows


class UniformCategorical(Categorical):
    """Positions are given another class at random, again and again."""

    def noised(self, state: Tensor, lost: Tensor, kind: Tensor) -> Tensor:
        """See `Categorical.noised`; rows of zeros stay."""
        classes = state.shape[-1]
        new = one_hot((kind[..., 0] * classes).long().clamp(max=classes - 1), state)
        return torch.where(lost & (state.sum(-1, keepdim=True) > 0), new, state)

    def posterior(self, chance: Tensor, state: Tensor, level: Level, next_level: Level) -> Tensor:
        """See `Categorical.posterior`."""
        x = state.to(chance)
        a, a_next, r = (rows(self.kept(*pair), chance) for pair in ((level,), (next_level,), (level, next_level)))
        classes = x.shape[-1]
        weighted = chance / (a * x + (1 - a) / classes)
        back: Tensor = a_next * weighted + (1 - a_next) / classes * weighted.sum(-1, keepdim=True)
        return (r * x + (1 - r) / classes) * back

    def clean(self, chance: Tensor, state: Tensor) -> Tensor:
        """See `Categorical.clean`: what the network says, wherever there is a class."""
        return chance * state.sum(-1, keepdim=True).to(chance)

    def bound(self, log_chance: Tensor, noisy: Tensor, goal: Tensor, level: Tensor, since: Tensor) -> Tensor:
        """See `Categorical.bound`."""
        x = noisy.to(goal)
        excess = self._excess(log_chance.exp(), x, self.kept(level))
        true = 1 + self._excess(goal, x, self.kept(level, since))
        gap = (1 + excess - true) / true
        # f (δ − log(1 + δ)) with g = f (1 + δ): near u = 1 both are near 1 and β is large
        nats = (true * (gap - torch.log1p(gap)) * _others(x)).sum(-1)
        rate = self.speed(level) / self.kept(level).clamp(min=torch.finfo(torch.float32).eps) / x.shape[-1]
        return nats * rows(rate, nats)

    def score(self, chance: Tensor, state: Tensor, level: float) -> Tensor:
        """See `Categorical.score`: in the prior every state is as likely."""
        return self._excess(chance, state, self.kept(level)) * _others(state)

    def _excess(self, chance: Tensor, state: Tensor, kept: Tensor) -> Tensor:
        """(B, ..., K) g_k − 1 for k other than the class of ``state``."""
        a = rows(kept, chance)
        c = ((1 - a) / chance.shape[-1]).clamp(min=torch.finfo(chance.dtype).tiny)
        stays = (chance * state).sum(-1, keepdim=True)
        return a / c * chance - a / (a + c) * stays


def _others(state: Tensor) -> Tensor:
    """(B, ..., K) 1 for the classes that a position has not; padding has none."""
    return state.sum(-1, keepdim=True) - state
