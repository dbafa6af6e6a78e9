"""The noise process of a diffusers scheduler: its tables as a schedule of the core, with the sampler's levels as knots.

Level u = j / steps is where diffusers' own sampler stands after ``steps`` − j of its steps, exactly; between two of
them the schedule follows the table that the network was trained with.
"""

from typing import Any

import torch
from torch import Generator, Tensor

from graft.errors import GraftError
from graft.process import Gaussian
from graft.process.gaussian import Prediction
from graft.process.schedules import Schedule
from graft.state import Condition, size

TABLES = {
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
}
"""Schedulers that are solvers of one and the same process, a table of betas."""

FLOWS = {"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"}
"""Schedulers of flow matching, x = (1 − sigma) x_0 + sigma eps."""

PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


class SchedulerBetas(Schedule):
    """A table of alpha² that the sampler visits at some of its entries.

    Entry 0 of the table is where diffusers' last step ends: data, or (``set_alpha_to_one: false``, as Stable Diffusion
    has it) the least noise that the network knows. Entry k is diffusers' ``alphas_cumprod[k − 1]``.

    Args:
        alpha2: (T + 1,) float64.
        knots: (N + 1,) float64 entries at the levels 0, 1/N, …, 1.
    """

    def __init__(self, alpha2: Tensor, knots: Tensor) -> None:
        self.alpha2, self.knots = alpha2.double(), knots.double()

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Schedule.alpha_sigma`; linear in alpha² between entries."""
        place = _linear(self.knots, t * (len(self.knots) - 1))
        return _linear(self.alpha2, place).sqrt(), _linear(1 - self.alpha2, place).sqrt()  # no difference near data

    def network_time(self, t: Tensor) -> Tensor:
        """The index of diffusers' table, 0 to T − 1."""
        return (_linear(self.knots, t * (len(self.knots) - 1)) - 1).clamp(min=0)


class SchedulerSigmas(Schedule):
    """Flow matching, alpha = 1 − sigma, at the sigmas that the sampler visits.

    Args:
        sigmas: (N + 1,) float64 sigma at the levels 0, 1/N, …, 1.
        scale: The network is told sigma times this.
    """

    def __init__(self, sigmas: Tensor, scale: float = 1000.0) -> None:
        self.sigmas, self.scale = sigmas.double(), scale

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Schedule.alpha_sigma`."""
        sigma = _linear(self.sigmas, t * (len(self.sigmas) - 1))
        return 1 - sigma, sigma

    def network_time(self, t: Tensor) -> Tensor:
        """``scale`` · sigma."""
        return self.scale * self.alpha_sigma(t)[1]


class LatentGaussian(Gaussian):
    """`Gaussian`, started as diffusers' pipelines do: from N(0, I), whatever sigma is at level 1 (0.998 for SD).

    Args:
        *args: See `Gaussian`.
        guided: Classifier-free guidance is on. A guided output is no estimate of x_0 under any one law, so no eta makes
            its sampler reverse the forward process, and targets that count on that are biased.
        **kwargs: See `Gaussian`.
    """

    def __init__(self, *args: Any, guided: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.guided = guided

    @property
    def reverses_in_law(self) -> bool:
        """See `Process.reverses_in_law`."""
        return super().reverses_in_law and not self.guided

    def prior(self, condition: Condition, generator: "Generator | None" = None) -> Tensor:
        """See `Process.prior`."""
        like = next(iter(condition.values()))
        x = torch.empty(0, device=like.device).new_empty((size(condition), *self.shape))
        return self.noise(x, condition, generator)


def sampling_scheduler(scheduler: Any, changes: "dict[str, Any] | None" = None) -> Any:
    """The scheduler whose steps are ours: DDIM with the same table, or Euler's method with the same flow.

    Args:
        scheduler: A pipeline's.
        changes: Of its configuration, such as ``{"timestep_spacing": "trailing"}``.

    Raises:
        GraftError: It cannot be mapped to alpha and sigma.
    """
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

    name = type(scheduler).__name__
    config = {**scheduler.config, **(changes or {})}
    if unknown := sorted((changes or {}).keys() - dict(scheduler.config).keys()):
        raise GraftError(f"model.scheduler has {unknown[0]!r}, which {name} does not know")
    for flag in ("thresholding", "invert_sigmas", "stochastic_sampling", "use_flow_sigmas"):
        if config.get(flag):
            raise GraftError(_refused(name, f"{flag} is set, which no alpha and sigma stand for"))
    if name in FLOWS:
        return FlowMatchEulerDiscreteScheduler.from_config(scheduler.config, **(changes or {}))
    if name not in TABLES:
        raise GraftError(_refused(name, "only tables of betas and flow matching can be"))
    if config.get("prediction_type", "epsilon") not in PREDICTIONS:
        raise GraftError(_refused(name, f"the network predicts {config['prediction_type']!r}"))
    if name.startswith("DD") and config.get("clip_sample"):
        raise GraftError(
            _refused(
                name, "clip_sample is set, and a clipped sampler has other laws: use model.scheduler.clip_sample=false"
            )
        )
    # not of the merged configuration: a key that a scheduler has by default would be left to DDIM's own default
    return DDIMScheduler.from_config(scheduler.config, **{**(changes or {}), "clip_sample": False})


def process(
    scheduler: Any, steps: int, shape: tuple[int, ...], eta: float, guided: bool = False, **given: Any
) -> LatentGaussian:
    """The process of a `solver`, on latents of ``shape``, with the sampler's ``steps`` as levels.

    Args:
        scheduler: The solver.
        steps: Of the sampler.
        shape: (C, H, W) of a latent.
        eta: See `Gaussian`.
        guided: See `LatentGaussian`.
        **given: For the solver's ``set_timesteps``, as the pipeline calls it.

    Raises:
        GraftError: diffusers cannot sample in so many steps.
    """
    name = type(scheduler).__name__
    if name in FLOWS:
        scheduler.set_timesteps(**({"num_inference_steps": steps} | given if "sigmas" not in given else given))
        sigmas = torch.as_tensor(scheduler.sigmas).double().flip(0)
        return LatentGaussian(
            SchedulerSigmas(sigmas, float(scheduler.config.num_train_timesteps)), "velocity", shape, eta, guided=guided
        )
    total = int(scheduler.config.num_train_timesteps)
    try:
        scheduler.set_timesteps(steps)
    except ValueError:
        raise GraftError(f"model.steps is {steps}, but the network knows {total} levels of noise") from None
    times = torch.as_tensor(scheduler.timesteps).double()
    if len(times) != steps or bool((times[:-1] - total // steps != times[1:]).any()):
        spacing = scheduler.config.timestep_spacing
        raise GraftError(
            f"with timestep_spacing {spacing!r} and {steps} steps DDIM does not step to where it asks the network "
            f"next: take a number of steps that divides {total}, or model.scheduler.timestep_spacing=leading"
        )
    alpha2 = torch.cat([torch.as_tensor(scheduler.final_alpha_cumprod)[None], scheduler.alphas_cumprod]).double()
    knots = torch.cat([times + 1, times.new_full((1,), float(alpha2[0] == alpha2[1]))]).flip(0)  # entry 0, or its equal
    prediction = PREDICTIONS[scheduler.config.prediction_type]
    return LatentGaussian(SchedulerBetas(alpha2, knots), prediction, shape, eta, guided=guided)


def _refused(name: str, why: str) -> str:
    return f"the pipeline's {name} cannot be mapped to alpha and sigma: {why}"


def _linear(table: Tensor, place: Tensor) -> Tensor:
    """``table`` at fractional entries."""
    table = table.to(place.device)
    low = place.floor().clamp(0, len(table) - 2).long()
    share = place - low
    return table[low] * (1 - share) + table[low + 1] * share
