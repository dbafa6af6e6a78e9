"""Correctors: small flows of their own, from Gaussian noise to the noise that a frozen flow is to be given (u* = 1).

A corrector neither knows nor asks where its examples come from, the noise of accepted draws or real data carried back
by inverting the flow: sampling goes Gaussian noise → corrector → flow.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graft.batches import TrainingBatch
from graft.errors import GraftError
from graft.finite import NotFiniteError, is_finite
from graft.process import Gaussian, LinearSchedule, MultiFieldProcess, Process
from graft.recorded_arguments import Described
from graft.solvers import Euler, Solver
from graft.state import Condition, State, size


class NoiseCorrector(Described):
    """A flow from the Gaussian noise that the model's process starts from to the noise that it is to be given.

    It learns that law as any reference learns its data's: by the denoising loss of its own process.

    Args:
        process: Gaussian noise of the same fields, shapes and projections as the model's, so that the corrector stays
            in the subspaces in which the model's noise lives. `TrigFlow` suits: a network that says 0 is then the
            reference exactly.
        backbone: Its network, called as the model's: ``(state, time (B,), condition) -> output``.
        steps: Of its own clock.
        solver: Of its own steps; Euler's if ``null``.
    """

    def __init__(self, process: Process, backbone: nn.Module, steps: int = 12, solver: "Solver | None" = None) -> None:
        if steps < 1:
            raise GraftError(f"model.corrector.steps is {steps}, but a flow takes at least 1")
        self.process, self.backbone, self.steps = process, backbone, steps
        self.solver = solver if solver is not None else Euler()
        self.solver.check(process)

    def check_compatible(self, model: Process) -> None:
        """Go with a model of that process.

        Raises:
            GraftError: Its sampler draws noise, or its prior is not the one that this corrector starts from.
        """
        theirs, ours = gaussian_fields(model), gaussian_fields(self.process)
        _decided(model)
        for name in [*theirs, *(name for name in ours if name not in theirs)]:
            pair = [_prior(side[name]) if name in side else {"shape": "nothing"} for side in (theirs, ours)]
            for what, wanted in pair[0].items():
                if pair[1].get(what) != wanted:
                    raise GraftError(
                        f"model.corrector.process starts from other noise than model.process: the {what} of "
                        f"{name or 'a state'} is {pair[1].get(what)} there and {wanted} here"
                    )

    def fit(self, parts: Sequence[TrainingBatch]) -> None:
        """A round begins with these examples: what has a closed form is fitted now."""


class GaussianCorrector(NoiseCorrector):
    """A Gaussian with the mean and the covariance of the examples: the baseline that costs no training.

    x = mean + covariance^½ z in one step. It has no gradient, so one step of the optimizer a round is enough; it has D²
    numbers for states of D, and wants more examples than D.
    """

    def __init__(self) -> None:
        super().__init__(Gaussian(LinearSchedule(), "x0", (), eta=0.0), nn.Module(), 1)

    def check_compatible(self, model: Process) -> None:
        """See `NoiseCorrector.check_compatible`."""
        theirs = gaussian_fields(model)
        _decided(model)
        each = {
            n: Gaussian(LinearSchedule(), "x0", p.shape, eta=0.0, projection=p.projection) for n, p in theirs.items()
        }
        self.process = each[""] if "" in each else MultiFieldProcess(dict(each))
        self.backbone = Affine({name: math.prod(p.shape) for name, p in theirs.items()})

    @torch.no_grad()
    def fit(self, parts: Sequence[TrainingBatch]) -> None:
        """See `NoiseCorrector.fit`: moments weighted as the examples are.

        Raises:
            NotFiniteError: The examples are not finite.
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
    """The network that says mean + root x of states flattened to (B, D), in buffers that files and checkpoints hold.

    Args:
        sizes: Numbers of each field of a state; of a tensor under the name ``""``.
    """

    mean: Tensor
    root: Tensor

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        self.sizes = sizes
        total = sum(sizes.values())
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("root", torch.eye(total))
        self.dummy = nn.Parameter(torch.zeros(1))  # optimizers want something with a gradient

    def pack(self, state: State) -> Tensor:
        """(B, D) of a state."""
        return torch.cat([(state if isinstance(state, Tensor) else state[name]).flatten(1) for name in self.sizes], 1)

    def forward(self, state: State, time: Tensor, condition: Condition) -> State:
        """The same for every time: it is asked at level 1."""
        x = self.pack(state)
        y = self.mean.to(x) + x @ self.root.to(x).mT + 0 * self.dummy.to(x)
        if isinstance(state, Tensor):
            return y.reshape(state.shape)
        parts = torch.split(y, list(self.sizes.values()), 1)
        return {name: part.reshape(state[name].shape) for name, part in zip(self.sizes, parts, strict=True)}


def gaussian_fields(process: Process) -> dict[str, Gaussian]:
    """The Gaussian processes that a process is made of, by field; a tensor's under the name ``""``.

    Raises:
        GraftError: One is not Gaussian.
    """
    parts = process.fields if isinstance(process, MultiFieldProcess) else {"": process}
    for name, part in parts.items():
        if not isinstance(part, Gaussian):
            raise GraftError(
                f"a corrector is for Gaussian noise, and {name or 'the state'} has {type(part).__name__}: leave out "
                "model.corrector"
            )
    return {name: part for name, part in parts.items() if isinstance(part, Gaussian)}


def _decided(model: Process) -> None:
    """Refuse a sampler whose samples are not decided by the noise that they start from."""
    if model.stochastic:
        raise GraftError(
            "model.corrector shapes the noise that a sample is made of, which decides the sample only where no more is "
            "drawn on the way: set eta=0 in every field of model.process"
        )


def _prior(process: Gaussian) -> dict[str, str]:
    """What noise a process starts from, in words."""
    return {
        "shape": "x".join(map(str, process.shape)) or "a number",
        "standard deviation": f"{float(process.alpha_sigma(1.0)[1]):.3g}",
        "projection": type(process.projection).__name__ if process.projection is not None else "none",
    }
