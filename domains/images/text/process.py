"""The process of a diffusers scheduler: its tables as a schedule.

The sampler's levels are the knots of the schedule.

Level u = j / steps is exactly the place of diffusers' own sampler after ``steps`` − j of its steps. Between two levels
the schedule follows the table that the network was trained with.
"""

from typing import Any

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core.state import Condition, size
from graft.errors import GraftError
from graft.process import Gaussian
from graft.process.predictions import Prediction
from graft.process.ranges import require
from graft.process.schedules import Schedule

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
"""Schedulers that solve the same process, a table of betas."""

FLOWS = {"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"}
"""Schedulers of flow matching, x = (1 − sigma) x_0 + sigma eps."""

FLOW_SOLVERS = {"DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"}
"""Schedulers that solve such a flow if ``use_flow_sigmas`` is set, as in Sana and Wan."""

DISTILLED = {"LCMScheduler", "TCDScheduler", "SCMScheduler", "FlowMatchLCMScheduler"}
"""Schedulers of models that are distilled to few steps."""

PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


class SchedulerBetas(Schedule):
    """A table of alpha² with some entries as the sampler's levels.

    Entry 0 of the table is the end of diffusers' last step: data, or (``set_alpha_to_one: false``, as in Stable
    Diffusion) the lowest noise that the network was trained with. Entry k is diffusers' ``alphas_cumprod[k − 1]``.

    Args:
        alpha2: (T + 1,) float64 alpha².
        knots: (N + 1,) float64 entries at the levels 0, 1/N, …, 1.
    """

    def __init__(self, alpha2: Tensor, knots: Tensor) -> None:
        self.alpha2, self.knots = alpha2.double(), knots.double()

    @override
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma; alpha² is linear between entries."""
        place = _linear(self.knots, t * (len(self.knots) - 1))
        return _linear(self.alpha2, place).sqrt(), _linear(
            1 - self.alpha2, place
        ).sqrt()  # 1 - alpha² keeps its digits near data

    @override
    def network_time(self, t: Tensor) -> Tensor:
        """Return the index of diffusers' table, 0 to T − 1."""
        return (_linear(self.knots, t * (len(self.knots) - 1)) - 1).clamp(min=0)


class SchedulerSigmas(Schedule):
    """Flow matching, alpha = 1 − sigma, at the sigmas of the sampler's levels.

    Args:
        sigmas: (N + 1,) float64 sigma at the levels 0, 1/N, …, 1.
        times: (N + 1,) float64 times of the network at these levels.
    """

    def __init__(self, sigmas: Tensor, times: Tensor) -> None:
        self.sigmas, self.times = sigmas.double(), times.double()

    @override
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        sigma = _linear(self.sigmas, t * (len(self.sigmas) - 1))
        return 1 - sigma, sigma

    @override
    def network_time(self, t: Tensor) -> Tensor:
        """Return the scheduler's time, linear between the sampler's levels."""
        return _linear(self.times, t * (len(self.times) - 1))


class LatentGaussian(Gaussian):
    """`Gaussian` that starts from N(0, I) at level 1, as diffusers' pipelines do.

    The scheduler's sigma at level 1 may differ from 1; it is 0.998 for SD.

    Args:
        *args: Arguments of `Gaussian`.
        guided: Classifier-free guidance is on. A guided output is not an estimate of x_0 under any one distribution, so
            no eta makes its sampler reverse the forward process, and targets that assume it are biased.
        noise_order: Shape in which the pipeline draws its noise, and the place of each entry of a latent in it.
        **kwargs: Arguments of `Gaussian`.
    """

    def __init__(
        self,
        *args: Any,
        guided: bool = False,
        noise_order: "tuple[tuple[int, ...], Tensor] | None" = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        require(self.eta <= 1, "eta", self.eta, "lie in [0, 1], as in diffusers")
        self.guided = guided
        self._noise_order = noise_order

    @override
    def reverses_in_distribution(self, level: float) -> bool:
        return super().reverses_in_distribution(level) and not self.guided

    @override
    def prior(self, condition: Condition, generator: "Generator | None" = None) -> Tensor:
        like = next(iter(condition.values()))
        x = torch.empty(0, device=like.device).new_empty((size(condition), *self.shape))
        if self._noise_order is None:
            return self.noise(x, condition, generator)
        shape, places = self._noise_order
        noise = self.noise(x.new_empty((len(x), *shape)), condition, generator)
        return noise.flatten(1)[:, places.to(noise.device)].view_as(x)


def sampling_scheduler(scheduler: Any, changes: "dict[str, Any] | None" = None) -> Any:
    """Return DDIM with the table of a scheduler, or Euler's method with its flow.

    Args:
        scheduler: Scheduler of the pipeline.
        changes: Changes of its configuration, such as ``{"timestep_spacing": "trailing"}``.

    Raises:
        GraftError: The scheduler cannot be mapped to alpha and sigma.
    """
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

    name = type(scheduler).__name__
    config = {**scheduler.config, **(changes or {})}
    if unknown := sorted((changes or {}).keys() - dict(scheduler.config).keys()):
        raise GraftError(f"model.scheduler has {unknown[0]!r}, which {name} does not know")
    if name in FLOW_SOLVERS and config.get("use_flow_sigmas") and config.get("prediction_type") == "flow_prediction":
        if config.get("use_dynamic_shifting"):
            raise GraftError(_refused(name, "use_dynamic_shifting is set, which only flow matching's own can"))
        return FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=config["num_train_timesteps"], shift=config["flow_shift"]
        )
    for flag in ("thresholding", "invert_sigmas", "stochastic_sampling", "use_flow_sigmas"):
        if config.get(flag):
            raise GraftError(_refused(name, f"{flag} is set, which alpha and sigma cannot express"))
    if name in FLOWS:
        return FlowMatchEulerDiscreteScheduler.from_config(scheduler.config, **(changes or {}))
    if name in DISTILLED:
        raise GraftError(
            _refused(name, "it samples a model that is distilled to few steps; give the model that it was made from")
        )
    if name not in TABLES:
        raise GraftError(_refused(name, "only tables of betas and flow matching can"))
    if config.get("prediction_type", "epsilon") not in PREDICTIONS:
        raise GraftError(_refused(name, f"the network predicts {config['prediction_type']!r}"))
    if name.startswith("DD") and config.get("clip_sample"):
        raise GraftError(
            _refused(name, "clip_sample is set, which changes the distribution: use model.scheduler.clip_sample=false")
        )
    # DDIM has no learned variance, and pipelines that see one in the configuration would give it to DDIM
    table = {key: value for key, value in scheduler.config.items() if key != "variance_type"}
    # changes are passed apart, since a merged configuration would reset defaults of the scheduler to DDIM's
    return DDIMScheduler.from_config(table, **{**(changes or {}), "clip_sample": False})


def process(
    scheduler: Any,
    steps: int,
    shape: tuple[int, ...],
    eta: float,
    guided: bool = False,
    noise_order: "tuple[tuple[int, ...], Tensor] | None" = None,
    **given: Any,
) -> LatentGaussian:
    """Return the process of a scheduler on latents, with the sampler's steps as levels.

    Args:
        scheduler: Scheduler of `sampling_scheduler`.
        steps: Number of steps of the sampler.
        shape: (C, H, W) of a latent.
        eta: Noise of the steps, as in `Gaussian`.
        guided: Classifier-free guidance is on.
        noise_order: Order of the first noise, as in `LatentGaussian`.
        **given: Arguments of the scheduler's ``set_timesteps``, as the pipeline calls it.

    Raises:
        GraftError: diffusers cannot sample with this number of steps.
    """
    name = type(scheduler).__name__
    if name in FLOWS:
        scheduler.set_timesteps(**({"num_inference_steps": steps} | given if "sigmas" not in given else given))
        if len(scheduler.timesteps) != steps:
            raise GraftError(f"the pipeline takes {len(scheduler.timesteps)} steps where model.steps is {steps}")
        sigmas = torch.as_tensor(scheduler.sigmas).double().flip(0)
        times = torch.as_tensor(scheduler.timesteps).double().flip(0)
        times = torch.cat([sigmas[:1] * float(scheduler.config.num_train_timesteps), times])
        schedule = SchedulerSigmas(sigmas, times)
        return LatentGaussian(schedule, "velocity", shape, eta, guided=guided, noise_order=noise_order)
    total = int(scheduler.config.num_train_timesteps)
    try:
        scheduler.set_timesteps(steps)
    except ValueError:
        raise GraftError(f"model.steps is {steps}; it must be at most {total}, the network's levels of noise") from None
    times = torch.as_tensor(scheduler.timesteps).double()
    if len(times) != steps or bool((times[:-1] - total // steps != times[1:]).any()):
        spacing = scheduler.config.timestep_spacing
        raise GraftError(
            f"with timestep_spacing {spacing!r} and {steps} steps DDIM does not step to where it asks the network "
            f"next: take a number of steps that divides {total}, or model.scheduler.timestep_spacing=leading"
        )
    alpha2 = torch.cat([torch.as_tensor(scheduler.final_alpha_cumprod)[None], scheduler.alphas_cumprod]).double()
    # the last knot is entry 0, or entry 1 if that has the same value
    knots = torch.cat([times + 1, times.new_full((1,), float(alpha2[0] == alpha2[1]))]).flip(0)
    prediction = PREDICTIONS[scheduler.config.prediction_type]
    return LatentGaussian(SchedulerBetas(alpha2, knots), prediction, shape, eta, guided=guided, noise_order=noise_order)


def _refused(name: str, why: str) -> str:
    return f"the pipeline's {name} cannot be mapped to alpha and sigma: {why}"


def _linear(table: Tensor, place: Tensor) -> Tensor:
    """Return ``table`` at fractional entries."""
    table = table.to(place.device)
    low = place.floor().clamp(0, len(table) - 2).long()
    share = place - low
    return table[low] * (1 - share) + table[low + 1] * share
