"""The analysis end to end: an exact denoiser as the network, the sampler, the rule, re-rolling; known shares."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from exact import Exact, f64, normal
from torch import Generator, Tensor, nn
from trained import rollouts_of

import graft
from graft import GraftError, GraftModule, Rollouts, cli
from graft.commands.levels import show
from graft.commands.levels.results import Analysis
from graft.commands.levels.search import origin
from graft.process import CosineSchedule, Gaussian
from graft.reward import Reward
from graft.rollouts.settings import LevelSearch

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's

DISTRIBUTION = normal(f64([0.4]), f64([[0.7]]))
STEPS = 64


class Network(nn.Module):
    """Exact, with a weight so that there is something to load and to train."""

    def __init__(self, process: Gaussian) -> None:
        super().__init__()
        self.exact, self.scale = Exact(process, DISTRIBUTION), nn.Parameter(torch.ones(1))

    def forward(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        return self.scale * self.exact(state, time, condition)

    def __deepcopy__(self, memo: Any) -> "Network":
        return Network(self.exact.process)


class Line(GraftModule):
    """Numbers on a line."""

    def sample_conditions(self, count: int, generator: Generator) -> dict[str, Tensor]:
        return {"row": torch.zeros(count, dtype=torch.float64)}

    def decode(self, state: Any, condition: Any) -> list[float]:
        return [float(x) for x in state[:, 0]]


class Away(Reward):
    """How far to the left: smaller is better; what lies far out fails."""

    name, higher_is_better = "left", False
    calls = 0

    def score(self, item: float) -> float:
        self.calls += 1
        if item > 2.5:
            raise ValueError("far out")
        return item


def made(folder: Path, eta: float = 1.0, level: 'float | Literal["auto"]' = 0.5) -> Line:
    process = Gaussian(CosineSchedule(), "v", (1,), eta=eta)
    torch.save({"scale": torch.ones(1)}, folder / "weights.pt")
    return Line(Network(process), process, str(folder / "weights.pt"), level=level, steps=STEPS)


def data(**settings: Any) -> Rollouts:
    return rollouts_of(
        Away(), draws=256, batch_size=500, steps_per_round=2, validation_draws=0, test_draws=64, **settings
    )


def trainer(rounds: int = 1) -> Any:
    return graft.trainer(rounds, accelerator="cpu", enable_progress_bar=False)


def test_known_shares(tmp_path: Path) -> None:
    module, rollouts = made(tmp_path), data(level_search=LevelSearch((0.25, 0.5, 0.75), draws=6000))
    found = graft.levels(module, rollouts, tmp_path / "run", trainer())
    assert [level.level for level in found.levels] == [0, 0.25, 0.5, 0.75] and found.stochastic
    assert found.accepted == pytest.approx(750, abs=15) and found.resampled == 2 * found.accepted
    for level in found.levels[1:]:
        alpha, sigma = (float(c) for c in module.policy.process.alpha_sigma(level.level))  # type: ignore[attr-defined]
        share = alpha**2 * 0.7 / (alpha**2 * 0.7 + sigma**2)
        assert level.reward_r2 and level.predicted_retention and level.measured_retention and level.score_gap
        # standard errors of up to 0.015 and 0.02; the steps of the sampler and the draws that fail move it a little
        assert level.reward_r2.value == pytest.approx(share, abs=0.05)
        assert level.predicted_retention.value == pytest.approx(share, abs=0.06)
        assert level.measured_retention.value == pytest.approx(share, abs=0.08)
        assert level.measured_retention.low < level.measured_retention.value < level.measured_retention.high
        there = DISTRIBUTION.at(module.policy.process, level.level)  # type: ignore[arg-type]
        s = float(there.covs[0])
        assert level.score_gap.value == pytest.approx(float(there.means[0]) ** 2 + s - 2 + 1 / s, rel=0.15)
        assert level.trained_fraction == 1 - level.level and level.time == level.level
        assert level.log_snr == pytest.approx(float(module.policy.process.log_snr(level.level)))
        assert level.denoiser_calls == 6000 + found.resampled * round(level.level * STEPS)
        assert level.reward_calls == 6000 + found.resampled
    assert found.level == 0.25  # the lower end of its share is above 0.8; those of the others are below 0.5
    assert found.denoiser_calls == 6000 * STEPS + sum(level.denoiser_calls for level in found.levels)
    assert found.reward_calls == 6000 + sum(level.reward_calls for level in found.levels)
    assert rollouts.reward.calls == found.reward_calls  # type: ignore[attr-defined]
    assert found.reward is not None and found.accepted_reward is not None
    assert found.accepted_reward < found.reward < 0.5 and 0 < found.failed_rewards < 200


def test_files_say_the_same(tmp_path: Path) -> None:
    module, rollouts = made(tmp_path), data(level_search=LevelSearch((0.125, 0.5), draws=600, n_bootstrap=20))
    found = graft.levels(module, rollouts, tmp_path / "run", trainer())
    assert Analysis.read(tmp_path / "run") == found
    json.loads((tmp_path / "run/levels.json").read_text(), parse_constant=pytest.fail)
    assert (tmp_path / "run/levels.png").read_bytes().startswith(b"\x89PNG")
    text = show.levels_table(found)
    assert found.reason in text and text.count("⟵") == 1 and "1,200 denoiser" not in text
    page = show.levels_section(tmp_path / "run")
    assert "data:image/png;base64," in page and "http" not in page and found.reason[1:] in page
    assert show.levels_section(tmp_path) == ""
    again = graft.levels(made(tmp_path), data(level_search=rollouts.level_search), tmp_path / "again", trainer())
    assert again == found
    other = made(tmp_path)
    other.seed = 3
    assert (
        graft.levels(other, data(level_search=rollouts.level_search), tmp_path / "other", trainer()).levels
        != found.levels
    )


def test_ode(tmp_path: Path) -> None:
    """x_u decides the sample: nothing is scored or re-rolled, and only what there is to learn is measured."""
    module, rollouts = made(tmp_path, eta=0.0), data(level_search=LevelSearch((0.25, 0.5), draws=300, n_bootstrap=20))
    found = graft.levels(module, rollouts, tmp_path / "run", trainer())
    assert not found.stochastic and found.level == 0.5 and "by definition" in found.reason
    assert rollouts.reward.calls == found.reward_calls == 0 and found.resampled == 0  # type: ignore[attr-defined]
    assert found.denoiser_calls == 300 * (STEPS + 2)
    for level in found.levels:
        assert level.retention and level.reward_r2 and level.retention.value == level.reward_r2.value == 1
        assert level.measured_retention is None
    learn = [level.score_gap.value for level in found.levels[1:] if level.score_gap]
    assert learn[0] > learn[1]
    assert Analysis.read(tmp_path / "run") == found and "by definition" in show.levels_section(tmp_path / "run")


@pytest.mark.parametrize("source", ["reference", "current"])
def test_auto(tmp_path: Path, source: Literal["reference", "current"]) -> None:
    """Chosen before the first round and fixed; the weights keep it."""
    module = made(tmp_path, level="auto")
    with pytest.raises(GraftError, match="no level has been chosen yet"):
        module.policy.sampling_stages("tuned")
    with pytest.raises(GraftError, match="no level has been chosen yet"):
        module.save_weights(tmp_path / "w.safetensors")
    rollouts = data(level_search=LevelSearch((0.0625, 0.125, 0.5), draws=600, n_bootstrap=20), source=source)
    summary = graft.fit(module, rollouts, tmp_path / "run", trainer(2))
    found = Analysis.read(tmp_path / "run", origin(rollouts))
    assert summary["level"] == module.policy.interval.low == found.level == 0.125
    assert summary["levels"] == found.to_summary() and summary["levels"]["reward_calls"] == found.reward_calls > 600
    assert summary["reward_calls"] == 512  # the rounds'
    later = made(tmp_path, level="auto")
    later.load_weights(tmp_path / "run/tuned.safetensors")
    assert later.policy.interval.low == 0.125
    fixed = made(tmp_path, level=0.5)
    fixed.load_weights(tmp_path / "run/tuned.safetensors")
    assert fixed.policy.interval.low == 0.5
    page = (tmp_path / "run/report.html").read_text()
    assert "<h2>Levels</h2>" in page and "levels compared" in page


def test_another_comparison_is_refused(tmp_path: Path) -> None:
    plan = LevelSearch((0.125,), draws=300, n_bootstrap=20)
    graft.levels(made(tmp_path), data(level_search=plan), tmp_path / "run", trainer())
    other = data(level_search=LevelSearch((0.125, 0.25), draws=300, n_bootstrap=20))
    with pytest.raises(GraftError, match="another candidates"):
        graft.fit(made(tmp_path, level="auto"), other, tmp_path / "run", trainer())
    before = (tmp_path / "run/levels.json").stat().st_mtime_ns
    summary = graft.fit(made(tmp_path, level="auto"), data(level_search=plan), tmp_path / "run", trainer())
    assert summary["level"] == 0.125  # the folder's own comparison is taken
    assert (tmp_path / "run/levels.json").stat().st_mtime_ns == before


def test_nothing_to_survive(tmp_path: Path) -> None:
    from graft.accept import AcceptAll

    with pytest.raises(GraftError, match="accepts no gain in left"):
        plan = LevelSearch((0.5,), draws=300, n_bootstrap=20)
        graft.levels(made(tmp_path), data(accept=AcceptAll(), level_search=plan), tmp_path / "run", trainer())
    assert not (tmp_path / "run/levels.json").exists()


def test_wrong_level(tmp_path: Path) -> None:
    with pytest.raises(GraftError, match="'atuo'"):
        made(tmp_path, level="atuo")  # type: ignore[arg-type]
    process = Gaussian(CosineSchedule(), "v", (1,))
    module = Line(Network(process), process, level="auto", steps=STEPS)
    for call in (graft.fit, graft.levels):
        with pytest.raises(GraftError, match=r"give model\.weights"):
            call(module, data(), tmp_path / "run", trainer())
