"""Inverse noise correction through its command: a closed form, a mixture, and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from exact import Exact, Mixture, f64, normal
from lightning.pytorch import LightningDataModule
from test_noise_shaping import DISTRIBUTION, Net, Points
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from trained import training

import graft
from graft import GraftError, GraftModule, cli
from graft.commands.correct import InvertedNoiseData, correct, flops, train_longer
from graft.commands.correct.inverter import InversionSettings, Inverter
from graft.commands.correct.pareto import Frontier, Row, summarize_frontier
from graft.network.corrector import GaussianCorrector, NoiseCorrector
from graft.process import Gaussian, LinearSchedule, TrigFlow
from graft.solvers import Euler, Heun, Solver
from graft.solvers.fixed_point import Anderson

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's

BASE = Gaussian(LinearSchedule(), "velocity", (2,), eta=0.0)
MEAN, COV = f64([0.5, -1.0]), f64([[0.6, 0.2], [0.2, 0.3]])


def test_flops_of_a_network_without_counted_operations() -> None:
    """Costs are then numbers of calls, and no cost is 0."""
    state = torch.zeros(4, 2)
    assert flops.count_call(BASE, lambda state, time, condition: 2 * state, state, {"row": torch.zeros(4)}) == 1
    assert (
        flops.count_call(BASE, lambda state, time, condition: state @ torch.eye(2), state, {"row": torch.zeros(4)}) == 8
    )
    assert train_longer.steps_for_flops(120, 1.0, 4) == 10


class Known(nn.Module):
    """The exact velocity of a distribution; a matrix product stands in for the cost of a network."""

    def __init__(self, distribution: Mixture) -> None:
        super().__init__()
        self.exact = Exact(BASE, distribution)
        self.costly = nn.Linear(2, 1024)
        nn.init.zeros_(self.costly.weight)

    def forward(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        return self.exact(state.double(), time, condition).to(state) + 0 * self.costly(state)[:, :2]


class Recorded(Known):
    """Notes, at each call, whether a GPU may round float32 to TF32."""

    def __init__(self, distribution: Mixture) -> None:
        super().__init__(distribution)
        self.rounding: list[tuple[bool, str]] = []

    def forward(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        self.rounding.append((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))
        return super().forward(state, time, condition)


class Cloud(LightningDataModule):
    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.points = points.float()

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(self.points), 1024, shuffle=True)


class Encoded(Points):
    def encode(self, batch: Any) -> Any:
        return batch[0], {"row": torch.zeros(len(batch[0]))}


def module(distribution: "Mixture | Known", corrector: NoiseCorrector, folder: Path, **settings: Any) -> GraftModule:
    network = distribution if isinstance(distribution, Known) else Known(distribution)
    torch.save(network.state_dict(), folder / "base.pt")
    settings = {**training(3e-3, warmup_steps=20, cosine=True, ema_decay=0.99), "steps": 4, **settings}
    return Encoded(network, BASE, str(folder / "base.pt"), corrector=corrector, **settings)


def data(distribution: Mixture, count: int, **settings: Any) -> InvertedNoiseData:
    points = distribution.sample(count, torch.Generator().manual_seed(5))
    settings = {
        **{"num_certificate_draws": 64, "test_draws": 1000, "num_repeats": 2},
        **{"train_longer_baseline": False, "baseline_steps": [4, 8]},
        **settings,
    }
    return InvertedNoiseData(Cloud(points), batch_size=1024, **settings)


def corrected(made: GraftModule, given: InvertedNoiseData, folder: Path, epochs: int = 1) -> dict[str, Any]:
    return correct(made, given, folder / "run", graft.trainer(epochs, accelerator="cpu", enable_progress_bar=False))


def test_inversion_is_in_float32_on_a_gpu_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inversion amplifies rounding, so TF32 is off for it, and as before afterwards."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.set_float32_matmul_precision("high")
    try:
        network = Recorded(normal(MEAN, COV))
        made = module(network, GaussianCorrector(), tmp_path, steps=2)
        settings = InversionSettings(1, 0.0, Anderson(), 0.01, 0.1, 8, 8, 0)
        trainer = graft.trainer(1, accelerator="cpu", enable_progress_bar=False)
        inverter = Inverter(made, trainer, settings, tmp_path)
        inverter.invert_known()
        points = torch.zeros(8, 2), {"row": torch.zeros(8)}
        inverter.invert_data(lambda number: points)
        assert network.rounding and set(network.rounding) == {(False, "highest")}
        assert torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("solver", [Euler(), Heun()], ids=["euler", "heun"])
def test_gaussian_distribution_is_had_exactly(tmp_path: Path, solver: Solver) -> None:
    """The steps of the flow of a Gaussian are affine, so the noise of data is Gaussian and its fit is exact.

    The flow's covariance is off in two steps, by three quarters with Euler's and a tenth with Heun's. The corrected
    one's moments are those of the 4000 points.
    """
    distribution = normal(MEAN, COV)
    given = data(
        distribution, 8000, steps_per_epoch=1, val_fraction=0.0, test_draws=8000, baseline_steps=[2], num_repeats=1
    )
    made = module(distribution, GaussianCorrector(), tmp_path, steps=2, solver=solver, **training(3e-3, cosine=True))
    run_summary = corrected(made, given, tmp_path)
    assert run_summary["inversion"]["kept"] == 4000 and run_summary["inversion"]["known_noise"]["recovered"] == 1.0
    assert run_summary["solver"] == type(solver).__name__
    points = given.real[0].double()
    assert len(points) == len(given.held_out[0]) == 4000
    moments = {}
    for name in ("reference", "tuned"):
        drawn = torch.tensor(made.evaluators[name].items, dtype=torch.float64)
        spread = ((points.T.cov() if name == "tuned" else COV) - drawn.T.cov()).abs().max() / COV.max()
        moments[name] = (float((points.mean(0) - drawn.mean(0)).abs().max()), float(spread))
    assert moments["tuned"][0] < 0.05 and moments["tuned"][1] < 0.07  # five standard errors of 8000 draws
    assert moments["reference"][1] > (0.6 if isinstance(solver, Euler) else 0.05)  # 0.76 and 0.11 of infinitely many


def test_mixture(tmp_path: Path) -> None:
    """Two Euler steps of the exact flow of eight blobs: corrected samples are nearer to the data."""
    torch.manual_seed(0)
    made = module(DISTRIBUTION, NoiseCorrector(TrigFlow((2,)), Net(32), 6), tmp_path, steps=2)
    settings = {"baseline_steps": [4], "test_draws": 2000, "steps_per_epoch": 150, "train_batch_size": 256}
    given = data(DISTRIBUTION, 8000, train_longer_baseline=True, longer_learning_rate=1e-5, **settings)
    run_summary = corrected(made, given, tmp_path, 2)
    rows = {(row["name"], row["solver"], row["steps"]): row for row in run_summary["frontier"]}
    name = run_summary["distance"]["name"]
    assert name == "sliced_wasserstein" and run_summary["distance"]["n"] == 2000

    def mean(*key: Any) -> float:
        return rows[key]["distances"][name]["mean"]

    assert mean("corrected", "Euler", 2) < 0.7 * mean("flow", "Euler", 2)
    assert mean("Gaussian", "Euler", 2) < mean("flow", "Euler", 2)
    call, own = run_summary["flops"]["call"], run_summary["flops"]["corrector_call"]
    assert 2 * 2 * 1024 <= call < 1.1 * 2 * 2 * 1024  # the exact posterior has a product too
    assert own == 2 * (6 * 32 + 32 * 32 * 2 + 32 * 2)
    assert rows["flow", "Euler", 4]["flops"] == 4 * call and rows["flow", "Heun", 4]["flops"] == 8 * call
    assert rows["corrected", "Euler", 2]["flops"] == 2 * call + 6 * own
    assert run_summary["flops"]["training"] == own * 2 * (3 * 150 * 256 + len(given.examples(held_out=True).state))
    inverted, known = given.recovered.inverted, given.certificate.inverted
    calls = int(inverted.evaluations.sum()) + 2 * int(inverted.solved.sum())  # Euler's steps, and the round trips'
    assert (
        run_summary["flops"]["inversion"] == calls * call
        and run_summary["inversion"]["network_calls_per_sample"] == calls / 4000
    )
    made_of_known = 2 * 64  # the samples of the known noise
    assert run_summary["flops"]["certificate"] == call * (
        made_of_known + int(known.evaluations.sum()) + 2 * int(known.solved.sum())
    )
    steps = sum(run_summary["flops"][name] for name in ("inversion", "certificate", "training")) / (3 * call * 1024)
    assert run_summary["trained_longer"]["steps"] == round(steps) > 0
    found = run_summary["inversion"]
    assert found["samples"] == 4000 and found["kept"] + found["not_solved"] + found["round_trip_too_far"] == 4000
    assert found["kept"] > 3600 and (found["left_out"] is None) == (found["kept"] == 4000)
    run = tmp_path / "run"
    assert json.loads((run / "summary.json").read_text()) == run_summary
    assert {"tuned.safetensors", "report.html", "frontier.png", "metrics.csv", "checkpoints"} <= {
        p.name for p in run.iterdir()
    }


def test_dequantised_points(tmp_path: Path) -> None:
    """Data on five points have no noise of their own: with as much added as the last step has, they are inverted."""
    spots = Mixture(
        torch.full((5,), 0.2).double(), f64([[0, 0], [2, 0], [-2, 0], [0, 2], [0, -2]]), torch.zeros(5, 2, 2).double()
    )
    wide = spots.noised(1.0, 0.125 / 12**0.5)
    made = module(wide, GaussianCorrector(), tmp_path, steps=8, **training(3e-3, cosine=True))
    given = data(
        spots,
        400,
        dequantize_std="auto",
        steps_per_epoch=1,
        num_dequantizations=2,
        max_invalid_fraction=0.9,
        baseline_steps=[8],
        fixed_point_solver=Anderson(iterations=30),
    )
    run_summary = corrected(made, given, tmp_path)
    assert run_summary["dequantize_std"] == pytest.approx(0.125 / 12**0.5)
    assert run_summary["inversion"]["samples"] == 400
    moved = given.recovered.data - torch.cat([given.real[0]] * 2)
    assert 0.9 < float(moved.std()) / run_summary["dequantize_std"] < 1.1
    assert not torch.equal(moved[:200], moved[200:])


def test_too_many_lost(tmp_path: Path) -> None:
    """Two Euler steps of the flow of narrow blobs: the message has the step and advice; inverted samples stay."""
    narrow = Mixture(f64([0.5, 0.5]), f64([[-3.0, 0.0], [3.0, 0.0]]), 1e-4 * torch.eye(2).double().repeat(2, 1, 1))
    made = module(narrow, GaussianCorrector(), tmp_path, steps=4, **training(3e-3, cosine=True))
    wide = narrow.noised(1.0, 1.0)  # what the flow does not make
    with pytest.raises(GraftError, match=r"could not be inverted.*at the step from level 0.*--model.steps 8") as caught:
        corrected(made, data(wide, 300), tmp_path)
    assert "at most 10%. Take smaller steps" in str(caught.value)
    assert list((tmp_path / "run" / "recovered").iterdir()) and not (tmp_path / "run" / "summary.json").exists()


def test_what_is_left_out_is_described(tmp_path: Path) -> None:
    """Points that the flow cannot generate are far out: the summary states the gap in standard errors."""
    distribution = normal(MEAN, 0.01 * COV)
    made = module(distribution, GaussianCorrector(), tmp_path, steps=4, **training(3e-3, cosine=True))
    given = data(
        distribution, 600, max_round_trip_error=1e-4, max_invalid_fraction=0.5, val_fraction=0.0, steps_per_epoch=1
    )
    inside = given.source.points
    given.source.points = torch.cat([inside, 1e6 + inside[:60]])  # float32 does not bring them back to 1e-4
    run_summary = corrected(made, given, tmp_path)["inversion"]
    far = int((given.real[0].norm(dim=1) > 1e5).sum())
    assert run_summary["samples"] == 330 and run_summary["kept"] == 330 - far < 330
    assert run_summary["left_out"]["norm"]["left_out"] > 1e5 > run_summary["left_out"]["norm"]["kept"]
    assert run_summary["left_out"]["norm"]["standard_errors"] > 100


@pytest.mark.parametrize(
    ("process", "words"),
    [
        (Gaussian(LinearSchedule(), "velocity", (2,), eta=1.0), "set eta=0"),
        (Gaussian(LinearSchedule(), "x0", (2,), eta=0.0), "keeps nothing"),
    ],
    ids=["stochastic", "x0"],
)
def test_what_cannot_be_inverted(process: Gaussian, words: str, tmp_path: Path) -> None:
    network = Known(DISTRIBUTION)
    torch.save(network.state_dict(), tmp_path / "base.pt")
    with pytest.raises(GraftError, match=words):
        made = Encoded(network, process, str(tmp_path / "base.pt"), corrector=NoiseCorrector(TrigFlow((2,)), Net(), 2))
        corrected(made, data(DISTRIBUTION, 100), tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"samples": 1}, "data.samples is 1"),
        ({"dequantize_std": -0.1}, "data.dequantize_std"),
        ({"dequantize_std": "some"}, "data.dequantize_std"),
        ({"max_invalid_fraction": 1.0}, "data.max_invalid_fraction is 1"),
        ({"baseline_steps": [0]}, "data.baseline_steps is 0"),
    ],
    ids=str,
)
def test_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(GraftError, match=words):
        data(DISTRIBUTION, 10, **settings)


def test_conclusions() -> None:
    """Distances that are exact powers of the cost: 1/cost at warp 1, 4/cost at warp 2, 1.5/cost for Heun."""

    def row(name: str, solver: str, steps: int, warp: float, flops: float, distance: float) -> Row:
        return Row(name, solver, steps, warp, flops, {"fid": [distance]})

    rows = [row("flow", "Euler", n, w, 10.0 * n, k / n) for n in (1, 2, 4, 8, 16) for w, k in ((1.0, 1.0), (2.0, 4.0))]
    rows += [row("flow", "Heun", n, 1.0, 20.0 * n, 1.5 / n) for n in (1, 2, 4, 8)]
    others = [row("trained longer", "Euler", n, 2.0, 10.0 * n, 3 / n) for n in (4, 8)]
    others += [row("Gaussian", "Euler", 4, 2.0, 40.0, 0.7)]
    found = summarize_frontier(
        Frontier([*rows, *others, row("corrected", "Euler", 4, 2.0, 50.0, 1 / 6)], {"fid": [0.01]}, 9)
    )
    assert found["flops_at_equal_distance"] == pytest.approx(50 / 60)  # six steps at warp 1 are as near
    assert found["flops_at_equal_distance_same_warp"] is None  # 16 steps at warp 2 are not
    assert found["same_solver_at_equal_flops"] == pytest.approx(1 / 5)
    assert found["best_solver_at_equal_flops"] == {"solver": "Euler", "warp": 1.0, "distance": pytest.approx(1 / 5)}
    assert (found["gaussian"], found["trained_longer_at_equal_flops"]) == (0.7, pytest.approx(0.6))
    nearer = [*rows, *others, row("corrected", "Euler", 4, 2.0, 50.0, 1 / 3)]
    found = summarize_frontier(Frontier(nearer, {"fid": [0.01]}, 9))
    assert found["flops_at_equal_distance"] == pytest.approx(50 / 30)
    assert found["flops_at_equal_distance_same_warp"] == pytest.approx(50 / 120)
    for strange in (0.0, -0.1, float("nan"), float("inf")):  # some distances are 0 of equal sets, or below it
        odd = [*rows[:3], *others, row("flow", "Midpoint", 2, 1.0, 40.0, strange)]
        run_summary = summarize_frontier(
            Frontier([*odd, row("corrected", "Euler", 4, 2.0, 50.0, strange)], {"fid": [0.0]}, 9)
        )
        assert run_summary["flops_at_equal_distance"] is None and json.dumps(run_summary, allow_nan=False)


class Stored(LightningDataModule):
    """Points in the order in which they are stored: one blob after the other, unshuffled."""

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.points = points.float()

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(self.points), 64)


@pytest.mark.parametrize("samples", [None, 300])
def test_data_stored_class_by_class(tmp_path: Path, samples: "int | None") -> None:
    """All blobs are inverted and evaluated: the exact flow is as near to the held-out data as two real sets are.

    The first part of the data would be one or two of eight blobs. Its sliced Wasserstein distance to the distribution
    is above 1, that of two halves of a random part below 0.6.
    """
    kinds = torch.arange(1200) // 150
    points = DISTRIBUTION.means[kinds] + 0.15 * torch.randn(
        1200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    made = module(DISTRIBUTION, GaussianCorrector(), tmp_path, steps=8, **training(3e-3, cosine=True))
    given = InvertedNoiseData(
        Stored(points),
        samples,
        num_certificate_draws=0,
        steps_per_epoch=1,
        test_draws=150,
        num_repeats=2,
        train_longer_baseline=False,
        baseline_steps=[8],
    )
    run_summary = corrected(made, given, tmp_path)

    def blobs(state: Tensor) -> Tensor:
        return torch.cdist(state.double(), DISTRIBUTION.means).argmin(1).bincount(minlength=8)

    share, held_out = blobs(given.real[0]) / len(given.real[0]), blobs(given.held_out[0])
    assert len(given.held_out[0]) == 300 and len(given.real[0]) == (samples or 900)
    assert share.min() > 0.06 and held_out.min() > 15  # of 1/8 and 37.5: less than once in 10^4
    name = run_summary["distance"]["name"]
    flow = next(row for row in run_summary["frontier"] if row["name"] == "flow" and row["solver"] == "Midpoint")
    assert run_summary["distance"]["floor"] < 0.6 and flow["distances"][name]["mean"] < 0.6
    assert run_summary["distance"]["held_out"] == 300 and run_summary["distance"]["n"] == 150
    page = (tmp_path / "run" / "report.html").read_text()
    assert "150 of 300 held-out data" in page and "two halves of the held-out data" in page
    assert not set(map(tuple, given.real[0].tolist())) & set(map(tuple, given.held_out[0].tolist()))
