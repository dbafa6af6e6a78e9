"""The frontier of a comparison: its table, its figure and its section of the page."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graft.commands.compare.frontier import (
    DISTANCE,
    Axis,
    Path,
    PathComparison,
    compare_paths,
    mean_point,
    mean_points,
    paths,
    points_by_position,
)
from graft.commands.compare.rows import Row
from graft.evaluation.confidence import MeanInterval, mean_interval
from graft.report.figures import MARK, hide_spines, series_style, svg_element, to_bytes
from graft.report.tables import format_interval, html_table

LEGEND = (
    "A path is the models after the rounds of a run (with `--path` above 1), or those of one method with several "
    "numbers, from the reference on if it is among the methods. Drift: Fréchet distance of the features to "
    "draws of the reference, with the same conditions. Reward calls: of training, of the choice of a level and of the "
    "samples. Equal drift and equal reward: seed by seed, that of the end of the path or of {baseline}'s path which is "
    "nearer to the start, with straight lines between points; a dash where a path of some seed has no such point. "
    "Difference and ratios: to {baseline} at the same place, paired by seed. ± half of a 95 % t interval over seeds; "
    "p: paired t test of the difference, by Holm's method for all paths of the column. Not beaten: no other path has a "
    "point of at least the reward at no more drift, in the means over seeds. In the figure, bars are half of a 95 % t "
    "interval over seeds, where there are three seeds or more."
)
PANELS: dict[Axis, str] = {
    "drift": "drift: Fréchet distance to draws of the reference",
    "distance": "Fréchet distance to the accepted distribution",
    "diversity": "internal diversity",
    "calls": "reward calls",
}
FLOORS = {"drift": "drift_floor", "distance": f"{DISTANCE}_floor"}
"""Column of the floor of a panel's distance."""
MIN_SEEDS_OF_BARS = 3


@dataclass(frozen=True)
class RenderedFrontier:
    """The paths of the methods, compared and drawn.

    Attributes:
        compared: Comparison of each path with the baseline's.
        head: Head of the table.
        body: Rows of the table.
        png: Figure as a PNG file.
        svg: Figure as an SVG file.
    """

    compared: dict[str, PathComparison]
    head: list[str]
    body: list[list[str]]
    png: bytes
    svg: bytes


def render_frontier(rows: Sequence[Row], about: dict[str, Any]) -> "RenderedFrontier | None":
    """Return the frontier; None if no path has more than one point.

    Args:
        rows: Rows of ``compare.csv``.
        about: Content of ``compare.json``.
    """
    found = paths(rows)
    if all(len(points) < 2 for path in found.values() for points in path.values()):
        return None
    compared = compare_paths(found, about["baseline_path"], about["reward"]["higher_is_better"])
    floors = {
        axis: sum(values) / len(values)
        for axis, column in FLOORS.items()
        if (values := [row[column] for row in rows if row.get(column) is not None])
    }
    png, svg = (_render_figure(found, about, floors, kind) for kind in ("png", "svg"))
    return RenderedFrontier(compared, *frontier_table(compared), png, svg)


def legend(about: dict[str, Any]) -> str:
    """Return the explanation of the frontier's columns."""
    return LEGEND.format(baseline=about["baseline_path"])


def frontier_section(frontier: RenderedFrontier, about: dict[str, Any]) -> str:
    """Return the section of the page as HTML."""
    return (
        f"<h2>Frontier</h2><figure>{svg_element(frontier.svg)}</figure>"
        f"<div style='overflow-x:auto'>{html_table(frontier.body, frontier.head, small=True)}</div>"
        f"<p class='note'>{html.escape(legend(about))}</p>"
    )


def frontier_table(compared: dict[str, PathComparison]) -> tuple[list[str], list[list[str]]]:
    """Return (head, rows) of the table of the frontier."""

    def cell(value: "MeanInterval | None") -> str:
        return "–" if value is None else format_interval(value)

    def p(value: "float | None") -> str:
        return "–" if value is None else f"{value:.2g}"

    head = ["path", "reward at equal drift", "difference", "p", "drift at equal reward", "ratio", "p"]
    head += ["reward calls at equal reward", "ratio", "not beaten"]
    body = [
        [
            *(name, cell(each.reward), cell(each.reward_difference), p(each.reward_p)),
            *(cell(each.drift), cell(each.drift_ratio), p(each.drift_p)),
            *(cell(each.calls), cell(each.calls_ratio), "" if each.beaten else "yes"),
        ]
        for name, each in compared.items()
    ]
    return head, body


def _render_figure(
    found: dict[str, Path], about: dict[str, Any], floors: dict[str, float], kind: 'Literal["png", "svg"]'
) -> bytes:
    """Return a figure of the mean reward against each coordinate of the paths that is known, a line for each path.

    Args:
        found: Points of each path.
        about: Content of ``compare.json``.
        floors: Distance of two sets of draws of one distribution, by panel.
        kind: Format of the file.
    """
    points = [point for path in found.values() for point in mean_points(path)]
    known = [by for by in PANELS if any(getattr(point, by) is not None for point in points)]
    columns = min(2, len(known))
    lines = math.ceil(len(known) / columns)
    figure = Figure(figsize=(5.5 * columns + 2, 4.2 * lines), layout="constrained")
    every = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, by in zip(every.flat, known, strict=False):
        for i, (name, path) in enumerate(found.items()):
            _draw_path(axes, path, by, label=name, **series_style(i))
        if by in floors:
            axes.axvline(
                floors[by], color=MARK, linewidth=1.2, linestyle="--", label="floor: draws of one distribution"
            )
        axes.set_xlabel(PANELS[by], fontsize=9)
        hide_spines(axes)
    for axes in every.flat[len(known) :]:
        axes.set_axis_off()
    for row in every:
        row[0].set_ylabel(about["reward"]["name"], fontsize=9)
    handles, labels = every.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    return to_bytes(figure, kind)


def _draw_path(axes: Axes, path: Path, by: Axis, **style: Any) -> None:
    """Draw the mean points of a path with their intervals."""
    both: tuple[Axis, Axis] = (by, "reward")
    drawn = [points for points in points_by_position(path) if all(getattr(point, by) is not None for point in points)]
    x, y = ([getattr(mean_point(points), axis) for points in drawn] for axis in both)
    bars: list[list[float] | None] = [None, None]
    if drawn and len(path) >= MIN_SEEDS_OF_BARS:
        bars = [[_half_width([getattr(point, axis) for point in points]) for points in drawn] for axis in both]
    axes.errorbar(x, y, xerr=bars[0], yerr=bars[1], **style, markersize=4, linewidth=1.3, elinewidth=0.7)


def _half_width(values: Sequence[float]) -> float:
    found = mean_interval(values)
    return found.half or 0.0 if found is not None else 0.0
