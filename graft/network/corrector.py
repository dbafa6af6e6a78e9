"""Correctors: small flows that shape the Gaussian noise of a frozen flow.

Sampling goes Gaussian noise → corrector → flow. The corrector is independent of the origin of its training noise, which
is the noise of accepted draws or the noise that inversion of the flow finds for real data.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from graft.core import limits
from graft.core.datatypes import TrainingBatch
from graft.core.finite import NotFiniteError, is_finite
from graft.core.recorded_arguments import Described
from graft.core.state import Condition, State, size
from graft.errors import GraftError
from graft.process import Gaussian, LinearSchedule, MultiFieldProcess, Process, TrigFlow
from graft.solvers import Euler, Solver


class NoiseCorrector(Described):
    """A flow from the Gaussian prior of the model to the target noise of the model.

    The corrector learns the distribution of the target noise with the denoising loss of its own process.

    Args:
        process: Gaussian noise of the same fields, shapes and projections as the model's, so that the corrector stays
            in the subspaces in which the model's noise lives; ``null``: `TrigFlow` in each field of the model's
            process, with which a network that returns 0 leaves the noise as it is.
        backbone: Network of the corrector, called as the model's: ``(state, time (B,), condition) -> output``.
        steps: Number of sampler steps of the corrector.
        solver: Solver of the corrector; ``null`` is `graft.solvers.Euler`.

    Raises:
        GraftError: ``steps`` is below 1, or the solver does not suit the process.
    """

    process: Process
    """Process of the corrector; without one of its own it is known from `check_compatible` on."""

    def __init__(
        self,
        process: "Process | None" = None,
        backbone: "nn.Module | None" = None,
        steps: int = 12,
        solver: "Solver | None" = None,
    ) -> None:
        limits.check("model.corrector.steps", steps, 1)
        if backbone is None:
            raise GraftError("model.corrector.backbone is null; it must be a network. Give its class_path")
        self.backbone, self.steps = backbone, steps
        self.solver = solver if solver is not None else Euler()
        if process is not None:
            self.process = process
            self.solver.check(process)

    def check_compatible(self, model: Process) -> None:
        """Take the noise of a model, or raise GraftError if the corrector does not suit its process.

        Raises:
            GraftError: The sampler of the model is stochastic, or the priors of the processes differ.
        """
        theirs = gaussian_fields(model)
        _require_deterministic(model)
        if not hasattr(self, "process"):
            parts = {name: TrigFlow(part.shape, part.projection) for name, part in theirs.items()}
            self.process = parts[""] if "" in parts else MultiFieldProcess(dict(parts))
            self.solver.check(self.process)
        ours = gaussian_fields(self.process)
        for name in [*theirs, *(name for name in ours if name not in theirs)]:
            pair = [_prior(side[name]) if name in side else {"shape": "nothing"} for side in (theirs, ours)]
            for what, wanted in pair[0].items():
                if pair[1].get(what) != wanted:
                    raise GraftError(
                        f"model.corrector.process starts from other noise than model.process: the {what} of "
                        f"{name or 'a state'} is {pair[1].get(what)} there and {wanted} here"
                    )

    def fit(self, parts: Sequence[TrainingBatch]) -> None:
        """Fit a corrector with a closed form to the examples of a round.

        Args:
            parts: Training examples of each round.
        """


class GaussianCorrector(NoiseCorrector):
    """A Gaussian with the mean and covariance of the examples, a baseline without training.

    One step computes x = mean + covariance^½ z. The fit has a closed form, so one optimizer step per round is enough.
    The covariance has D² numbers for states of D numbers, so the fit needs more than D examples.
    """

    def __init__(self) -> None:
        super().__init__(Gaussian(LinearSchedule(), "x0", (), eta=0.0), nn.Module(), 1)

    @override
    def check_compatible(self, model: Process) -> None:
        """Take the shapes of a model; raise GraftError if it is stochastic or not Gaussian."""
        theirs = gaussian_fields(model)
        _require_deterministic(model)
        each = {
            n: Gaussian(LinearSchedule(), "x0", p.shape, eta=0.0, projection=p.projection) for n, p in theirs.items()
        }
        self.process = each[""] if "" in each else MultiFieldProcess(dict(each))
        self.backbone = Affine({name: math.prod(p.shape) for name, p in theirs.items()})

    @override
    @torch.no_grad()
    def fit(self, parts: Sequence[TrainingBatch]) -> None:
        """Fit the mean and the covariance of the weighted examples.

        Raises:
            NotFiniteError: An example is not finite.
        """
        network = self.backbone
        assert isinstance(network, Affine)
        x = torch.cat([network.pack(part.state).double() for part in parts])
        if not is_finite(x):
            raise NotFiniteError("the noise that a Gaussian is fitted to is not finite: check model.weights")
        weight = torch.cat([torch.ones(size(p.state)) if p.weight is None else p.weight for p in parts]).double()
        weight = (weight / weight.sum())[:, None].to(x.device)
        mean = (weight * x).sum(0)
        variance, axes = torch.linalg.eigh((weight * (x - mean)).mT @ (x - mean))
        network.mean.copy_(mean)
        network.root.copy_(axes * variance.clamp(min=0).sqrt() @ axes.mT)


class Affine(nn.Module):
    """A network that returns mean + root x for states flattened to (B, D).

    The mean and the root are buffers, so that files and checkpoints hold them.

    Args:
        sizes: Number of values in each field of a state; a tensor has the name ``""``.

    Attributes:
        mean: (D,) mean.
        root: (D, D) symmetric root of the covariance.
    """

    mean: Tensor
    root: Tensor

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        self.sizes = sizes
        total = sum(sizes.values())
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("root", torch.eye(total))
        self.dummy = nn.Parameter(torch.zeros(1))  # an optimizer needs a parameter with a gradient

    def pack(self, state: State) -> Tensor:
        """Return (B, D) the flattened state."""
        return torch.cat([(state if isinstance(state, Tensor) else state[name]).flatten(1) for name in self.sizes], 1)

    @override
    def forward(self, state: State, time: Tensor, condition: Condition) -> State:
        """Return the corrected state for every time; the sampler calls the network at level 1."""
        x = self.pack(state)
        y = self.mean.to(x) + x @ self.root.to(x).mT + 0 * self.dummy.to(x)
        if isinstance(state, Tensor):
            return y.reshape(state.shape)
        parts = torch.split(y, list(self.sizes.values()), 1)
        return {name: part.reshape(state[name].shape) for name, part in zip(self.sizes, parts, strict=True)}


def gaussian_fields(process: Process) -> dict[str, Gaussian]:
    """Return the Gaussian process of each field; a tensor has the name ``""``.

    Raises:
        GraftError: The process of a field is not Gaussian.
    """
    parts = process.fields if isinstance(process, MultiFieldProcess) else {"": process}
    for name, part in parts.items():
        if not isinstance(part, Gaussian):
            raise GraftError(
                f"a corrector is for Gaussian noise, and {name or 'the state'} has {type(part).__name__}: leave out "
                "model.corrector"
            )
    return {name: part for name, part in parts.items() if isinstance(part, Gaussian)}


def _require_deterministic(model: Process) -> None:
    """Raise GraftError if a sampler is stochastic: the prior noise must decide the sample."""
    if model.stochastic:
        raise GraftError(
            "model.corrector shapes the prior noise of a sample, which decides the sample only if the sampler adds no "
            "noise: set eta=0 in every field of model.process"
        )


def _prior(process: Gaussian) -> dict[str, str]:
    """Return a description of the prior noise of a process, by property."""
    return {
        "shape": "x".join(map(str, process.shape)) or "a number",
        "standard deviation": f"{float(process.alpha_sigma(1.0)[1]):.3g}",
        "projection": type(process.projection).__name__ if process.projection is not None else "none",
    }
