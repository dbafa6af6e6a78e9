"""The paths of the methods through reward, drift and reward calls: where they meet, and which ones no other beats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from graft.commands.compare.rows import Row
from graft.evaluation.confidence import MeanInterval, holm, mean_interval, paired_difference, paired_p_value
from graft.reward import oriented

Axis = Literal["reward", "drift", "distance", "diversity", "calls"]
START = "reference"
"""Line of the samples that all paths start at."""
DISTANCE = "frechet"
"""Column of the distance to the accepted distribution that paths have."""


@dataclass(frozen=True)
class Point:
    """A model on a path.

    Attributes:
        reward: Mean reward.
        drift: Distance to draws of the reference; None if the domain has no features.
        calls: Number of reward calls until then.
        distance: Distance to the accepted distribution; None if the domain has no features.
        diversity: Internal diversity of the samples; None if the domain has no features.
        position: Place on the path: the number of rounds, or the number of the method; 0 for the reference.
    """

    reward: float
    drift: "float | None"
    calls: float
    distance: "float | None" = None
    diversity: "float | None" = None
    position: float = 0.0


Path = dict[int, list[Point]]
"""The points of a path by seed, in the order of the path."""


@dataclass(frozen=True)
class PathComparison:
    """A path and the baseline's, where they have the same drift and where they have the same reward.

    They have it at one of the two ends, seed by seed: the one whose drift or reward is nearer to the start of the path.
    Differences and ratios are paired by seed.

    Attributes:
        reward: Reward of the path at equal drift.
        reward_difference: Its difference to the baseline's.
        reward_p: p-value of the difference by Holm's method.
        drift: Drift of the path at equal reward.
        drift_ratio: Its ratio to the baseline's.
        drift_p: p-value of the difference of the drifts by Holm's method.
        calls: Reward calls of the path at equal reward.
        calls_ratio: Their ratio to the baseline's.
        beaten: True if another path has a better point for each point of this one.
    """

    reward: "MeanInterval | None"
    reward_difference: "MeanInterval | None"
    reward_p: "float | None"
    drift: "MeanInterval | None"
    drift_ratio: "MeanInterval | None"
    drift_p: "float | None"
    calls: "MeanInterval | None"
    calls_ratio: "MeanInterval | None"
    beaten: bool


@dataclass(frozen=True)
class _Pairs:
    """Values of a path and of the baseline's path by seed; empty unless every common seed has both."""

    own: dict[int, float]
    baseline: dict[int, float]

    @property
    def mean(self) -> "MeanInterval | None":
        return mean_interval(list(self.own.values()))

    @property
    def difference(self) -> "MeanInterval | None":
        return paired_difference(self.own, self.baseline)

    @property
    def ratio(self) -> "MeanInterval | None":
        if not all(value > 0 for value in self.baseline.values()):
            return None
        return mean_interval([value / self.baseline[seed] for seed, value in self.own.items()])


def paths(rows: Sequence[Row]) -> dict[str, Path]:
    """Return the points of each path by seed, the reference's point first.

    Args:
        rows: Rows of ``compare.csv``.
    """
    order = list(dict.fromkeys(row["path"] for row in rows))
    points = {
        (row["path"], row["seed"], row["position"]): Point(
            row["reward"],
            row.get("drift"),
            _calls(row),
            row.get(DISTANCE),
            row.get("internal_diversity"),
            float(row["position"]),
        )
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

    Points without one of the two coordinates are left out.

    Args:
        points: Points of a path.
        by: Coordinate that has the value.
        value: The value.
        what: Coordinate that is returned.
    """
    pairs = [(getattr(point, by), getattr(point, what)) for point in points]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    for (a, c), (b, d) in zip([*known[:1], *known], known, strict=False):
        if min(a, b) <= value <= max(a, b):
            return float(d) if a == b else float(c + (value - a) / (b - a) * (d - c))
    return None


def compare_paths(found: dict[str, Path], baseline: str, higher_is_better: bool = True) -> dict[str, PathComparison]:
    """Return each path compared with the baseline's path, and the paths that are not beaten.

    Args:
        found: Points of each path.
        baseline: Name of the path that the others are compared with.
        higher_is_better: True if a larger reward is better.
    """
    other = found.get(baseline, {})

    def pairs(by: Axis, what: Axis) -> dict[str, _Pairs]:
        return {name: _where_equal(path, other, by, what) for name, path in found.items()}

    rewards, drifts, calls = pairs("drift", "reward"), pairs("reward", "drift"), pairs("reward", "calls")
    reward_p, drift_p = (
        _p_values({name: each for name, each in values.items() if name != baseline}) for values in (rewards, drifts)
    )

    def against(name: str, value: "MeanInterval | None") -> "MeanInterval | None":
        return value if name != baseline else None

    return {
        name: PathComparison(
            reward=rewards[name].mean,
            reward_difference=against(name, rewards[name].difference),
            reward_p=reward_p.get(name),
            drift=drifts[name].mean,
            drift_ratio=against(name, drifts[name].ratio),
            drift_p=drift_p.get(name),
            calls=calls[name].mean,
            calls_ratio=against(name, calls[name].ratio),
            beaten=_is_beaten(name, found, higher_is_better),
        )
        for name in found
    }


def _calls(row: Row) -> float:
    names = ("training_reward_calls", "level_reward_calls", "inference_reward_calls")
    return float(sum(row[name] or 0 for name in names))


def _where_equal(path: Path, baseline: Path, by: Axis, what: Axis) -> _Pairs:
    """Return ``what`` of both paths where they have the same ``by``: that of the end which is nearer to the start.

    Args:
        path: Points of a path.
        baseline: Points of the baseline's path.
        by: Coordinate that is equal.
        what: Coordinate that is returned.
    """
    own, theirs = dict[int, float](), dict[int, float]()
    seeds = [seed for seed in path if seed in baseline]
    for seed in seeds:
        start, *ends = (getattr(point, by) for point in (path[seed][0], path[seed][-1], baseline[seed][-1]))
        if start is None or None in ends:
            continue
        value = min(ends, key=lambda end: abs(end - start))
        a, b = (interpolate_path(points[seed], by, value, what) for points in (path, baseline))
        if a is not None and b is not None:
            own[seed], theirs[seed] = a, b
    return _Pairs(own, theirs) if len(own) == len(seeds) else _Pairs({}, {})


def _p_values(values: dict[str, _Pairs]) -> dict[str, float]:
    """Return the p-value of each path's difference to the baseline by Holm's method, where there is one."""
    raw = {name: paired_p_value(each.own, each.baseline) for name, each in values.items()}
    known = {name: value for name, value in raw.items() if value is not None}
    return dict(zip(known, holm(list(known.values())), strict=True))


def points_by_position(path: Path) -> list[list[Point]]:
    """Return the points of all seeds for each position that every seed has."""
    seeds = [{point.position: point for point in points} for points in path.values()]
    shared = [position for position in seeds[0] if all(position in each for each in seeds)]
    return [[each[position] for each in seeds] for position in shared]


def mean_points(path: Path) -> list[Point]:
    """Return the means over seeds of the points that every seed has."""
    return [mean_point(points) for points in points_by_position(path)]


def mean_point(points: Sequence[Point]) -> Point:
    """Return the mean of points at one position; a coordinate that one of them lacks is None."""

    def mean(by: Axis) -> "float | None":
        values = [getattr(point, by) for point in points]
        return None if None in values else sum(values) / len(values)

    return Point(
        reward=sum(point.reward for point in points) / len(points),
        drift=mean("drift"),
        calls=sum(point.calls for point in points) / len(points),
        distance=mean("distance"),
        diversity=mean("diversity"),
        position=points[0].position,
    )


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
