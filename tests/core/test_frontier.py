"""The frontier of a comparison: known paths, interpolation, paired tests with Holm's method, which paths are beaten."""

import math
from typing import Any

import pytest
from scipy.stats import ttest_1samp

from graft.commands.compare import frontier, show_frontier
from graft.commands.compare.frontier import Path, Point, interpolate_path
from graft.evaluation.confidence import MeanInterval, holm, paired_p_value


def row(
    path: str, seed: int, position: float, reward: "float | None", drift: "float | None", calls: int
) -> dict[str, Any]:
    costs = {"training_reward_calls": calls, "level_reward_calls": 0, "inference_reward_calls": 0}
    return {"path": path, "seed": seed, "position": position, "reward": reward, "drift": drift, **costs}


def straight(slope: float, end: float, points: int, calls: int = 100) -> list[Point]:
    """Return a path whose reward is slope · drift, from 0 to a drift of ``end``."""
    return [
        Point(slope * end * k / points, end * k / points, calls * k / points, position=k / points)
        for k in range(points + 1)
    ]


def test_paths_begin_at_the_reference() -> None:
    rows = [row("a", 0, 2, 3.0, 2.0, 20), row("reference", 0, 0, 1.0, 0.1, 0), row("a", 0, 1, 2.0, 1.0, 10)]
    rows += [row("a", 1, 1, 2.5, 1.0, 10), row("a", 1, 2, None, None, 20)]
    assert frontier.paths(rows) == {
        "a": {
            0: [Point(1.0, 0.1, 0), Point(2.0, 1.0, 10, position=1), Point(3.0, 2.0, 20, position=2)],
            1: [Point(2.5, 1.0, 10, position=1)],
        }
    }


def test_between_points() -> None:
    points = straight(2.0, 1.0, 4)
    assert interpolate_path(points, "drift", 0.3, "reward") == pytest.approx(0.6)
    assert interpolate_path(points, "reward", 1.5, "drift") == pytest.approx(0.75)
    assert interpolate_path(points, "reward", 2.0, "calls") == pytest.approx(100)
    assert interpolate_path(points, "drift", 1.1, "reward") is None
    assert interpolate_path(points[:1], "drift", 0.0, "reward") == 0.0
    back = [Point(0.0, 0.0, 0), Point(1.0, 1.0, 1), Point(0.5, 2.0, 2)]  # the reward rises, then falls
    assert interpolate_path(back, "reward", 0.75, "drift") == pytest.approx(0.75)
    assert interpolate_path([Point(0.0, None, 0), Point(1.0, None, 10)], "drift", 0.5, "reward") is None
    gap = [Point(0.0, 0.0, 0), Point(5.0, None, 5), Point(1.0, 1.0, 10)]  # a point without a drift is left out
    assert interpolate_path(gap, "drift", 1.0, "reward") == 1.0
    assert interpolate_path(gap, "drift", 0.5, "reward") == pytest.approx(0.5)
    assert interpolate_path(gap, "reward", 2.5, "calls") == pytest.approx(2.5)


def test_means_are_of_equal_positions() -> None:
    """A seed without a point, or without the reference, takes no part in the others' positions."""
    path: Path = {
        0: [Point(float(k), 10.0 * k, k, position=k) for k in (0, 1, 2, 3)],
        1: [Point(2.0 * k, 20.0 * k, k, position=k) for k in (1, 3)],
    }
    assert [(p.position, p.reward, p.drift) for p in frontier.mean_points(path)] == [(1, 1.5, 15.0), (3, 4.5, 45.0)]
    path[1][0] = Point(2.0, None, 1, position=1)
    assert [p.drift for p in frontier.mean_points(path)] == [None, 45.0]


def test_equal_drift_and_equal_reward() -> None:
    """Seed by seed, at the end that is nearer to the start: each path's or the baseline's."""
    found: dict[str, Path] = {
        "base": {0: straight(1.0, 1.0, 2), 1: straight(1.0, 2.0, 2), 2: straight(1.1, 1.0, 2)},
        "better": {0: straight(2.0, 2.0, 3), 1: straight(2.5, 2.0, 3), 2: straight(2.0, 2.0, 3)},
        "short": {0: straight(1.5, 0.5, 1), 1: straight(1.5, 3.0, 1), 2: straight(1.5, 3.0, 1)},
    }
    compared = frontier.compare_paths(found, "base")
    better, base, short = compared["better"], compared["base"], compared["short"]
    assert better.reward is not None and better.reward.mean == pytest.approx((2.0 + 5.0 + 2.0) / 3)
    assert better.reward_difference is not None
    assert better.reward_difference.mean == pytest.approx((1.0 + 3.0 + 0.9) / 3)
    assert better.drift is not None and better.drift.mean == pytest.approx((0.5 + 0.8 + 0.55) / 3)
    assert better.drift_ratio is not None
    assert better.drift_ratio.mean == pytest.approx((0.5 + 0.4 + 0.55) / 3)
    assert better.calls is not None and better.calls.mean == pytest.approx(100 * (0.25 + 0.4 + 0.275) / 3)
    assert better.calls_ratio is not None and better.calls_ratio.mean == pytest.approx((0.25 + 0.4 + 0.275) / 3)

    assert base.reward is not None and base.reward_difference is None and base.reward_p is None
    assert base.reward.mean == pytest.approx((1.0 + 2.0 + 1.1) / 3)
    assert base.drift_ratio is None and base.calls_ratio is None

    assert short.reward is not None and short.reward.mean == pytest.approx((0.75 + 3.0 + 1.5) / 3)
    assert short.reward_difference is not None
    assert short.reward_difference.mean == pytest.approx((0.25 + 1.0 + 0.4) / 3)
    assert short.drift is not None and short.drift.mean == pytest.approx((0.5 + 2 / 1.5 + 1.1 / 1.5) / 3)
    assert short.drift_ratio is not None
    assert short.drift_ratio.mean == pytest.approx((1 / 1.5 + 1 / 1.5 + 1.1 / 1.5) / 3)

    raw = [float(ttest_1samp(each, 0.0).pvalue) for each in ([1.0, 3.0, 0.9], [0.25, 1.0, 0.4])]
    assert [better.reward_p, short.reward_p] == pytest.approx(holm(raw))
    drifts = ([0.5, 1.2, 0.45], [0.25, 2 - 4 / 3, 1 - 1.1 / 1.5])  # the baseline's less the path's, at equal reward
    raw = [float(ttest_1samp(each, 0.0).pvalue) for each in drifts]
    assert [better.drift_p, short.drift_p] == pytest.approx(holm(raw))
    assert [name for name, each in compared.items() if not each.beaten] == ["better"]


def test_no_common_point() -> None:
    """A path that ends worse than it began has no reward in common with one that rises."""
    found: dict[str, Path] = {
        "rises": {0: straight(1.0, 1.0, 2), 1: straight(1.0, 1.0, 2)},
        "falls": {0: straight(-1.0, 1.0, 2), 1: straight(-1.0, 2.0, 2)},
    }
    falls = frontier.compare_paths(found, "rises")["falls"]
    assert falls.drift is None and falls.drift_ratio is None and falls.drift_p is None and falls.calls is None
    assert falls.reward is not None and falls.reward.mean == -1.0 and falls.reward_difference is not None
    assert falls.reward_difference.mean == -2.0
    lower = frontier.compare_paths(found, "falls", higher_is_better=False)["rises"]
    assert lower.drift is None and lower.reward is not None and lower.reward.mean == 1.0
    less: dict[str, Path] = {"far": {0: straight(-1.0, 2.0, 2)}, "near": {0: straight(-2.0, 0.5, 1)}}
    for better in (True, False):  # both have a reward of -1, whichever sign is the better one
        near = frontier.compare_paths(less, "far", higher_is_better=better)["near"]
        assert near.drift is not None and near.drift.mean == 0.5
        assert near.drift_ratio is not None and near.drift_ratio == MeanInterval(0.5, None, 1)
        assert near.drift_p is None  # one seed


def test_a_seed_of_one_path_only() -> None:
    """Common seeds are compared; a drift that is missing at the end of one of them leaves none."""
    found: dict[str, Path] = {
        "base": {0: straight(1.0, 1.0, 2), 1: straight(1.0, 1.0, 2)},
        "path": {1: straight(2.0, 1.0, 2), 2: straight(9.0, 1.0, 2)},
        "same": {0: straight(1.0, 1.0, 2), 1: straight(1.0, 1.0, 2)},
    }
    compared = frontier.compare_paths(found, "base")
    assert compared["path"].reward == MeanInterval(2.0, None, 1) and compared["path"].calls_ratio is not None
    assert compared["same"].reward_difference == MeanInterval(0.0, 0.0, 2)
    assert compared["same"].reward_p is None and compared["same"].drift_ratio == MeanInterval(1.0, 0.0, 2)
    found["same"][1][-1] = Point(1.0, None, 100, position=1)
    compared = frontier.compare_paths(found, "base")
    assert compared["same"].reward is None and compared["same"].drift is None and compared["same"].calls is not None


def test_a_path_is_beaten_only_as_a_whole() -> None:
    """A method with the most reward or the least drift stays on the frontier."""
    near: Path = {0: [Point(0.2, 0.1, 10)]}
    far: Path = {0: [Point(1.0, 2.0, 10)]}
    between: Path = {0: [Point(0.1, 0.5, 10)]}
    compared = frontier.compare_paths({"near": near, "far": far, "between": between}, "far")
    assert {name: each.beaten for name, each in compared.items()} == {"near": False, "far": False, "between": True}
    lower = frontier.compare_paths({"near": near, "far": far, "between": between}, "far", higher_is_better=False)
    assert {name: each.beaten for name, each in lower.items()} == {"near": False, "far": True, "between": False}
    assert lower["far"].reward is not None and lower["far"].reward.mean == 1.0  # in the reward's own sign
    equal = frontier.compare_paths({"near": near, "same": near}, "near")
    assert not any(each.beaten for each in equal.values())


def test_without_features_reward_calls_stand_for_the_drift() -> None:
    cheap: Path = {0: [Point(0.5, None, 10)]}
    dear: Path = {0: [Point(0.5, None, 20)]}
    compared = frontier.compare_paths({"cheap": cheap, "dear": dear}, "cheap")
    assert compared["dear"].beaten and not compared["cheap"].beaten
    head, body = show_frontier.frontier_table(compared)
    assert len(head) == len(body[0]) and body[0][-1] == "yes"


def test_the_figure_has_every_coordinate_that_is_known() -> None:
    """Four panels with features, reward calls alone without."""
    about = {"baseline_path": "a", "reward": {"name": "QED", "higher_is_better": True}}
    rows = [row("reference", seed, 0, 1.0, 0.1, 0) for seed in range(3)]
    rows += [row("a", seed, k, 1.0 + k + 0.1 * seed, 1.0 * k, 10 * k) for seed in range(3) for k in (1, 2)]
    plain = show_frontier.render_frontier([each | {"drift": None} for each in rows], about)
    assert plain is not None and "<svg" in plain.svg.decode()
    features = [
        each | {"frechet": 2.0, "frechet_floor": 0.5, "internal_diversity": 9.0, "drift_floor": 0.1} for each in rows
    ]
    full = show_frontier.render_frontier(features, about)
    assert full is not None and full.compared["a"].drift is not None
    axes = [rendered.svg.decode().count('id="axes_') for rendered in (plain, full)]
    assert axes == [1, 4]
    floors = [rendered.svg.decode().count("stroke-dasharray") for rendered in (plain, full)]
    assert floors[0] == 0 < floors[1]
    two = show_frontier.render_frontier([each for each in features if each["seed"] < 2], about)
    assert two is not None  # two seeds have no bars
    bars = [rendered.svg.decode().count("LineCollection") for rendered in (two, plain, full)]
    assert bars[0] == 0 < bars[1] < bars[2]


def test_p_values() -> None:
    """The paired t test is scipy's; Holm's method by hand."""
    values, baseline = {0: 1.0, 1: 2.0, 2: 4.0, 7: 9.0}, {0: 0.5, 1: 1.8, 2: 3.0}
    expected = float(ttest_1samp([0.5, 0.2, 1.0], 0.0).pvalue)
    assert paired_p_value(values, baseline) == pytest.approx(expected)
    assert paired_p_value({0: 1.0}, {0: 0.0}) is None and paired_p_value({0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.0}) is None
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []
    assert math.isclose(holm([0.02])[0], 0.02)
