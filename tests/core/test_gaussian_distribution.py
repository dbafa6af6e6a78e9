"""With the exact denoiser every parametrisation, schedule, warp and sampler has the right distribution."""

import itertools
import math

import pytest
import torch
from exact import Exact, Mixture, extrapolate, f64, gap, noise_is, normal, propagate, rows
from torch import Tensor

from graft.core.interval import Interval
from graft.errors import GraftError
from graft.process import (
    BetaSchedule,
    CosineSchedule,
    Gaussian,
    LinearSchedule,
    MultiFieldProcess,
    PolynomialSchedule,
    Schedule,
    VarianceExploding,
)
from graft.sampler import Stage, run_stages
from graft.solvers import BoundModel, Euler


def betas(kind: str, start: float = 1e-4, end: float = 0.02, fineness: int = 20) -> BetaSchedule:
    """The table, finer: below t = 1/steps a network trained on a table receives no time, and warps go there."""
    return BetaSchedule(kind, 1000 * fineness, start / fineness, end / fineness)


SCHEDULES: dict[str, Schedule] = {
    "flow": LinearSchedule(),
    "cosine": CosineSchedule(),
    "polynomial": PolynomialSchedule(),
    "exploding": VarianceExploding(sigma_max=20.0, rho=3.0),
    "linear": betas("linear"),
    "scaled": betas("scaled_linear", 0.00085, 0.012),
    "squaredcos": betas("squaredcos_cap_v2"),
}
PREDICTIONS = ("eps", "x0", "v", "velocity")
CASES = [
    (name, prediction)
    for name, prediction in itertools.product(SCHEDULES, PREDICTIONS)
    # refused: alpha is 0 at level 1, or next to it
    if (name, prediction) not in (("flow", "eps"), ("cosine", "eps"), ("squaredcos", "eps"))
]
GAUSS = normal(f64([0.8, -0.5]), f64([[0.7, 0.3], [0.3, 0.4]]))
PAIR = Mixture(f64([0.35, 0.65]), f64([[-1.2], [0.9]]), f64([[[0.09]], [[0.16]]]))


def check_gaussian(process: Gaussian, handover: float = 0.5) -> None:
    model = Exact(process, GAUSS)
    top, middle, data = (GAUSS.at(process, u).moments() for u in (1.0, handover, 0.0))
    distributions = []
    for steps in (60, 120):
        above = propagate(process, model, top, steps, 1.0, handover)
        through = propagate(process, model, above, steps, handover)
        below = propagate(process, model, middle, steps, handover)
        distributions.append((above, through, below))
    for coarse, fine, right in zip(*distributions, (middle, data, data), strict=True):
        # first order in the step, with the right limit
        assert gap(fine, right) < 0.062
        assert gap(fine, right) < 0.62 * gap(coarse, right)
        assert gap(extrapolate(coarse, fine), right) < 0.012
        assert gap(extrapolate(coarse, fine), right) < 0.3 * gap(fine, right)


@pytest.mark.parametrize("warp", [1.0, 2.0])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("name", "prediction"), CASES)
def test_gaussian(name: str, prediction: str, eta: float, warp: float) -> None:
    """From 1 to u*, from 1 to 0, from u* to 0: mean and covariance in closed form, in the limit of small steps."""
    check_gaussian(Gaussian(SCHEDULES[name], prediction, (2,), eta=eta, warp=warp))


def test_gaussian_between_ode_and_ancestral() -> None:
    check_gaussian(Gaussian(PolynomialSchedule(), "eps", (2,), eta=0.5), handover=0.25)


@pytest.mark.parametrize(("name", "prediction"), [("flow", "velocity"), ("polynomial", "x0"), ("cosine", "v")])
def test_more_noise_than_ancestral_has_the_same_marginals(name: str, prediction: str) -> None:
    check_gaussian(Gaussian(SCHEDULES[name], prediction, (2,), eta=1.5))
    check_gaussian(Gaussian(SCHEDULES[name], prediction, (2,), eta=1.5, eta_above=0.25))


def test_steps_are_ancestral_below_a_level() -> None:
    """A sample from level 0.2 has the joint distribution of ancestral steps, and one from 0.6 has not."""
    mixed = Gaussian(PolynomialSchedule(), "x0", (2,), eta=0.0, eta_above=0.3)
    above, below = (Gaussian(PolynomialSchedule(), "x0", (2,), eta=eta) for eta in (0.0, 1.0))
    for level, following, same in ((0.6, 0.4, above), (0.4, 0.2, above), (0.3, 0.2, below), (0.2, 0.0, below)):
        assert mixed._coefficients(level, following) == same._coefficients(level, following)
    assert mixed.reverses_in_distribution(0.3) and not mixed.reverses_in_distribution(0.31)
    assert mixed.stochastic and not mixed.invertible and not mixed.has_log_prob
    levels = f64([0.6, 0.2])  # a batch may hold both kinds of level
    torch.testing.assert_close(
        torch.stack(mixed._coefficients(levels, levels / 2)),
        torch.stack(
            [torch.stack(each._coefficients(v, v / 2)) for each, v in ((above, levels[0]), (below, levels[1]))], -1
        ),
    )


@pytest.mark.parametrize("eta", [1.5, 4.0, 100.0])
def test_noise_of_a_step_is_at_most_that_of_its_end(eta: float) -> None:
    """The true x_0 gives x_s = alpha_s x_0 + sigma_s eps for every eta, so keep² sigma_t² + c² = sigma_s²."""
    process = Gaussian(PolynomialSchedule(), "x0", (1,), eta=eta)
    for level, following in itertools.pairwise((1.0, 0.9, 0.5, 0.3, 1e-3, 0.0)):
        keep, _, c = process._coefficients(level, following)
        (_, sigma_t), (_, sigma_s) = process.alpha_sigma(level), process.alpha_sigma(following)
        assert 0 <= c <= sigma_s
        torch.testing.assert_close(keep**2 * sigma_t**2 + c**2, sigma_s**2)


@pytest.mark.parametrize(("name", "prediction"), [("flow", "velocity"), ("polynomial", "eps"), ("exploding", "v")])
def test_one_step_keeps_two_times_joint(name: str, prediction: str) -> None:
    """An ancestral step has the covariance of x_s and x_t that the kernel has (x_s | x_t, x_0 is exact for a point)."""
    process = Gaussian(SCHEDULES[name], prediction, (1,), eta=1.0)
    point = normal(f64([0.7]), f64([[0.0]]))
    for level, following in ((1.0, 0.75), (0.5, 0.25), (0.25, 0.1)):
        distribution = point.at(process, level).moments()
        after = propagate_once(process, Exact(process, point), distribution, level, following)
        right = point.at(process, following).moments()
        assert gap(after[:2], right) < 1e-5
        ratio = process.kernel(level, following)[0]
        assert abs(float(after[2] - ratio * right[1])) < 1e-5


def propagate_once(
    process: Gaussian, model: Exact, distribution: tuple[Tensor, Tensor], level: float, following: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, variance, covariance with the state before) after one step of a scalar state."""
    x, noise = f64([[0.0], [1.0], [0.0]]), f64([[0.0], [0.0], [1.0]])
    with noise_is(process, noise):
        y = Euler().denoise_step(BoundModel(process, model, rows(3)), x, level, following, None)
    by_state, by_noise = y[1, 0] - y[0, 0], y[2, 0] - y[0, 0]
    return (
        by_state * distribution[0] + y[0],
        by_state**2 * distribution[1] + by_noise**2,
        by_state * distribution[1][0, 0],
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_prior(name: str) -> None:
    """The prior is N(0, sigma_1²), and the distribution of noised data at level 1 is near to it: KL in nats."""
    process = Gaussian(SCHEDULES[name], "x0", (2,))
    seed = torch.Generator().manual_seed(0)
    x = process.prior(rows(40_000), seed)
    assert x.dtype == torch.float64
    sigma = float(process.alpha_sigma(1.0)[1])
    # standard errors 1/200 and sqrt(2)/200 of each of 2 + 3 numbers: 4.5 of them fail by chance in 3e-5 of seeds
    assert gap((x.mean(0) / sigma, torch.cov(x.T) / sigma**2), (torch.zeros(2), torch.eye(2))) < 4.5 * 2**0.5 / 200
    mean, cov = GAUSS.at(process, 1.0).moments()
    kl = 0.5 * float((cov / sigma**2).trace() - 2 + mean @ mean / sigma**2 - torch.logdet(cov / sigma**2))
    # Stable Diffusion's table keeps 0.5 % of the signal; alpha = 1 where the variance explodes
    assert kl < {"scaled": 4e-3, "exploding": 2e-3}.get(name, 1e-4)


def ks(x: Tensor, distribution: Mixture) -> float:
    """sqrt(n) times the Kolmogorov-Smirnov distance of independent samples from the distribution."""
    n = len(x)
    cdf = distribution.cdf(x.sort(0).values)
    ranks = torch.arange(n + 1, dtype=torch.float64) / n
    return n**0.5 * float(torch.maximum((ranks[1:] - cdf).max(), (cdf - ranks[:-1]).max()))


# 1.95 is exceeded by chance in 0.1 % of seeds; 0.25 is left for the steps' own error (2000 samples, 200 steps)
LIMIT = 1.95 + 0.25


@pytest.mark.parametrize("warp", [1.0, 2.0])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        ("flow", "velocity"),
        ("cosine", "v"),
        ("polynomial", "eps"),
        ("exploding", "eps"),
        ("linear", "eps"),
        ("scaled", "v"),
        ("squaredcos", "x0"),
    ],
)
def test_mixture(name: str, prediction: str, eta: float, warp: float) -> None:
    """Two bumps, sampled with `run`: 1 to u* and 1 to 0 from the prior, u* to 0 from noised data."""
    process = Gaussian(SCHEDULES[name], prediction, (1,), eta=eta, warp=warp)
    model, handover, count = Exact(process, PAIR), 0.5, 2000
    seed = torch.Generator().manual_seed(1)
    drawn = run_stages([Stage(process, model)], rows(count), 200, record=[handover], generator=seed)
    assert ks(drawn.states[handover][:, 0], PAIR.at(process, handover)) < LIMIT
    assert ks(drawn.state[:, 0], PAIR) < LIMIT
    noised = process.corrupt(PAIR.sample(count, seed), handover, generator=seed)
    below = run_stages([Stage(process, model, Interval(high=handover))], rows(count), 200, generator=seed, state=noised)
    assert ks(below.state[:, 0], PAIR) < LIMIT


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("schedule", [CosineSchedule(), LinearSchedule(), PolynomialSchedule()])
def test_one_hot(schedule: Schedule, eta: float) -> None:
    """A one-hot field with the exact posterior as logits: categories at 0, moments at u*."""
    scale, share = 2.0, f64([0.2, 0.5, 0.3])
    distribution = Mixture(share, scale * torch.eye(3, dtype=torch.float64), torch.zeros(3, 3, 3, dtype=torch.float64))
    process = Gaussian(schedule, "logits", (1, 3), eta=eta, one_hot_scale=scale)
    count = 4000
    seed = torch.Generator().manual_seed(2)
    drawn = run_stages(
        [Stage(process, Exact(process, distribution))], rows(count), 200, record=[0.25, 0.5], generator=seed
    )
    x = drawn.state[:, 0]
    near = (x - scale * torch.nn.functional.one_hot(x.argmax(1), 3)).abs().amax(1) < 0.01 * scale
    assert near.double().mean() > 0.97  # an ODE of finite steps leaves a few between two categories
    found = torch.bincount(x.argmax(1), minlength=3)
    chi2 = ((found - count * share) ** 2 / (count * share)).sum()
    assert chi2 < 18.4  # 2 degrees of freedom: by chance in 1e-4 of seeds
    for level, middle in drawn.states.items():
        mean, cov = distribution.at(process, level).moments()
        error = (middle[:, 0].mean(0) - mean) / (cov.diagonal() / count).sqrt()
        assert error.abs().max() < 4.5  # three numbers: by chance in 2e-5 of seeds
        assert (torch.cov(middle[:, 0].T) - cov).abs().max() < 0.12 * cov.max()  # 4 standard errors and the steps' own


@pytest.mark.parametrize("warp", [1.0, 2.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_kernel_composes(name: str, warp: float) -> None:
    """q(t|s) after q(s|r) is q(t|r), and q(t|0) is the schedule."""
    process = Gaussian(SCHEDULES[name], "x0", (1,), warp=warp)
    for r, s, t in itertools.combinations((0.0, 0.1, 0.35, 0.6, 0.9, 1.0), 3):
        (by_s, noise_s), (by_t, noise_t), (by, noise) = (process.kernel(*pair) for pair in ((s, r), (t, s), (t, r)))
        assert float(by_t * by_s) == pytest.approx(float(by), rel=1e-12, abs=1e-15)
        assert float(by_t**2 * noise_s**2 + noise_t**2) == pytest.approx(float(noise**2), rel=1e-12)
        assert torch.stack(process.kernel(t, 0.0)) == pytest.approx(torch.stack(process.alpha_sigma(t)), rel=1e-12)
        assert torch.stack(process.kernel(t, t)) == pytest.approx(f64([1.0, 0.0]), abs=1e-7)


def test_corrupt() -> None:
    """`corrupt` is the kernel, with a level for each sample, of a tensor and of each field of a dict."""
    first = Gaussian(LinearSchedule(), "x0", (3,))
    second = Gaussian(PolynomialSchedule(), "eps", (2, 2), warp=2.0)
    mixed = MultiFieldProcess({"x": first, "h": second})
    seed = torch.Generator().manual_seed(0)
    state = {"x": torch.randn(4, 3, generator=seed).double(), "h": torch.randn(4, 2, 2, generator=seed).double()}
    level, from_level = f64([0.3, 0.6, 0.9, 1.0]), f64([0.0, 0.1, 0.5, 0.5])
    for start in (0.0, from_level):
        noisy = mixed.corrupt(state, level, start, rows(4), torch.Generator().manual_seed(5))
        again = torch.Generator().manual_seed(5)
        for name, process in mixed.fields.items():
            ratio, sigma = process.kernel(level, start)
            eps = torch.randn(state[name].shape, dtype=torch.float64, generator=again)
            shape = (4, *[1] * (state[name].ndim - 1))
            assert torch.allclose(noisy[name], ratio.reshape(shape) * state[name] + sigma.reshape(shape) * eps)
    assert torch.equal(mixed.corrupt(state, 0.0)["h"], state["h"])


def test_kernel_composes_for_dicts() -> None:
    """Two corruptions of a mixed state in a row are one, in closed form: the noise's coefficients add in square."""
    mixed = MultiFieldProcess(
        {"x": Gaussian(LinearSchedule(), "x0", (1,)), "h": Gaussian(CosineSchedule(), "x0", (1,), warp=2.0)}
    )

    def both(value: float) -> dict[str, Tensor]:
        return {"x": f64([[value]]), "h": f64([[value]])}

    r, s, t = 0.1, 0.4, 0.8

    def twice(x: float, first: float, second: float) -> dict[str, Tensor]:
        return mixed.corrupt_given_noise(mixed.corrupt_given_noise(both(x), both(first), s, r), both(second), t, s)

    for name in mixed.fields:
        once = [float(mixed.corrupt_given_noise(both(x), both(z), t, r)[name]) for x, z in ((1.0, 0.0), (0.0, 1.0))]
        split = [float(twice(*unit)[name]) for unit in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))]
        assert split[0] == pytest.approx(once[0], rel=1e-12)
        assert math.hypot(split[1], split[2]) == pytest.approx(once[1], rel=1e-12)


def test_mixed_samples_each_field_right() -> None:
    """Two fields on schedules of their own and one network: their distributions at 0 and at u*."""
    fields = {
        "x": Gaussian(LinearSchedule(), "velocity", (2,)),
        "h": Gaussian(PolynomialSchedule(), "eps", (1,), warp=2.0),
    }
    process = MultiFieldProcess(fields)
    distributions = {"x": GAUSS, "h": PAIR}

    def model(state: dict[str, Tensor], time: Tensor, condition: dict[str, Tensor]) -> dict[str, Tensor]:
        # the network receives the first field's time, which is the level
        level = (time.double() * 3600).round() / 3600
        return {n: Exact(p, distributions[n])(state[n], p.timestep(level), condition) for n, p in fields.items()}

    seed = torch.Generator().manual_seed(3)
    drawn = run_stages([Stage(process, model)], rows(3000), 200, record=[0.5], generator=seed)
    for level, state in ((0.0, drawn.state), (0.5, drawn.states[0.5])):
        assert ks(state["h"][:, 0], distributions["h"].at(fields["h"], level)) < LIMIT
        mean, cov = distributions["x"].at(fields["x"], level).moments()
        # standard errors of mean and covariance at most 0.02: 4.5 of them
        assert gap((state["x"].mean(0), torch.cov(state["x"].T)), (mean, cov)) < 0.09


def test_network_receives_the_time() -> None:
    """t, not u, in float32, one number for each sample; the index of diffusers' table for tables."""
    times = []

    def model(state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        times.append(time)
        return state

    for schedule, right in ((LinearSchedule(), 0.25), (BetaSchedule(), 249.0)):
        process = Gaussian(schedule, "x0", (1,), warp=2.0)
        Euler().denoise_step(BoundModel(process, model, rows(3)), torch.zeros(3, 1), 0.5, 0.25, None)
        assert times[-1].dtype == torch.float32
        assert times[-1].tolist() == [right] * 3


def test_eps_is_refused_where_it_says_nothing() -> None:
    with pytest.raises(GraftError, match="x0, v or velocity"):
        Gaussian(LinearSchedule(), "eps", (1,))
