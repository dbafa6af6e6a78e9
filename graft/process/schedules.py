r"""Noise schedules: alpha and sigma of ``x_t = alpha_t x_0 + sigma_t eps`` at the process's own time t in [0, 1].

At t = 0 a state is data: alpha = 1 and sigma = 0, exactly.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from graft.described import Described
from graft.errors import GraftError
from graft.process.ranges import require


class Schedule(Described, ABC):
    """alpha(t) and sigma(t) for t in [0, 1], float64."""

    @abstractmethod
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma), each of the shape of ``t`` (float64)."""

    def network_time(self, t: Tensor) -> Tensor:
        """What the network is told of the time: t itself unless its training used another scale."""
        return t


class Flow(Schedule):
    """Flow matching, a straight line from data to noise: alpha = 1 − t, sigma = t (Lipman et al. 2023, eq. 22)."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Schedule.alpha_sigma`."""
        return 1 - t, t


class Cosine(Schedule):
    """Variance preserving, alpha = cos(π t / 2), sigma = sin(π t / 2) (Nichol & Dhariwal 2021, no offset)."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Schedule.alpha_sigma`."""
        # sin of the complement: cos(π/2) is 6e-17 and not 0 in floating point
        return torch.sin((1 - t) * (math.pi / 2)), torch.sin(t * (math.pi / 2))


class Polynomial(Schedule):
    """Variance preserving, alpha² = (1 − s)(1 − t^p)² + s: EDM's molecules (Hoogeboom et al. 2022, appendix B).

    EDM itself has (1 − 2s) in the place of (1 − s), which leaves sigma² = s at t = 0; here t = 0 is data.

    Args:
        power: p.
        offset: s, so that the prior keeps a little signal and eps prediction stays finite.
    """

    def __init__(self, power: float = 2.0, offset: float = 1e-5) -> None:
        require(0 < power < math.inf, "power", power, "be positive")
        require(0 <= offset < 1, "offset", offset, "lie in [0, 1)")
        self.power, self.offset = power, offset

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Schedule.alpha_sigma`."""
        q = t**self.power
        alpha2 = (1 - self.offset) * (1 - q) ** 2 + self.offset
        return alpha2.sqrt(), ((1 - self.offset) * q * (2 - q)).sqrt()  # 1 − alpha², without its cancellation near 0


class VarianceExploding(Schedule):
    r"""Variance exploding: alpha = 1, and steps that are uniform in t are uniform in sigma^(1/power).

    .. math:: \sigma(t) = \big(\sigma_{min}^{1/\rho} + t\,(\sigma_{max}^{1/\rho} - \sigma_{min}^{1/\rho})\big)^\rho,
        \quad t > 0, \qquad \sigma(0) = 0

    (Karras et al. 2022, eq. 5, whose index runs the other way: their last step, to data, is the one to t = 0 here). The
    jump at 0 is a straight line up to `DATA`, so that the schedule is continuous.

    Args:
        maximum: sigma at t = 1, in units of the data.
        power: rho.
        minimum: Least sigma that the network is trained and asked at, in units of the data.

    Raises:
        GraftError: A setting is out of its range.
    """

    DATA = 1e-12
    """Below this t, which neither training nor a sampler asks for, sigma falls from its minimum to 0."""

    def __init__(self, maximum: float = 80.0, power: float = 7.0, minimum: float = 0.002) -> None:
        require(0 < maximum < math.inf, "maximum", maximum, "be positive")
        require(0 < minimum < maximum, "minimum", minimum, f"lie between 0 and the maximum, {maximum:g}")
        require(0 < power < math.inf, "power", power, "be positive")
        self.maximum, self.power, self.minimum = maximum, power, minimum

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Schedule.alpha_sigma`."""
        low, high = self.minimum ** (1 / self.power), self.maximum ** (1 / self.power)
        # written so that the ends are the minimum and the maximum exactly
        sigma = torch.where(t < 1, (low + t * (high - low)) ** self.power, self.maximum)
        return torch.ones_like(t), sigma * (t / self.DATA).clamp(max=1)


class Betas(Schedule):
    """The DDPM tables of diffusers' schedulers, interpolated in log alpha²; t = k / steps is their index k − 1.

    Args:
        kind: ``linear``, ``scaled_linear`` (Stable Diffusion) or ``squaredcos_cap_v2`` (Nichol & Dhariwal 2021).
        steps: Length of the table, usually 1000.
        start: First beta (not used by squaredcos_cap_v2).
        end: Last beta (not used by squaredcos_cap_v2).
    """

    def __init__(self, kind: str = "linear", steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> None:
        require(steps >= 1, "steps", steps, "be at least 1")
        require(0 < start <= end < 1, "start", start, f"be above 0 and at most `end`, {end:g}, which must be below 1")
        index = torch.arange(steps, dtype=torch.float64)
        if kind == "linear":
            betas = torch.linspace(start, end, steps, dtype=torch.float64)
        elif kind == "scaled_linear":
            betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
        elif kind == "squaredcos_cap_v2":
            bar = [torch.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in (index, index + 1)]
            betas = (1 - bar[1] / bar[0]).clamp(max=0.999)
        else:
            raise GraftError(f"`kind` is {kind!r}; it must be linear, scaled_linear or squaredcos_cap_v2. Change it")
        self.steps = steps
        # entry 0 is data, entry k is diffusers' alphas_cumprod[k − 1]
        self.log_alpha2 = torch.cat([betas.new_zeros(1), torch.log1p(-betas).cumsum(0)])

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Schedule.alpha_sigma`."""
        table = self.log_alpha2.to(t.device)
        low = (t * self.steps).floor().clamp(0, self.steps - 1)
        share = t * self.steps - low
        index = low.long()
        log_alpha2 = table[index] * (1 - share) + table[index + 1] * share
        return torch.exp(log_alpha2 / 2), (-torch.expm1(log_alpha2)).sqrt()

    def network_time(self, t: Tensor) -> Tensor:
        """The index of diffusers' table, 0 to steps − 1."""
        return (t * self.steps - 1).clamp(min=0)
