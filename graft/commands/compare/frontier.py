"""Reward against drift and against reward calls, along the path of every method; which methods no other beats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure

from graft.commands.compare.rows import Row
from graft.evaluation.confidence import MeanInterval, holm, mean_interval, paired_difference, paired_p_value
from graft.report.figures import MARK, hide_spines, to_bytes

Axis = Literal["reward", "drift", "calls"]
START = "reference"
"""Line of the samples that all paths start at."""
LEGEND = (
    "A path is the models after the rounds of a run, from the reference on (if `reference` is among the methods and "
    "`--path` is above 1), or those of one method with several numbers. Drift: Fréchet distance of the features to "
    "draws of the reference, with the same conditions. Reward calls: of training, of the choice of a level and of the "
    "samples. At equal drift or reward: where the path, with straight lines between its points, first has the drift or "
    "the reward of the last point of {baseline}, seed by seed; a dash where a path of some seed does not get there. "
    "± half of a 95 % t interval over seeds; p: paired t test of the difference to {baseline}, by Holm's method for "
    "all paths of the column. Not beaten: no other path has a point of at least the reward at no more drift, in the "
    "means over seeds."
)


@dataclass(frozen=True)
class Point:
    """A model on a path.

    Attributes:
        reward: Mean reward, with its sign such that larger is better.
        drift: Distance to draws of the reference; None if the domain has no features.
        calls: Number of reward calls until then.
    """

    reward: float
    drift: "float | None"
    calls: float


Path = dict[int, list[Point]]
"""The points of a path by seed, in the order of the path."""


@dataclass(frozen=True)
class Comparison:
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


def paths(rows: Sequence[Row], higher_is_better: bool) -> dict[str, Path]:
    """Return the points of each path by seed, the reference's point first.

    Args:
        rows: Rows of ``compare.csv``.
        higher_is_better: True if a larger reward is better.
    """
    sign = 1.0 if higher_is_better else -1.0
    order = list(dict.fromkeys(row["path"] for row in rows))
    points = {
        (row["path"], row["seed"], row["position"]): Point(sign * row["reward"], row.get("drift"), _calls(row))
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


def at(points: Sequence[Point], by: Axis, value: float, what: Axis) -> "float | None":
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


def compare(found: dict[str, Path], baseline: str) -> dict[str, Comparison]:
    """Return each path compared with the last point of the baseline's path, and the paths that are not beaten.

    Args:
        found: Points of each path.
        baseline: Name of the path that the others are compared with.
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
        name: Comparison(
            reward=mean(name, rewards[name]),
            reward_difference=difference(name, rewards[name], own_reward),
            reward_p=reward_p.get(name),
            drift=mean(name, drifts[name]),
            drift_difference=difference(name, drifts[name], own_drift),
            drift_p=drift_p.get(name),
            calls=mean(name, _at_each(found[name], last, "reward", "calls")),
            beaten=_is_beaten(name, found),
        )
        for name in found
    }


def table(compared: dict[str, Comparison], higher_is_better: bool) -> tuple[list[str], list[list[str]]]:
    """Return (head, rows) of the table of the frontier."""
    sign = 1.0 if higher_is_better else -1.0

    def cell(value: "MeanInterval | None", by: float = 1.0) -> str:
        if value is None:
            return "–"
        return f"{by * value.mean:.4g}" + (f" ± {value.half:.2g}" if value.half else "")

    def p(value: "float | None") -> str:
        return "–" if value is None else f"{value:.2g}"

    head = ["path", "reward at equal drift", "difference", "p", "drift at equal reward", "difference", "p"]
    head += ["reward calls at equal reward", "not beaten"]
    body = [
        [
            *(name, cell(each.reward, sign), cell(each.reward_difference, sign), p(each.reward_p)),
            *(cell(each.drift), cell(each.drift_difference), p(each.drift_p)),
            *(cell(each.calls), "" if each.beaten else "yes"),
        ]
        for name, each in compared.items()
    ]
    return head, body


def render_figure(
    found: dict[str, Path], about: dict[str, Any], floor: "float | None", kind: 'Literal["png", "svg"]'
) -> bytes:
    """Return a figure of the mean reward against drift and against reward calls, a line for each path.

    Args:
        found: Points of each path.
        about: Content of ``compare.json``.
        floor: Distance of draws of the reference to others; None if the domain has no features.
        kind: Format of the file.
    """
    panels: list[tuple[Axis, str]] = [("calls", "reward calls")]
    if floor is not None:
        panels.insert(0, ("drift", "drift: Fréchet distance to draws of the reference"))
    sign = 1.0 if about["reward"]["higher_is_better"] else -1.0
    figure = Figure(figsize=(5.5 * len(panels) + 2, 4.4), layout="constrained")
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    colours = matplotlib.colormaps["tab10"]
    for axes, (by, label) in zip(every, panels, strict=True):
        for i, (name, path) in enumerate(found.items()):
            points = _means(path)
            axes.plot(
                [getattr(point, by) for point in points],
                [sign * point.reward for point in points],
                color=colours(i % 10),
                marker="os^Dv<>Ph*"[i // 10 % 10],
                markersize=5,
                linewidth=1.3,
                label=name,
            )
        axes.set_xlabel(label, fontsize=9)
        hide_spines(axes)
    if floor is not None:
        every[0].axvline(floor, color=MARK, linewidth=1.2, linestyle="--", label="floor: draws of the reference")
    every[0].set_ylabel(about["reward"]["name"], fontsize=9)
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    return to_bytes(figure, kind)


def _calls(row: Row) -> float:
    names = ("training_reward_calls", "level_reward_calls", "inference_reward_calls")
    return float(sum(row[name] or 0 for name in names))


def _at_each(path: Path, last: dict[int, Point], by: Axis, what: Axis) -> dict[int, float]:
    """Return ``what`` by seed, for the seeds in which the path gets to the baseline's ``by``."""
    wanted = {seed: getattr(last[seed], by) for seed in path if seed in last}
    values = {seed: at(path[seed], by, value, what) for seed, value in wanted.items() if value is not None}
    return {seed: value for seed, value in values.items() if value is not None}


def _p_values(values: dict[str, dict[int, float]], own: dict[int, float]) -> dict[str, float]:
    """Return the p-value of each path's difference to the baseline by Holm's method, where there is one."""
    raw = {name: paired_p_value(each, own) for name, each in values.items()}
    known = {name: value for name, value in raw.items() if value is not None}
    return dict(zip(known, holm(list(known.values())), strict=True))


def _means(path: Path) -> list[Point]:
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


def _is_beaten(name: str, found: dict[str, Path]) -> bool:
    """Return True if every point of a path has a better one on another path; reward calls stand for a missing drift.

    The reference, which took no reward calls, is a point of every path and does not count.
    """
    others = [point for other, path in found.items() if other != name for point in _means(path) if point.calls]
    return all(any(_beats(other, point) for other in others) for point in _means(found[name]) if point.calls)


def _beats(a: Point, b: Point) -> bool:
    cost_a, cost_b = (a.calls, b.calls) if a.drift is None or b.drift is None else (a.drift, b.drift)
    return a.reward >= b.reward and cost_a <= cost_b and (a.reward, cost_a) != (b.reward, cost_b)
