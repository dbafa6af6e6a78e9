"""`run_stages`: the recorded levels, the counts and the refusals; states stay in their subspaces."""

import pytest
import torch
from exact import Exact, f64, normal, rows
from torch import Tensor

from graft.core.interval import Interval
from graft.core.state import Condition
from graft.errors import GraftError
from graft.process import (
    CosineSchedule,
    Gaussian,
    LinearSchedule,
    MaskProjection,
    MultiFieldProcess,
    PolynomialSchedule,
    ZeroCenterOfMass,
)
from graft.sampler import Stage, level_grid, nearest_level, run_stages
from graft.solvers import BoundModel, Euler

DISTRIBUTION = normal(f64([0.5, -1.0]), f64([[0.3, 0.1], [0.1, 0.2]]))


def process(eta: float = 1.0) -> Gaussian:
    return Gaussian(LinearSchedule(), "velocity", (2,), eta=eta)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_records_the_given_levels() -> None:
    p = process()
    stage = Stage(p, Exact(p, DISTRIBUTION))
    one = run_stages([stage], rows(3), 8, record=[1.0, 0.75, 0.25, 0.0], generator=seeded())
    assert list(one.states) == [1.0, 0.75, 0.25, 0.0]
    assert torch.equal(one.states[0.0], one.state)
    assert torch.equal(one.states[1.0], p.prior(rows(3), seeded()))
    assert one.denoiser_calls == 8
    assert run_stages([stage], rows(3), 8, generator=seeded()).states == {}


def test_recorded_state_continues_to_the_same_end() -> None:
    """A recorded state at u* continues to the same end for an ODE: recorded states belong to their levels."""
    p = process(eta=0.0)
    model = Exact(p, DISTRIBUTION)
    whole = run_stages([Stage(p, model)], rows(4), 20, record=[0.6, 0.2], generator=seeded())
    for level, calls in ((0.6, 12), (0.2, 4)):
        rest = run_stages([Stage(p, model, Interval(high=level))], rows(4), 20, state=whole.states[level])
        assert torch.allclose(rest.state, whole.state, rtol=0, atol=1e-12)
        assert rest.denoiser_calls == calls
    two = run_stages(
        [Stage(p, model, Interval(low=0.6)), Stage(p, model, Interval(high=0.6))],
        rows(4),
        20,
        record=[0.2],
        generator=seeded(),
    )
    assert torch.allclose(two.state, whole.state, rtol=0, atol=1e-12)
    assert torch.allclose(two.states[0.2], whole.states[0.2], rtol=0, atol=1e-12)
    assert two.denoiser_calls == 20


def test_partial_range() -> None:
    p = process()
    seen: list[float] = []

    def model(state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        seen.append(round(float(time[0]), 6))
        return torch.zeros_like(state)

    steps = 0

    def progress() -> None:
        nonlocal steps
        steps += 1

    part = run_stages(
        [Stage(p, model, Interval(0.4, 0.7))],
        rows(2),
        10,
        generator=seeded(),
        state=torch.ones(2, 2),
        progress=progress,
    )
    assert seen == [0.7, 0.6, 0.5]
    assert part.denoiser_calls == steps == 3
    still = run_stages([Stage(p, model, Interval(0.7, 0.7))], rows(2), 10, record=[0.7], state=torch.ones(2, 2))
    assert torch.equal(still.state, torch.ones(2, 2)) and torch.equal(still.states[0.7], still.state)


def test_stage_with_a_clock_of_its_own() -> None:
    """A stage with its own clock has its own steps, is counted, and records nothing: levels are of the common clock."""
    p, other = process(eta=0.0), Gaussian(CosineSchedule(), "v", (2,), eta=0.0)
    first, second = Stage(other, Exact(other, DISTRIBUTION), steps=3), Stage(p, Exact(p, DISTRIBUTION))
    ticks: list[int] = []
    both = run_stages([first, second], rows(5), 8, [1.0, 0.5], seeded(), progress=lambda: ticks.append(1))
    middle = run_stages([first], rows(5), 100, [0.5], seeded())  # whatever the run's steps
    assert middle.states == {} and middle.denoiser_calls == 3
    assert torch.equal(
        middle.state, run_stages([Stage(other, Exact(other, DISTRIBUTION))], rows(5), 3, generator=seeded()).state
    )
    assert torch.equal(both.states[1.0], middle.state)
    rest = run_stages([second], rows(5), 8, [1.0, 0.5], state=middle.state)
    assert torch.equal(both.state, rest.state) and torch.equal(both.states[0.5], rest.states[0.5])
    assert both.denoiser_calls == len(ticks) == 11
    back = run_stages(
        [Stage(p, second.model, upwards=True), Stage(other, first.model, steps=3, upwards=True)],
        rows(5),
        8,
        state=both.state,
    )
    assert torch.allclose(back.state, other.prior(rows(5), seeded()), rtol=0, atol=1e-9)
    with pytest.raises(GraftError, match="multiple of 1/3"):
        run_stages([Stage(other, first.model, Interval(low=0.5), 3)], rows(5), 8)


def test_steps_that_thirds_do_not_hurt() -> None:
    """Levels such as 1/3 or 0.7 · 30 are on the grid in spite of rounding."""
    p = process()
    model = Exact(p, DISTRIBUTION, snap=3600)
    for steps, level in ((3, 1 / 3), (30, 0.7), (1000, 0.043), (7, 3 / 7)):
        kept = run_stages([Stage(p, model, Interval(low=level))], rows(1), steps, record=[level], generator=seeded())
        assert list(kept.states) == [level]
        assert kept.denoiser_calls == steps - round(level * steps)
        assert level in level_grid(steps) or min(abs(level - u) for u in level_grid(steps)) < 1e-12
    assert nearest_level(0.3, 8) == 0.25 and level_grid(4) == [1.0, 0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("level", [0.33, -0.1, 1.1])
def test_off_the_grid(level: float) -> None:
    p = process()
    with pytest.raises(GraftError, match="multiple of 1/10"):
        run_stages([Stage(p, Exact(p, DISTRIBUTION))], rows(1), 10, record=[level])
    with pytest.raises(GraftError, match="multiple of 1/10"):
        run_stages([Stage(p, Exact(p, DISTRIBUTION), Interval(low=level))], rows(1), 10)


def test_start_in_between_needs_a_state() -> None:
    p = process()
    with pytest.raises(GraftError, match="Give `state`"):
        run_stages([Stage(p, Exact(p, DISTRIBUTION), Interval(high=0.5))], rows(1), 10)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_generator_decides(eta: float) -> None:
    p = process(eta)
    stages = [Stage(p, Exact(p, DISTRIBUTION))]
    torch.manual_seed(0)
    one, again = (run_stages(stages, rows(5), 10, generator=seeded(1)).state for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, run_stages(stages, rows(5), 10, generator=seeded(2)).state)
    assert torch.rand(1) == torch.rand(1, generator=seeded(0))  # the global generator was left alone


def test_memory_does_not_grow_with_steps() -> None:
    """Only recorded states are kept beyond their step."""
    import weakref

    p, alive = process(0.0), []

    def model(state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        alive.append(weakref.ref(state))
        return state

    run_stages([Stage(p, model)], rows(2), 16, generator=seeded())
    assert sum(ref() is not None for ref in alive) <= 1


def test_no_gradient_is_kept() -> None:
    p = process()
    scale = torch.ones(1, dtype=torch.float64, requires_grad=True)
    assert not run_stages([Stage(p, lambda x, t, c: scale * x)], rows(2), 4, generator=seeded()).state.requires_grad


def test_two_clocks() -> None:
    """A corrector 1 → 0 with its own process, then the base 1 → 0: the second starts where the first ended."""
    corrector, base = Gaussian(LinearSchedule(), "velocity", (2,), eta=0.0), process(eta=0.0)
    noise_distribution = normal(f64([0.3, 0.0]), f64([[1.5, 0.4], [0.4, 0.8]]))
    first, second = Exact(corrector, noise_distribution), Exact(base, DISTRIBUTION)
    both = run_stages(
        [Stage(corrector, first), Stage(base, second)], rows(6), 20, record=[1.0, 0.5, 0.0], generator=seeded()
    )
    middle = run_stages([Stage(corrector, first)], rows(6), 20, generator=seeded()).state
    alone = run_stages([Stage(base, second)], rows(6), 20, record=[0.5], state=middle)
    assert torch.equal(both.state, alone.state)
    assert both.denoiser_calls == 40
    # a level that both pass is kept of the last
    assert torch.equal(both.states[0.5], alone.states[0.5])
    assert torch.equal(both.states[1.0], middle)


MASK = f64([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])


def molecules(eta: float) -> tuple[MultiFieldProcess, Condition]:
    fields = {
        "x": Gaussian(PolynomialSchedule(), "eps", (4, 3), eta=eta, projection=ZeroCenterOfMass()),
        "h": Gaussian(PolynomialSchedule(), "eps", (4, 2), eta=eta, projection=MaskProjection()),
    }
    return MultiFieldProcess(fields), {"mask": MASK}


def careless(state: dict[str, Tensor], time: Tensor, condition: Condition) -> dict[str, Tensor]:
    """A network that writes into padding and pushes the centre of mass."""
    return {name: torch.tanh(x) + 3.0 for name, x in state.items()}


def check_subspace(state: dict[str, Tensor]) -> None:
    padding = 1 - MASK[..., None]
    assert (state["x"] * padding).abs().max() == 0 and (state["h"] * padding).abs().max() == 0
    assert state["x"].sum(1).abs().max() < 1e-12 * (1 + float(state["x"].abs().max()))
    assert (state["x"] * MASK[..., None]).abs().sum() > 0


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_states_stay_in_their_subspace(eta: float) -> None:
    process, condition = molecules(eta)
    seed = seeded()
    prior = process.prior(condition, seed)
    check_subspace(prior)
    check_subspace(process.corrupt(prior, 0.7, 0.0, condition, seed))
    check_subspace(process.corrupt(prior, f64([0.7, 0.9, 0.3]), 0.2, condition, seed))
    check_subspace(Euler().denoise_step(BoundModel(process, careless, condition), prior, 1.0, 0.75, seed))
    drawn = run_stages([Stage(process, careless)], condition, 8, record=[0.5], generator=seed)
    check_subspace(drawn.states[0.5])
    check_subspace(drawn.state)


def test_noise_in_the_subspace_is_standard_there() -> None:
    """Projected noise has the projector for covariance: (δ_ij − 1/n) on n atoms."""
    process, _ = molecules(1.0)
    count = 20_000
    mask = MASK[:1].expand(count, 4)
    x = process.prior({"mask": mask}, seeded())["x"] / process.fields["x"].alpha_sigma(1.0)[1]
    cov = torch.einsum("bid,bjd->ij", x, x) / (3 * count)
    right = torch.zeros(4, 4, dtype=torch.float64)
    right[:3, :3] = torch.eye(3) - 1 / 3
    assert (cov - right).abs().max() < 4.5 * 2**0.5 / (3 * count) ** 0.5  # six numbers: by chance in 4e-5 of seeds


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "velocity"])
@pytest.mark.parametrize("from_level", [0.0, 0.3])
def test_loss_ignores_padding(prediction: str, from_level: float) -> None:
    """The output at padding and the centre of mass of the output change no loss."""
    condition = {"mask": MASK}
    projection = ZeroCenterOfMass()
    process = Gaussian(PolynomialSchedule(), prediction, (4, 3), projection=projection)
    state = process.prior(condition, seeded())
    level = f64([0.4, 0.7, 1.0])

    def loss(extra: Tensor) -> Tensor:
        return process.loss(lambda x, t, c: 0.3 * x + extra, state, level, from_level, condition, None, seeded(1))

    padding = (1 - MASK[..., None]) * 7.0
    plain = loss(torch.zeros(3, 4, 3))
    assert plain.shape == (3,) and (plain > 0).all()
    assert torch.allclose(loss(padding), plain)
    assert torch.allclose(loss(torch.full((3, 4, 3), 2.5)), plain)


def test_cross_entropy_ignores_padding() -> None:
    process = Gaussian(PolynomialSchedule(), "logits", (4, 2), projection=MaskProjection())
    state = torch.nn.functional.one_hot(torch.tensor([[0, 1, 1, 0]] * 3), 2).double() * MASK[..., None]

    def loss(extra: Tensor) -> Tensor:
        level = f64([0.4, 0.7, 1.0])
        return process.loss(lambda x, t, c: x + extra, state, level, 0.0, {"mask": MASK}, None, seeded(1))

    padding = (1 - MASK[..., None]) * f64([3.0, -2.0])
    assert torch.allclose(loss(padding), loss(torch.zeros(3, 4, 2)))
