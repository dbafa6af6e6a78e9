"""Where NaN and infinity are, and what a gradient scaler may skip."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from graft.cli import IGNORED_WARNINGS
from graft.core.finite import NotFiniteError, first_not_finite, gradient_norm, is_finite, tensors_in
from graft.runs.finite_steps import FiniteSteps, find_finite_steps
from graft.runs.logger import ResumableCSVLogger, read_metrics

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in IGNORED_WARNINGS]
KINDS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.float8_e5m2]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_of_many(kind: torch.dtype, value: float) -> None:
    x = torch.randn(7, 11, generator=torch.Generator().manual_seed(0)).to(kind)
    assert is_finite(x) and is_finite(torch.zeros(0, dtype=kind))
    for place in ((0, 0), (3, 5), (6, 10)):
        y = x.clone()
        y[place] = value
        assert not is_finite(y) and not is_finite(y.mT)
        assert first_not_finite({"a": x, "b": y, "c": y}) == "b"
        assert first_not_finite({"a": x, "b": y}, masks=("b",)) == (None if value == -math.inf else "b")


def test_what_holds_no_floats() -> None:
    assert (
        first_not_finite({"a": torch.tensor([2**62]), "b": torch.tensor(True), "c": torch.empty(2, device="meta")})
        is None
    )


def test_tensors_of_a_batch() -> None:
    """Containers and objects, those that hold themselves, too."""

    class Batch:
        def __init__(self) -> None:
            self.x, self.more, self.me, self.name = torch.tensor(1), {"y": [torch.tensor(2)]}, self, "x"

    found = tensors_in((Batch(), None, "text", [torch.tensor(3)], 4.0))
    assert sorted(int(each) for each in found) == [1, 2, 3]


def test_norm_of_a_gradient() -> None:
    """The norm is of all parameters, sparse ones included; parameters without a gradient do not count."""
    dense, none, sparse = (nn.Parameter(torch.randn(6, 2)) for _ in range(3))
    dense.grad = torch.full((6, 2), 2.0)
    rows, values = torch.tensor([[1, 1]]), torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    sparse.grad = torch.sparse_coo_tensor(rows, values, (6, 2), check_invariants=True)
    assert float(gradient_norm([dense, none, sparse])) == pytest.approx(math.sqrt(48 + 9))
    assert float(gradient_norm([none])) == 0
    dense.grad[3, 1] = math.nan
    assert math.isnan(float(gradient_norm([dense, sparse])))


# A gradient scaler


class Line(LightningModule):
    """Learns that y is 0.

    Args:
        spoil: Makes something else of the loss, given the step from 1.
    """

    def __init__(self, spoil: Any = lambda loss, step: loss) -> None:
        super().__init__()
        self.layer, self.spoil = nn.Linear(3, 1), spoil

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        return self.spoil(self.layer(batch).float().square().mean(), self.global_step + 1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def trained(line: Line, precision: Any = None) -> Trainer:
    plugins = {} if precision is None else {"plugins": [precision]}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=1, callbacks=[FiniteSteps()], **quiet, **plugins)  # type: ignore[arg-type]
    batches = torch.ones(40, 2, 3)
    trainer.fit(line, torch.utils.data.DataLoader(batches, batch_size=None))
    return trainer


def scaler(scale: float) -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000))


def test_scaler_skips_what_it_overflows() -> None:
    """Steps whose gradient is infinite only because of the scale change nothing and do not end the run."""
    line = Line()
    before = line.layer.weight.detach().clone()
    plugin = scaler(2.0**30)
    trained(line, plugin)
    assert plugin.scaler is not None and 1 < plugin.scaler.get_scale() < 2.0**30
    assert is_finite(line.layer.weight) and not torch.equal(line.layer.weight, before)


def test_scaler_does_not_hide_a_loss() -> None:
    with pytest.raises(NotFiniteError, match=r"the loss of step 4 is nan: lower model.optimizer.lr .*bf16-mixed"):
        trained(Line(lambda loss, step: loss * math.nan if step == 4 else loss), scaler(16.0))


def test_scaler_does_not_hide_a_gradient() -> None:
    """One that is infinite at any scale: skipped at 8, 4, 2 and 1, as of step 4."""
    with pytest.raises(NotFiniteError, match="the gradient of step 8 is nan"):
        trained(Line(lambda loss, step: loss + (0 * loss).sqrt() if step >= 4 else loss), scaler(8.0))


def test_clipping_is_as_torch_clips() -> None:
    """Clipping uses the norm that was computed before; a short gradient stays."""
    for largest in (0.1, 1e3):
        ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
        theirs.load_state_dict(ours.state_dict())
        for network in (ours, theirs):
            network(torch.ones(2, 5)).square().sum().backward()
        check, optimizer = FiniteSteps(), torch.optim.SGD(ours.parameters(), 1.0)
        check.on_before_optimizer_step(None, ours, optimizer)
        check.clip(optimizer, largest)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), largest)
        assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_the_check_is_found() -> None:
    trainer = trained(Line())
    other = Trainer(logger=False, enable_checkpointing=False)
    assert find_finite_steps(trainer) is trainer.callbacks[0] and find_finite_steps(other) is None


# Other files


def test_metrics_hold_no_nan(tmp_path: Any) -> None:
    log = ResumableCSVLogger(tmp_path / "metrics.csv")
    log.log_metrics({"a": 1.0, "b": math.nan, "c": math.inf}, 3)
    log.log_metrics({"a": 2.0, "b": 0.5}, 4)
    log.save()
    assert read_metrics(log.path) == [{"step": "3", "a": "1.0"}, {"step": "4", "a": "2.0", "b": "0.5"}]
