"""The controls that train nothing: best of N and interpolation of weights, in closed form."""

import math

import pytest
import torch
from exact import f64
from line import line
from scipy.stats import kstest, norm
from torch import nn

import graft
from graft import GraftError
from graft.commands.compare.best_of import best_of_n
from graft.core import seeding
from graft.network import EMA, LoRA, add_lora
from graft.policy.weights import interpolate
from graft.process import CosineSchedule, Gaussian
from graft.reward import Reward
from graft.sampler import run_stages
from graft.solvers import BoundModel, Euler

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # lightning 2.6 under torch 2.13


class First(Reward):
    """The coordinate; it fails above a bound."""

    name = "first"

    def __init__(self, higher_is_better: bool = True, bound: float = math.inf) -> None:
        self.higher_is_better, self.bound = higher_is_better, bound

    def score(self, item: tuple[float, ...]) -> float:
        if item[0] > self.bound:
            raise ValueError("too large")
        return item[0]


def standard():
    """Return a sampler of one step whose x_0 is its x_1: draws are standard normal."""
    process = Gaussian(CosineSchedule(), "x0", (1,))
    return line(process, 1, torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]]], dtype=torch.float64))


def trainer():
    return graft.trainer(1, accelerator="cpu", enable_progress_bar=False)


@pytest.mark.parametrize(("candidates", "higher_is_better"), [(1, True), (4, True), (7, False)])
def test_distribution_of_the_best_of_n(candidates: int, higher_is_better: bool) -> None:
    """The CDF is F^N and the density N F^(N − 1) times that of the draws; for the smallest value it is mirrored.

    A Kolmogorov-Smirnov test at 0.1 %, for each of three cases.
    """
    best = best_of_n(standard(), trainer(), First(higher_is_better), 2000, candidates)
    values = [item[0] if higher_is_better else -item[0] for item in best.items]
    assert best.rewards == [item[0] for item in best.items]
    assert kstest(values, lambda x: norm.cdf(x) ** candidates).pvalue > 1e-3
    assert best.reward_calls == best.denoiser_calls == 2000 * candidates and len(values) == 2000


def test_candidates_that_fail_are_never_best() -> None:
    """The others are chosen from; where all fail one is kept, without a reward."""
    best = best_of_n(standard(), trainer(), First(bound=0.0), 500, 2)
    right = [reward for reward in best.rewards if not math.isnan(reward)]
    assert max(right) <= 0 and 0.15 < 1 - len(right) / 500 < 0.35
    assert len(best.items) == 500
    with pytest.raises(GraftError, match="at least 1"):
        best_of_n(standard(), trainer(), First(), 5, 0)


@pytest.mark.parametrize("average", [False, True])
def test_interpolation_of_weights(average: bool) -> None:
    module = standard()
    tuned = torch.randn(2, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reference = module.policy.reference.table.clone()
    for share in (0.0, 0.3, 1.0, 1.5):
        with torch.no_grad():
            module.policy.backbone.table.copy_(tuned)
        module.policy.ema = None
        if average:  # what samples is mixed, not what is trained
            module.policy.ema = EMA(module.policy.backbone, 0.9)
            with torch.no_grad():
                module.policy.backbone.table.fill_(7.0)
        module.interpolate(share)
        for weights in ("tuned", "current"):
            with module.policy.eval_weights(weights):
                found = module.policy.backbone.table.clone()
            assert torch.allclose(found, share * tuned + (1 - share) * reference)
            assert share not in (0, 1) or torch.equal(found, reference if share == 0 else tuned)
    module.policy.reference_file = None
    with pytest.raises(GraftError, match="reference"):
        module.interpolate(0.5)


@pytest.mark.needs("peft")
def test_interpolation_of_an_adapter() -> None:
    """Scales its update: the network's output moves on a straight line in the weights."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, state, time, condition):
            return self.layer(state)

    module = standard()
    net = Net()
    module.policy.reference, module.policy.backbone = None, add_lora(net, LoRA(rank=2))
    x = torch.randn(5, 3)
    plain = module.policy.reference_forward(x, torch.zeros(5), {})
    with torch.no_grad():
        for name, parameter in module.policy.backbone.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        kept = {name: p.clone() for name, p in module.policy.backbone.named_parameters()}
        full = module.policy.backbone(x, torch.zeros(5), {})
        for share in (1.0, 0.4, 0.0):
            for name, p in module.policy.backbone.named_parameters():
                p.copy_(kept[name])
            interpolate(module.policy, share)
            found = module.policy.backbone(x, torch.zeros(5), {})
            assert torch.allclose(found, plain + share * (full - plain), atol=1e-5)
            assert share == 0.4 or torch.equal(found, full if share == 1 else plain)


def test_switch_is_the_tuned_network_above_and_the_reference_below() -> None:
    """A network that was tuned at level 0, sampled with another level."""
    process = Gaussian(CosineSchedule(), "x0", (1,), eta=1.0)
    tuned, reference = torch.full((5, 1, 2), 0.5).double(), torch.full((5, 1, 2), -0.25).double()
    module = line(process, 4, reference)
    with torch.no_grad():
        module.policy.backbone.table.copy_(tuned)
    module.policy.set_level(0.5)
    condition = {"weight": torch.ones(6, dtype=torch.float64)}
    found = run_stages(module.policy.sampling_stages("tuned"), condition, 4, (0.5,), seeding.make_generator(0))
    x = process.prior(condition, generator := seeding.make_generator(0))
    for i in range(4, 0, -1):
        table = tuned if i > 2 else reference

        def network(s, t, c, w=table):
            return s * w[0, 0, 0] + w[0, 0, 1]

        x = Euler().denoise_step(BoundModel(process, network, condition), x, i / 4, (i - 1) / 4, generator)
    assert torch.allclose(found.state, x) and f64([0.0]).dtype == x.dtype


def test_weights_that_would_not_be_finite_are_not_mixed() -> None:
    module = standard()
    with torch.no_grad():
        module.policy.backbone.table.fill_(2.0)
    with pytest.raises(GraftError, match="not finite"):
        module.interpolate(1e308)
    assert torch.equal(module.policy.backbone.table, torch.full_like(module.policy.backbone.table, 2.0))
