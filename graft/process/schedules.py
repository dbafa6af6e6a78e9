r"""Noise schedules: alpha and sigma of x_t = alpha_t x_0 + sigma_t eps at t in [0, 1].

At t = 0 a state is data: alpha = 1 and sigma = 0, exactly.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from typing_extensions import override

from graft.core.recorded_arguments import Described
from graft.errors import GraftError
from graft.process.ranges import require


class Schedule(Described, ABC):
    """alpha(t) and sigma(t) for t in [0, 1]."""

    @abstractmethod
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma), each float64 and of the shape of ``t``."""

    def network_time(self, t: Tensor) -> Tensor:
        """Return the time input of the network: t itself, or t on the scale of its training."""
        return t


class LinearSchedule(Schedule):
    """Flow matching on a straight line: alpha = 1 − t, sigma = t (Lipman et al. 2023, eq. 22)."""

    @override
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t


class CosineSchedule(Schedule):
    """Variance preserving, alpha = cos(π t / 2), sigma = sin(π t / 2).

    This is the schedule of Nichol & Dhariwal 2021 without an offset.
    """

    @override
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # the sine of the complement is exactly 0 at t = 1, where cos(π/2) is 6e-17 in floating point
        return torch.sin((1 - t) * (math.pi / 2)), torch.sin(t * (math.pi / 2))


class PolynomialSchedule(Schedule):
    """Variance preserving, alpha² = (1 − s)(1 − t^p)² + s, for EDM's molecules.

    The schedule is that of Hoogeboom et al. 2022, appendix B.

    EDM has (1 − 2s) in place of (1 − s), which leaves sigma² = s at t = 0; here t = 0 is data.

    Args:
        power: Exponent p.
        offset: Offset s, with which the prior keeps a little signal and eps prediction stays finite.

    Raises:
        GraftError: A setting is out of its range.
    """

    def __init__(self, power: float = 2.0, offset: float = 1e-5) -> None:
        require(0 < power < math.inf, "power", power, "be positive")
        require(0 <= offset < 1, "offset", offset, "lie in [0, 1)")
        self.power, self.offset = power, offset

    @override
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        q = t**self.power
        alpha2 = (1 - self.offset) * (1 - q) ** 2 + self.offset
        return alpha2.sqrt(), ((1 - self.offset) * q * (2 - q)).sqrt()  # 1 − alpha² without cancellation near 0


class VarianceExploding(Schedule):
    r"""Variance exploding: alpha = 1; steps uniform in t are uniform in sigma^(1/rho).

    .. math:: \sigma(t) = \big(\sigma_{min}^{1/\rho} + t\,(\sigma_{max}^{1/\rho} - \sigma_{min}^{1/\rho})\big)^\rho,
        \quad t > 0, \qquad \sigma(0) = 0

    (Karras et al. 2022, eq. 5, with the index reversed: the last step of that paper, to data, is the step to t = 0
    here). Between 0 and `DATA` sigma is a straight line, so that the schedule is continuous.

    Args:
        sigma_max: sigma at t = 1, in units of the data.
        rho: Exponent rho of the spacing.
        sigma_min: Least sigma at which the network is trained and evaluated, in units of the data.

    Raises:
        GraftError: A setting is out of its range.
    """

    DATA = 1e-12
    """Largest t at which sigma is below its minimum; neither training nor a sampler uses a smaller t above 0."""

    def __init__(self, sigma_max: float = 80.0, rho: float = 7.0, sigma_min: float = 0.002) -> None:
        require(0 < sigma_max < math.inf, "sigma_max", sigma_max, "be positive")
        require(0 < sigma_min < sigma_max, "sigma_min", sigma_min, f"lie between 0 and `sigma_max`, {sigma_max:g}")
        require(0 < rho < math.inf, "rho", rho, "be positive")
        self.sigma_max, self.rho, self.sigma_min = sigma_max, rho, sigma_min

    @override
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        # the ends are the minimum and the maximum exactly
        sigma = torch.where(t < 1, (low + t * (high - low)) ** self.rho, self.sigma_max)
        return torch.ones_like(t), sigma * (t / self.DATA).clamp(max=1)


class BetaSchedule(Schedule):
    """The DDPM tables of diffusers' schedulers, interpolated in log alpha².

    t = k / num_train_timesteps is the index k − 1 of a table.

    Args:
        beta_schedule: ``linear``, ``scaled_linear`` (Stable Diffusion) or ``squaredcos_cap_v2`` (Nichol & Dhariwal
            2021).
        num_train_timesteps: Length of the table, usually 1000.
        beta_start: First beta (not used by squaredcos_cap_v2).
        beta_end: Last beta (not used by squaredcos_cap_v2).

    Raises:
        GraftError: A setting is out of its range.
    """

    def __init__(
        self,
        beta_schedule: str = "linear",
        num_train_timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
    ) -> None:
        require(num_train_timesteps >= 1, "num_train_timesteps", num_train_timesteps, "be at least 1")
        require(
            0 < beta_start <= beta_end < 1,
            "beta_start",
            beta_start,
            f"be above 0 and at most `beta_end`, {beta_end:g}, which must be below 1",
        )
        index = torch.arange(num_train_timesteps, dtype=torch.float64)
        if beta_schedule == "linear":
            betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)
        elif beta_schedule == "scaled_linear":
            betas = torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps, dtype=torch.float64) ** 2
        elif beta_schedule == "squaredcos_cap_v2":
            bar = [torch.cos((i / num_train_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in (index, index + 1)]
            betas = (1 - bar[1] / bar[0]).clamp(max=0.999)
        else:
            raise GraftError(
                f"`beta_schedule` is {beta_schedule!r}; it must be linear, scaled_linear or "
                "squaredcos_cap_v2. Change it"
            )
        self.num_train_timesteps = num_train_timesteps
        # entry 0 is data, entry k is diffusers' alphas_cumprod[k − 1]
        self.log_alpha2 = torch.cat([betas.new_zeros(1), torch.log1p(-betas).cumsum(0)])

    @override
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        table = self.log_alpha2.to(t.device)
        low = (t * self.num_train_timesteps).floor().clamp(0, self.num_train_timesteps - 1)
        share = t * self.num_train_timesteps - low
        index = low.long()
        log_alpha2 = table[index] * (1 - share) + table[index + 1] * share
        return torch.exp(log_alpha2 / 2), (-torch.expm1(log_alpha2)).sqrt()

    @override
    def network_time(self, t: Tensor) -> Tensor:
        """Return the index of diffusers' table, 0 to num_train_timesteps − 1."""
        return (t * self.num_train_timesteps - 1).clamp(min=0)
