"""A network's output of another shape than the state is refused, wherever the network is called."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact import f64, rows
from line import line
from torch import Tensor

from graft import GraftError, TrainingBatch
from graft.core.datatypes import SampleRequest
from graft.core.interval import Interval
from graft.core.state import Condition, State
from graft.network import AutoBatchSize
from graft.objectives import AnchoredShaping, DiffusionNFT, PolicyGradient
from graft.process import (
    CosineSchedule,
    Gaussian,
    LinearSchedule,
    MaskedCategorical,
    MultiFieldProcess,
    Process,
    TrigFlow,
    UniformCategorical,
)
from graft.sampler import Stage, run_stages
from graft.solvers import Euler, Heun, Midpoint

COUNT, SIZE = 4, 6

# What a network may say of states (4, 6), and how the sentence calls it
WRONG: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a middle dimension": (lambda x: x[:, None], "(4, 1, 6)"),
    "one number a sample": (lambda x: x[:, :1], "(4, 1)"),
    "a row": (lambda x: x[:1], "(1, 6)"),
    "no last dimension": (lambda x: x[:, 0], "(4,)"),
    "a scalar": (lambda x: x.sum(), "()"),
    "transposed": (lambda x: x.mT, "(6, 4)"),
    "twice": (lambda x: torch.cat([x, x], 1), "(4, 12)"),
    "integers": (lambda x: x.long(), "int64"),
    "a tuple": (lambda x: (x,), "tuple"),
    "nothing": (lambda x: None, "None"),
    "a dict": (lambda x: {"x": x}, "dict"),
}


def network(wrong: Callable[[Tensor], Any]) -> Callable[..., Any]:
    return lambda state, time, condition: wrong(state)


def training(process: Process, model: Any, state: State) -> None:
    process.loss(model, state, torch.linspace(0.1, 1, COUNT).double(), 0.0, rows(COUNT))


def shaping(process: Process, model: Any, state: State) -> None:
    process.loss(model, state, torch.linspace(0.6, 1, COUNT).double(), 0.5, rows(COUNT), state)


def sampling(process: Process, model: Any, state: State) -> None:
    run_stages([Stage(process, model)], rows(COUNT), 4)


def splitting(process: Process, model: Any, state: State) -> None:
    """With too little memory for the batch, parts of two rows give the same result."""
    fitted = AutoBatchSize()
    fitted.max_rows = 2
    run_stages([Stage(process, fitted(model))], rows(COUNT), 4)


def inverting(process: Process, model: Any, state: State) -> None:
    run_stages([Stage(process, model, Interval(0.0, 0.5), upwards=True)], rows(COUNT), 4, state=state)


def second_order(process: Process, model: Any, state: State) -> None:
    for solver in (Heun(), Midpoint()):
        with pytest.raises(GraftError, match="network's output"):
            run_stages([Stage(process, model, solver=solver)], rows(COUNT), 4)
    run_stages([Stage(process, model, solver=Heun())], rows(COUNT), 4)


CALLS = [training, shaping, sampling, splitting, inverting, second_order]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("wrong", WRONG)
def test_tensors(wrong: str, call: Callable[..., None]) -> None:
    process = Gaussian(LinearSchedule(), "velocity", (SIZE,), eta=0.0)
    say, shown = WRONG[wrong]
    with pytest.raises(GraftError) as error:
        call(process, network(say), torch.randn(COUNT, SIZE, dtype=torch.float64))
    assert "network's output" in str(error.value) and str(error.value).count("\n") == 0
    if call is not splitting:
        assert shown in str(error.value) and (not shown.startswith("(") or "(4, 6)" in str(error.value))


PROCESSES = [
    Gaussian(CosineSchedule(), "x0", (SIZE, 3)),
    Gaussian(CosineSchedule(), "logits", (SIZE, 3)),
    TrigFlow((SIZE, 3)),
    MaskedCategorical((SIZE, 3)),
    UniformCategorical((SIZE, 3), weight="equal"),
]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_fields(process: Any) -> None:
    """A dict of outputs needs the state's fields, each of its shape; further fields are let through."""
    mixed = MultiFieldProcess({"x": Gaussian(LinearSchedule(), "velocity", (SIZE,)), "h": process})
    state = {"x": torch.zeros(COUNT, SIZE).double(), "h": process.prior(rows(COUNT))}
    for say, words in (
        (lambda s: {**s, "h": s["h"][..., :1]}, r"field 'h' has shape \(4, 6, 1\).*\(4, 6, 3\)"),
        (lambda s: {**s, "h": s["h"].mean(0)}, r"field 'h' has shape \(6, 3\).*\(4, 6, 3\)"),
        (lambda s: {**s, "x": s["x"][:, None]}, r"field 'x' has shape \(4, 1, 6\).*\(4, 6\)"),
        (lambda s: {"x": s["x"]}, r"fields x; it must have those of the state, x, h"),
        (lambda s: {"position": s["x"], "h": s["h"]}, r"fields position, h; it must have those of the state, x, h"),
        (lambda s: s["x"], r"must be a dict of the state's fields, x, h"),
    ):
        for call in (training, sampling):
            with pytest.raises(GraftError, match=words):
                call(mixed, network(say), state)
    training(mixed, network(lambda s: {**s, "bonds": s["x"].sum()}), state)
    sampling(mixed, network(lambda s: {**s, "bonds": s["x"].sum()}), state)


@pytest.mark.parametrize("objective", [None, AnchoredShaping(), DiffusionNFT(), PolicyGradient()])
def test_every_objective(objective: Any) -> None:
    """Training and sampling of a module, for every objective."""
    process = Gaussian(CosineSchedule(), "v", (2,))
    module = line(process, 4, torch.zeros(5, 2, 3, dtype=torch.float64), objective, level=0.0)
    state = torch.randn(COUNT, 2, dtype=torch.float64)
    weight = torch.ones(COUNT) if objective is not None else None
    if isinstance(objective, PolicyGradient):
        state = torch.randn(COUNT, len(objective.record_levels(module.policy)), 2, dtype=torch.float64)
    elif isinstance(objective, AnchoredShaping):
        objective.source = "reference"
    examples = TrainingBatch(state, rows(COUNT), weight)
    module.objective.loss(module.policy, examples, torch.Generator().manual_seed(0))
    forward = type(module.policy.backbone).forward

    def wide(self: Any, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        return forward(self, state, time, condition)[:, None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(module.policy.backbone), "forward", wide)
        with pytest.raises(GraftError, match=re.escape("2)")):
            module.objective.loss(module.policy, examples, torch.Generator().manual_seed(0))
        with pytest.raises(GraftError, match=re.escape("has shape (4, 1, 2); it must have shape (4, 2)")):
            module.predict_step(SampleRequest(rows(COUNT), ("rollout", 0, 0), weights="tuned"))


def test_before_a_part_is_put_in_its_place() -> None:
    """A domain's `constrain` may broadcast, so that the output is looked at before it."""

    class Fixed(type(line(Gaussian(CosineSchedule(), "x0", (2,)), 4, torch.zeros(5, 2, 3).double()))):  # type: ignore[misc]
        constrained = True

        def constrain(self, output: State, condition: Condition) -> State:
            assert isinstance(output, Tensor)
            return torch.zeros(COUNT, 2, dtype=torch.float64) + output

    process = Gaussian(CosineSchedule(), "x0", (2,))
    module = Fixed(torch.nn.Linear(2, 2).double(), process, steps=4)
    module.policy.backbone.forward = lambda state, time, condition: state[:, :1]  # type: ignore[method-assign]
    with pytest.raises(GraftError, match=re.escape("has shape (4, 1); it must have shape (4, 2)")):
        module.predict_step(SampleRequest(rows(COUNT), ("rollout", 0, 0), weights="tuned"))


def test_right_shapes_pass() -> None:
    """Any floating-point type passes: half precision is the choice of a network."""
    process = Gaussian(LinearSchedule(), "velocity", (SIZE,), eta=0.0)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        state = torch.zeros(COUNT, SIZE, dtype=torch.float64)
        training(process, lambda x, t, c, dtype=dtype: x.to(dtype), state)
        drawn = run_stages([Stage(process, lambda x, t, c, dtype=dtype: x.to(dtype), solver=Euler())], rows(COUNT), 4)
        assert drawn.state.shape == (COUNT, SIZE) and f64(0.0).dtype == drawn.state.dtype
