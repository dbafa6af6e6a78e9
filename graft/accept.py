r"""Acceptance rules: rewards of the draws of each condition in, acceptance probabilities out.

Generalised rejection sampling: accepted draws follow :math:`p^*(x) \propto p_{ref}(x)\, a(F(r(x)))` with F the
reference's reward CDF and a(F) = E[accepted | F], which is the optimum of KL-regularised reward maximisation with the
reshaped reward log a (arXiv 2510.02692, Lemma 1). Every rule here gives a(F) itself for the draws at hand, averaged
over the interval of F that a draw shares with those of equal reward; nothing is random but the last selection.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.special import betainc
from torch import Generator, Tensor

from graft.errors import GraftError


@dataclass
class Accepted:
    """What a rule says of n draws.

    Attributes:
        index: (A,) positions of the accepted draws, ascending.
        weight: (A,) how much each counts in training, 1 on average.
        probability: (n,) of being accepted, given everyone's rewards.
        kl_nats: KL(accepted law ‖ law of the draws), from the realised rewards, in nats.
        effective: Effective number of accepted samples, (Σ w)² / Σ w².
    """

    index: Tensor
    weight: Tensor
    probability: Tensor
    kl_nats: float
    effective: float


class Accept(ABC):
    """A rule A non-decreasing in the reward, applied within each condition or to the whole round.

    Args:
        scope: ``condition``: ranks within a condition, so that what is given is not what is selected; ``global``.
        deduplicate: Keep one draw (at random) of those with the same key before the rule is applied.
        bin: Conditions with fewer draws than this are put together with their neighbours.
    """

    smallest: int = 1  # draws of a condition that the rule needs

    def __init__(
        self, scope: Literal["condition", "global"] = "condition", deduplicate: bool = False, bin: int = 32
    ) -> None:
        self.scope, self.deduplicate, self.bin = scope, deduplicate, bin

    @abstractmethod
    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """For n finite rewards: (n,) the probability of each draw given all of them, and (n,) a(F) up to a factor."""

    def weights(self, rewards: Tensor) -> Tensor:
        """(n,) training weight of each draw, should it be accepted."""
        return torch.ones_like(rewards)

    @abstractmethod
    def __str__(self) -> str:
        """The rule in a few words."""

    def describe(self) -> str:
        """The rule, its scope and de-duplication in a few words."""
        first = "de-duplicated, then " if self.deduplicate else ""
        return f"{first}{self} {'within each condition' if self.scope == 'condition' else 'of the whole round'}"

    def __call__(
        self,
        rewards: Tensor,
        groups: "Tensor | None" = None,
        keys: "Sequence[str] | None" = None,
        generator: "Generator | None" = None,
    ) -> Accepted:
        """Accept some of n draws.

        Args:
            rewards: (n,) larger is better; NaN where the reward failed: such a draw is never accepted.
            groups: (n,) integer of the condition each was drawn under; neighbouring integers are like conditions.
            keys: Canonical key of each, for de-duplication; an empty key equals no other.
            generator: For which of equals are kept.

        Raises:
            GraftError: There are too few draws for the rule, or nothing is accepted.
        """
        rewards = rewards.to("cpu", torch.float64)
        n = len(rewards)
        probability, relative, weight = (torch.zeros(n, dtype=torch.float64) for _ in range(3))
        usable = ~rewards.isnan()
        if not bool(usable.any()):
            raise GraftError(f"the reward failed for all {n} draws, so that nothing can be accepted: mend the reward")
        copies = torch.ones(n, dtype=torch.float64)
        if self.deduplicate:
            if keys is None:
                raise GraftError("de-duplication needs the draws' keys: the domain gives none")
            keep, copies = _first_of_each(keys, usable, generator)
            usable &= keep
        bins = self._bins(groups if self.scope == "condition" else None, usable)
        chosen = []
        for members in bins:
            p, a = self.law(rewards[members])
            probability[members], relative[members] = p, a
            weight[members] = self.weights(rewards[members])
            chosen.append(members[systematic(p, generator)])
        index = torch.cat(chosen).sort().values
        if len(index) == 0:
            raise GraftError(
                f"the rule '{self.describe()}' accepted none of {n} draws (best reward "
                f"{float(rewards[~rewards.isnan()].max()):.4g}): draw more, or take a milder rule"
            )
        weight = weight[index] / weight[index].mean()
        if self.deduplicate:
            relative = _spread(relative, keys or [], copies)
        return Accepted(index, weight, probability, kl(relative), float(weight.sum() ** 2 / weight.square().sum()))

    def _bins(self, groups: "Tensor | None", usable: Tensor) -> list[Tensor]:
        """Positions of the usable draws by condition, each with few draws joined with the next ones up.

        What was drawn decides that, so that a failure or a duplicate does not have two conditions ranked together.
        """
        bins = [torch.arange(len(usable))]
        if groups is not None:
            groups = groups.to("cpu")
            values, drawn = torch.unique(groups, return_counts=True)
            # equally many draws of every condition were asked for (prompts with M images each): none is too small
            equal = len(drawn) > 1 and int(drawn.min()) == int(drawn.max()) > 1
            need = self.smallest if equal else max(self.bin, self.smallest)
            bins = []
            for value in values:
                members = (groups == value).nonzero()[:, 0]
                if bins and len(bins[-1]) < need:
                    bins[-1] = torch.cat([bins[-1], members])
                else:
                    bins.append(members)
            if len(bins) > 1 and len(bins[-1]) < need:
                bins[-2:] = [torch.cat(bins[-2:])]
        if len(bins[-1]) < self.smallest:
            raise GraftError(
                f"the rule '{self}' ranks {self.smallest} draws and there are {len(bins[-1])}: draw more, or take "
                "smaller groups"
            )
        return [members[usable[members]] for members in bins if bool(usable[members].any())]


class TopFraction(Accept):
    """The best share of the draws of each condition; a(F) tends to 1[F >= 1 − fraction].

    Args:
        fraction: In (0, 1].
        scope: See `Accept`.
        deduplicate: See `Accept`.
        bin: See `Accept`.
    """

    def __init__(
        self,
        fraction: float = 0.125,
        scope: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        bin: int = 32,
    ) -> None:
        super().__init__(scope, deduplicate, bin)
        if not 0 < fraction <= 1:
            raise GraftError(f"fraction is {fraction:g}, but a share of the draws lies in (0, 1]")
        self.fraction = fraction

    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `Accept.law`."""
        low, high = intervals(rewards)
        n = len(rewards)
        edge = 1 - self.fraction
        return ((high - edge) / (high - low)).clamp(0, 1), top_k_average(low, high, n * self.fraction, n)

    def __str__(self) -> str:
        return f"top {self.fraction:.4g}"


class TopK(Accept):
    """The best ``keep`` of every ``draws`` draws: a(F) = P(Binomial(draws − 1, 1 − F) < keep).

    Where a condition has more draws than ``draws``, a draw's probability is the share of all groups of that size with
    it in which it is among the best, so that none is left over.

    Args:
        keep: K.
        draws: M.
        scope: See `Accept`.
        deduplicate: See `Accept`.
        bin: See `Accept`.
    """

    def __init__(
        self,
        keep: int = 1,
        draws: int = 8,
        scope: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        bin: int = 1,
    ) -> None:
        super().__init__(scope, deduplicate, bin)
        if not 1 <= keep <= draws:
            raise GraftError(f"keep is {keep} of {draws} draws: it must lie between 1 and {draws}")
        self.keep, self.draws, self.smallest = keep, draws, draws

    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `Accept.law`."""
        n = len(rewards)
        draws = min(self.draws, n)  # where some failed, the best K of the rest
        # probability that the draw with j above it is among the best K of a random group of M with it
        above = torch.arange(n, dtype=torch.float64)
        by_rank = torch.zeros(n, dtype=torch.float64)
        whole = _log_choose(above.new_tensor(n - 1), draws - 1)
        for k in range(min(self.keep, draws)):
            below = n - 1 - above
            possible = (above >= k) & (below >= draws - 1 - k)
            term = _log_choose(above, k) + _log_choose(below, draws - 1 - k) - whole
            by_rank += torch.where(possible, term.exp(), 0.0)
        low, high = intervals(rewards)
        total = torch.cat([by_rank.new_zeros(1), by_rank.flip(0).cumsum(0)])  # of the ranks from below
        first, last = (low * n).round().long(), (high * n).round().long()
        p = (total[last] - total[first]) / (last - first)
        return p.clamp(0, 1), top_k_average(low, high, self.keep, draws)

    def __str__(self) -> str:
        return f"top {self.keep} of {self.draws}"


class Preference(Accept):
    """The winner of two, ties by a coin: a(F) = F, KL = log 2 − 1/2 for continuous rewards."""

    smallest = 2

    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `Accept.law`: the share of the other draws that it beats."""
        low, high = intervals(rewards)
        n = len(rewards)
        middle = (low + high) / 2
        return (middle * n - 0.5) / (n - 1) if n > 1 else middle, middle

    def __str__(self) -> str:
        return "winner of 2"


class Threshold(Accept):
    """Every draw with a reward of at least ``minimum``; KL = −log P(r >= minimum).

    Args:
        minimum: In the reward's unit (of the negated reward where smaller is better).
        scope: See `Accept`.
        deduplicate: See `Accept`.
    """

    def __init__(
        self, minimum: float, scope: Literal["condition", "global"] = "condition", deduplicate: bool = False
    ) -> None:
        super().__init__(scope, deduplicate, bin=1)
        self.minimum = minimum

    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `Accept.law`."""
        a = (rewards >= self.minimum).double()
        return a, a

    def __str__(self) -> str:
        return f"reward >= {self.minimum:.4g}"


class Tilt(Accept):
    """Exponential tilt: a = exp((r − maximum) / temperature), p* ∝ p_ref exp(r / temperature).

    Args:
        temperature: In the reward's unit.
        maximum: An upper bound of the reward, fixed in advance (the best draw's reward would make it another law).
            ``null``: every draw is kept and weighted by exp(r / temperature), normalised over its condition; the
            effective sample size then says how many the weights leave.
        scope: See `Accept`.
        deduplicate: See `Accept`.
        bin: See `Accept`.
    """

    def __init__(
        self,
        temperature: float,
        maximum: "float | None" = None,
        scope: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        bin: int = 32,
    ) -> None:
        super().__init__(scope, deduplicate, bin)
        if not temperature > 0:
            raise GraftError(f"temperature is {temperature:g}, but it must be positive")
        self.temperature, self.maximum = temperature, maximum

    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `Accept.law`."""
        if self.maximum is None:
            return torch.ones_like(rewards), self.weights(rewards)
        if bool((rewards > self.maximum).any()):
            raise GraftError(
                f"a reward of {float(rewards.max()):.6g} is above the stated maximum {self.maximum:g}: "
                "give a bound that holds, or maximum=null for weights"
            )
        a = ((rewards - self.maximum) / self.temperature).exp()
        return a, a

    def weights(self, rewards: Tensor) -> Tensor:
        """See `Accept.weights`."""
        if self.maximum is not None:
            return torch.ones_like(rewards)
        return len(rewards) * (rewards / self.temperature).softmax(0)

    def __str__(self) -> str:
        how = "weights" if self.maximum is None else f"maximum {self.maximum:.4g}"
        return f"exponential tilt at temperature {self.temperature:.4g} ({how})"


class All(Accept):
    """Every draw whose reward did not fail: no selection (the control), or de-duplication alone."""

    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `Accept.law`."""
        return torch.ones_like(rewards), torch.ones_like(rewards)

    def __str__(self) -> str:
        return "all"


def intervals(rewards: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) and (n,): the interval of the empirical CDF that each draw shares with those of equal reward."""
    _, inverse, counts = torch.unique(rewards, sorted=True, return_inverse=True, return_counts=True)
    reached = counts.cumsum(0)
    return ((reached - counts).double() / len(rewards))[inverse], (reached.double() / len(rewards))[inverse]


def top_k_average(low: Tensor, high: Tensor, keep: float, draws: float) -> Tensor:
    r"""The mean over [low, high] of a(F) = Σ_{k<K} C(M−1, k) (1−F)^k F^{M−1−k}, for K of M.

    With the regularised incomplete beta function a(F) = I_F(M − K, K), whose integral is
    F I_F(M − K, K) − (M − K)/M I_F(M − K + 1, K); K need not be whole.
    """
    if keep >= draws:
        return torch.ones_like(low)

    def integral(f: Tensor) -> Tensor:
        x = f.numpy()
        first: np.ndarray = betainc(draws - keep, keep, x)
        second: np.ndarray = betainc(draws - keep + 1, keep, x)
        return torch.from_numpy(x * first - (draws - keep) / draws * second)

    return ((integral(high) - integral(low)) / (high - low)).clamp(0, 1)


def _log_choose(m: Tensor, k: int) -> Tensor:
    return torch.lgamma(m + 1) - math.lgamma(k + 1) - torch.lgamma((m - k).clamp(min=0) + 1)


def kl(relative: Tensor) -> float:
    """KL(accepted ‖ drawn) in nats of draws accepted in proportion to ``relative`` (n,): Σ p log(n p)."""
    p = relative / relative.sum()
    return float(torch.special.xlogy(p, p * len(p)).sum())


def systematic(probability: Tensor, generator: "Generator | None") -> Tensor:
    """Positions drawn so that each has its probability and their number is as good as fixed (Madow 1949)."""
    order = torch.randperm(len(probability), generator=generator)
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    # rounding units of the sum must not cost the last of a whole number
    reached = (probability[order].cumsum(0) + offset + 1e-9).floor()
    before = torch.cat([(offset + 1e-9).floor()[None], reached[:-1]])
    return order[reached > before]


def _first_of_each(keys: Sequence[str], usable: Tensor, generator: "Generator | None") -> tuple[Tensor, Tensor]:
    """(n,) bool: one draw of each key, at random; (n,) how many draws share its key."""
    keep, copies = torch.zeros(len(keys), dtype=torch.bool), torch.ones(len(keys), dtype=torch.float64)
    seen: dict[str, int] = {}
    for i in torch.randperm(len(keys), generator=generator).tolist():
        if not usable[i]:
            continue
        first = seen.setdefault(keys[i], i) if keys[i] else i
        keep[first] = True
        if first != i:
            copies[first] += 1
    return keep, copies


def _spread(relative: Tensor, keys: Sequence[str], copies: Tensor) -> Tensor:
    """A of each kept draw shared out over its copies, of which any could have been the one kept."""
    of_key = {key: float(relative[i] / copies[i]) for i, key in enumerate(keys) if key and relative[i] > 0}
    return torch.tensor(
        [of_key.get(key, 0.0) if key else float(relative[i]) for i, key in enumerate(keys)], dtype=torch.float64
    )
