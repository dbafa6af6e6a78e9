"""A sampling step copies nothing from the processor to a GPU, since a copy would wait for the GPU.

No GPU is needed: the states are fake tensors, which have a device, a shape and a type but no values.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from graft.core.state import Condition, State, as_tensor
from graft.process import BetaSchedule, CosineSchedule, Gaussian, LinearSchedule, Process, TrigFlow
from graft.solvers import BoundModel, Euler, Heun, Midpoint, Solver

SOLVERS = (Euler(), Midpoint(), Heun())


class Waits(TorchDispatchMode):
    """Counts the copies from the processor to a GPU and the values that are read from it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name()
        onto = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else "cpu"
        if name == "aten::_to_copy" and args[0].device.type == "cpu" and onto == "cuda":
            self.found.append(name)
        if name == "aten::_local_scalar_dense" and args[0].device.type == "cuda":
            self.found.append(name)
        return func(*args, **kwargs)


def network(state: State, time: Tensor, condition: Condition) -> Tensor:
    x = as_tensor(state)
    assert time.device == x.device and time.dtype == torch.float32 and time.shape == (len(x),)
    return x * time.view(-1, 1).to(x.dtype)


def step(process: Process, solver: Solver, dtype: torch.dtype, waits: Waits) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(4, 3, device="cuda", dtype=dtype)
    with waits:
        out = as_tensor(solver.step(BoundModel(process, network, {}), x, 0.75, 0.5, None))
    assert out.device == x.device and out.dtype == dtype and out.shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize(
    "process",
    [
        Gaussian(LinearSchedule(), "velocity", [3], eta=0.0),
        Gaussian(CosineSchedule(), "v", [3], eta=0.0),
        Gaussian(BetaSchedule("scaled_linear"), "eps", [3], eta=0.0),
        Gaussian(CosineSchedule(), "x0", [3], eta=0.0, clip_sample_range=1.0),
        TrigFlow([3]),
    ],
    ids=["flow", "v", "eps", "clipped", "trigflow"],
)
def test_deterministic_steps(process: Process, solver: Solver, dtype: torch.dtype) -> None:
    waits = Waits()
    step(process, solver, dtype, waits)
    assert not waits.found


def test_copies_are_found() -> None:
    class Copying(Gaussian):
        @override
        def denoise_step(self, output: State, *args: Any) -> Tensor:
            return as_tensor(output) * torch.tensor([2.0]).to(as_tensor(output).device)

    waits, copied = Waits(), False
    try:
        step(Copying(LinearSchedule(), "velocity", [3], eta=0.0), Euler(), torch.float32, waits)
    except (AssertionError, RuntimeError) as error:  # without a GPU torch refuses the copy, which fails a test, too
        copied = "CUDA" in str(error) or "NVIDIA" in str(error)
    assert copied or waits.found == ["aten::_to_copy"]
