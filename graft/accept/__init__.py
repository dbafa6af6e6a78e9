r"""Acceptance rules: rewards of the draws of each condition in, acceptance probabilities out.

Generalised rejection sampling: accepted draws follow :math:`p^*(x) \propto p_{ref}(x)\, a(F(r(x)))` with F the
reference's reward CDF and a(F) = E[accepted | F], which is the optimum of KL-regularised reward maximisation with the
reshaped reward log a (arXiv 2510.02692, Lemma 1). Every rule here gives a(F) itself for the draws at hand, averaged
over the interval of F that a draw shares with those of equal reward; nothing is random but the last selection.
"""

from graft.accept.base import Accept, Accepted
from graft.accept.every import All
from graft.accept.laws import intervals, kl, top_k_average
from graft.accept.preference import Preference
from graft.accept.selection import systematic
from graft.accept.threshold import Threshold
from graft.accept.tilt import Tilt
from graft.accept.top_fraction import TopFraction
from graft.accept.top_k import TopK

__all__ = [
    "Accept",
    "Accepted",
    "All",
    "Preference",
    "Threshold",
    "Tilt",
    "TopFraction",
    "TopK",
    "intervals",
    "kl",
    "systematic",
    "top_k_average",
]
