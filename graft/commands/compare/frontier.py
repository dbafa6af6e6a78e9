"""The paths of the methods through reward, drift and reward calls: where they meet, and which ones no other beats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from graft.commands.compare.rows import Row
from graft.evaluation.confidence import MeanInterval, holm, mean_interval, paired_difference, paired_p_value
from graft.reward import oriented

Axis = Literal["reward", "drift", "calls"]
START = "reference"
"""Line of the samples that all paths start at."""


@dataclass(frozen=True)
class Point:
    """A model on a path.

    Attributes:
        reward: Mean reward.
        drift: Distance to draws of the reference; None if the domain has no features.
        calls: Number of reward calls until then.
    """

    reward: float
    drift: "float | None"
    calls: float


Path = dict[int, list[Point]]
"""The points of a path by seed, in the order of the path."""


@dataclass(frozen=True)
class PathComparison:
    """A path where it has the drift or the reward of the baseline's last point.

    Attributes:
        reward: Reward at the baseline's drift.
        reward_difference: Its difference to the baseline's reward, paired by seed.
        reward_p: Its p-value by Holm's method.
        drift: Drift at the baseline's reward.
        drift_difference: Its difference to the baseline's drift, paired by seed.
        drift_p: Its p-value by Holm's method.
        calls: Reward calls at the baseline's reward.
        beaten: True if another path has a better point for each point of this one.
    """

    reward: "MeanInterval | None"
    reward_difference: "MeanInterval | None"
    reward_p: "float | None"
    drift: "MeanInterval | None"
    drift_difference: "MeanInterval | None"
    drift_p: "float | None"
    calls: "MeanInterval | None"
    beaten: bool


def paths(rows: Sequence[Row]) -> dict[str, Path]:
    """Return the points of each path by seed, the reference's point first.

    Args:
        rows: Rows of ``compare.csv``.
    """
    order = list(dict.fromkeys(row["path"] for row in rows))
    points = {
        (row["path"], row["seed"], row["position"]): Point(row["reward"], row.get("drift"), _calls(row))
        for row in sorted(rows, key=lambda row: (order.index(row["path"]), float(row["position"])))
        if row["reward"] is not None
    }
    starts = {seed: point for (path, seed, _), point in points.items() if path == START}
    out: dict[str, Path] = {}
    for (path, seed, _), point in points.items():
        if path != START:
            start = [starts[seed]] if seed in starts else []
            out.setdefault(path, {}).setdefault(seed, start).append(point)
    return out


def interpolate_path(points: Sequence[Point], by: Axis, value: float, what: Axis) -> "float | None":
    """Return ``what`` where the path first has ``by`` = ``value``, with straight lines between points; else None.

    Args:
        points: Points of a path.
        by: Coordinate that has the value.
        value: The value.
        what: Coordinate that is returned.
    """
    for left, right in zip([points[0], *points], points, strict=False):
        a, b = getattr(left, by), getattr(right, by)
        c, d = getattr(left, what), getattr(right, what)
        if None in (a, b, c, d) or not min(a, b) <= value <= max(a, b):
            continue
        return float(d) if a == b else float(c + (value - a) / (b - a) * (d - c))
    return None


def compare_paths(found: dict[str, Path], baseline: str, higher_is_better: bool = True) -> dict[str, PathComparison]:
    """Return each path compared with the last point of the baseline's path, and the paths that are not beaten.

    Args:
        found: Points of each path.
        baseline: Name of the path that the others are compared with.
        higher_is_better: True if a larger reward is better.
    """
    last = {seed: points[-1] for seed, points in found.get(baseline, {}).items()}
    rewards = {name: _at_each(path, last, "drift", "reward") for name, path in found.items()}
    drifts = {name: _at_each(path, last, "reward", "drift") for name, path in found.items()}
    own_reward = {seed: point.reward for seed, point in last.items()}
    own_drift = {seed: point.drift for seed, point in last.items() if point.drift is not None}

    def complete(name: str, values: dict[int, float]) -> bool:
        return set(values) == set(found[name]) & set(last) != set()

    reward_p, drift_p = (
        _p_values({name: each for name, each in values.items() if name != baseline and complete(name, each)}, own)
        for values, own in ((rewards, own_reward), (drifts, own_drift))
    )

    def mean(name: str, values: dict[int, float]) -> "MeanInterval | None":
        return mean_interval(list(values.values())) if complete(name, values) else None

    def difference(name: str, values: dict[int, float], own: dict[int, float]) -> "MeanInterval | None":
        return paired_difference(values, own) if name != baseline and complete(name, values) else None

    return {
        name: PathComparison(
            reward=mean(name, rewards[name]),
            reward_difference=difference(name, rewards[name], own_reward),
            reward_p=reward_p.get(name),
            drift=mean(name, drifts[name]),
            drift_difference=difference(name, drifts[name], own_drift),
            drift_p=drift_p.get(name),
            calls=mean(name, _at_each(found[name], last, "reward", "calls")),
            beaten=_is_beaten(name, found, higher_is_better),
        )
        for name in found
    }


def _calls(row: Row) -> float:
    names = ("training_reward_calls", "level_reward_calls", "inference_reward_calls")
    return float(sum(row[name] or 0 for name in names))


def _at_each(path: Path, last: dict[int, Point], by: Axis, what: Axis) -> dict[int, float]:
    """Return ``what`` by seed, for the seeds in which the path gets to the baseline's ``by``."""
    wanted = {seed: getattr(last[seed], by) for seed in path if seed in last}
    values = {
        seed: interpolate_path(path[seed], by, value, what) for seed, value in wanted.items() if value is not None
    }
    return {seed: value for seed, value in values.items() if value is not None}


def _p_values(values: dict[str, dict[int, float]], own: dict[int, float]) -> dict[str, float]:
    """Return the p-value of each path's difference to the baseline by Holm's method, where there is one."""
    raw = {name: paired_p_value(each, own) for name, each in values.items()}
    known = {name: value for name, value in raw.items() if value is not None}
    return dict(zip(known, holm(list(known.values())), strict=True))


def mean_points(path: Path) -> list[Point]:
    """Return the means over seeds of the points that every seed has."""
    out = []
    for points in zip(*path.values(), strict=False):
        drifts = [point.drift for point in points if point.drift is not None]
        out.append(
            Point(
                sum(point.reward for point in points) / len(points),
                sum(drifts) / len(drifts) if len(drifts) == len(points) else None,
                sum(point.calls for point in points) / len(points),
            )
        )
    return out


def _is_beaten(name: str, found: dict[str, Path], higher_is_better: bool) -> bool:
    """Return True if every point of a path has a better one on another path; reward calls stand for a missing drift.

    The reference, which took no reward calls, is a point of every path and does not count.
    """
    others = [point for other, path in found.items() if other != name for point in mean_points(path) if point.calls]
    own = [point for point in mean_points(found[name]) if point.calls]
    return all(any(_beats(other, point, higher_is_better) for other in others) for point in own)


def _beats(a: Point, b: Point, higher_is_better: bool) -> bool:
    cost_a, cost_b = (a.calls, b.calls) if a.drift is None or b.drift is None else (a.drift, b.drift)
    more = oriented(a.reward, higher_is_better) - oriented(b.reward, higher_is_better)
    return more >= 0 and cost_a <= cost_b and (more, cost_a) != (0, cost_b)
