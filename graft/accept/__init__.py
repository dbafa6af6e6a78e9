r"""Acceptance rules: acceptance probabilities from the rewards of each condition's draws.

Generalised rejection sampling: accepted draws follow :math:`p^*(x) \propto p_{ref}(x)\, a(F(r(x)))` with F the
reference's reward CDF and a(F) = E[accepted | F]. This is the optimum of KL-regularised reward maximisation with the
reshaped reward log a (arXiv 2510.02692, Lemma 1). Only the last selection is random.

A round states the KL of the accepted distribution from the distribution of the draws, jointly of a draw and its
condition,

.. math:: KL(p^* \| p) = E[a \log a] / E[a] - \log E[a], \qquad a(x) = P(\text{accepted} \mid \text{the draw is } x),

where P averages over the other draws of the round. E[a] is the accepted share of the scored draws. The estimate of
E[a log a] depends on the rule:

- `TopK`, `TopFraction` and `Preference` compare draws by rank. For continuous rewards a(F) does not depend on the
  rewards and the mean is an integral over F (`graft.accept.curve`): it gives log M − (M − 1)/M for the best of M. A
  fraction below one draw of each group accepts the best draw in some groups: the distribution is that of the best of
  the group. Equal rewards share the mean of a over their interval of F. `graft.accept.ties` estimates the decrease
  that follows, without bias in small groups.
- `Threshold`, `ExponentialTilt` with a bound, and `AcceptAll` use the reward of each draw alone, so a is known.
- `ExponentialTilt` without a bound normalises by the other draws of the group. The bootstrap averages over them
  (`ExponentialTilt.information`).
- De-duplication, and filters that keep some of several equal draws, multiply a by the probability to be kept
  (`graft.accept.deduplicate`).

Draws that were not scored take no part, as if they had not been sampled. Draws with a failed reward and filtered draws
count as rejected. Their number in a group is random, and in groups of a few draws a averages over it.
"""

from graft.accept.all import AcceptAll
from graft.accept.base import AcceptanceRule, Selection
from graft.accept.kl import cdf_intervals
from graft.accept.preference import Preference
from graft.accept.ranked import Ranked
from graft.accept.selection import systematic_sample
from graft.accept.threshold import Threshold
from graft.accept.tilt import ExponentialTilt
from graft.accept.top_fraction import TopFraction
from graft.accept.top_k import TopK

__all__ = [
    "AcceptAll",
    "AcceptanceRule",
    "ExponentialTilt",
    "Preference",
    "Ranked",
    "Selection",
    "Threshold",
    "TopFraction",
    "TopK",
    "cdf_intervals",
    "systematic_sample",
]
