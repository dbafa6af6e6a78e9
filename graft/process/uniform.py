r"""Uniform categorical diffusion: a position that loses its class gets any of the K classes.

The old class is one of them.

.. math:: q(x_t \mid x_0) = \alpha x_0 + c, \qquad c = (1 - \alpha) / K

(Austin et al. 2021, appendix A.2.1, in continuous time). A position may change at any step, so a later step can correct
an early mistake. With j the class at u, the forward rate of losing it is :math:`\beta = -\alpha' / \alpha`, and the
rates of a change back to k ≠ j are :math:`(\beta / K)\, g_k` with

.. math:: g_k = \sum_{x_0} \pi(x_0) \frac{q(k \mid x_0)}{q(j \mid x_0)}
    = 1 - \frac{\alpha}{\alpha + c} \pi_j + \frac{\alpha}{c} \pi_k,

the concrete score (Lou et al. 2024). The loss is the relative entropy of those rates and the true rates toward the
given state at s, which have :math:`r = \alpha_u / \alpha_s` and the state's own class in place of :math:`\alpha`
and :math:`\pi` (Lou et al. 2024, eq. 5 with the weights of theorem 3.6; s = 0 for data), integrated over the levels:

.. math:: L = E \int_s^1 du\, \frac{\beta}{K} \sum_{k \ne j} f_k \log \frac{f_k}{g_k} - f_k + g_k.
"""

import torch
from torch import Tensor
from typing_extensions import override

from graft.core.state import broadcast_to
from graft.process.arguments import Level
from graft.process.categorical import Categorical, one_hot


class UniformCategorical(Categorical):
    """Positions get a random class, again and again; the settings are those of `Categorical`."""

    @override
    def replace_lost(self, state: Tensor, lost: Tensor, kind: Tensor) -> Tensor:
        """Return the state with new classes; rows of zeros stay."""
        classes = state.shape[-1]
        new = one_hot((kind[..., 0] * classes).long().clamp(max=classes - 1), state)
        return torch.where(lost & (state.sum(-1, keepdim=True) > 0), new, state)

    @override
    def posterior(self, chance: Tensor, state: Tensor, level: Level, next_level: Level) -> Tensor:
        r"""Return the (B, ..., K) mean over x_0 of Bayes' rule, in terms that are never negative.

        With j the class at t, (r, c_r) the kernel from s to t, (a, c) from 0 to t and (a_s, c_s) from 0 to s,

        .. math:: p(k) = (r\,\delta_{jk} + c_r) \Big( \frac{a_s \delta_{jk} + c_s}{a + c} \pi_j
            + \frac{a_s \pi_k [k \ne j] + c_s (1 - \pi_j)}{c} \Big).

        c, c_s and c_r are all small near level 0, so the code computes their ratios.
        """
        x = state.to(chance)
        classes = x.shape[-1]
        a, a_s, r = (
            broadcast_to(self.keep_probability(*pair), chance)
            for pair in ((level,), (next_level,), (level, next_level))
        )
        lost, lost_s, lost_r = (self.lost(*pair) for pair in ((level,), (next_level,), (level, next_level)))
        any_lost = lost > 0  # at level 0 the state is the data
        safe = torch.where(any_lost, lost, 1.0)
        share_s, share_r = (
            broadcast_to(torch.where(any_lost, lost_s / safe, 1.0), chance),
            broadcast_to(lost_r / safe, chance),
        )
        c, c_s, c_r = (broadcast_to(v / classes, chance) for v in (lost, lost_s, lost_r))
        stays = (chance * x).sum(-1, keepdim=True)
        leaves = (chance * (1 - x)).sum(-1, keepdim=True)
        change = c_r * c_s / (a + c) * stays + share_r * (a_s * chance + c_s * leaves)
        same = (r + c_r) * ((a_s + c_s) / (a + c) * stays + share_s * leaves)
        return _others(x) * change + x * same

    @override
    def x0_given_state(self, chance: Tensor, state: Tensor) -> Tensor:
        """Return ``chance`` for every position that is not padding."""
        return chance * state.sum(-1, keepdim=True).to(chance)

    @override
    def elbo_rate(self, log_chance: Tensor, noisy: Tensor, goal: Tensor, level: Tensor, from_level: Tensor) -> Tensor:
        x, least = noisy.to(goal), _least(goal)
        u = level.clamp(min=1e-15)  # at level 0 the rate is infinite for any network that is not certain
        g = self._ratios(log_chance.exp(), x, self.keep_probability(u), self.lost(u))
        f = self._ratios(goal, x, self.keep_probability(level, from_level), self.lost(level, from_level))
        gap = g - f
        near = gap.abs() < f / 2  # log1p is precise near level 1, where f and g go to 1 and the rate is large
        log_ratio = torch.where(
            near, torch.log1p(torch.where(near, gap / f.clamp(min=least), 0.0)), g.log() - f.clamp(min=least).log()
        )
        nats = ((gap - f * log_ratio) * _others(x)).sum(-1)
        rate = self.dt_du(u) / self.keep_probability(u).clamp(min=least) / x.shape[-1]
        return nats * broadcast_to(rate, nats)

    @override
    def score(self, chance: Tensor, state: Tensor, level: float) -> Tensor:
        """Return g_k − 1, since all states have one probability in the prior."""
        return (self._ratios(chance, state, self.keep_probability(level), self.lost(level)) - 1) * _others(state)

    def _ratios(self, chance: Tensor, state: Tensor, kept: Tensor, lost: Tensor) -> Tensor:
        """Return (B, ..., K) g_k for k other than the class of ``state``, by non-negative terms."""
        a, c = broadcast_to(kept, chance), broadcast_to(lost / chance.shape[-1], chance).clamp(min=_least(chance))
        leaves = (chance * (1 - state)).sum(-1, keepdim=True)
        return (c + a * leaves) / (a + c) + a / c * chance


def _least(x: Tensor) -> float:
    """Return a least divisor, far below the probabilities at any level above 1e-15."""
    return max(1e-100, torch.finfo(x.dtype).tiny)


def _others(state: Tensor) -> Tensor:
    """Return (B, ..., K) with 1 for every class but that of ``state``; padding has 0 for all."""
    return state.sum(-1, keepdim=True) - state
