"""The frontier of a comparison: its table, its figure and its section of the page."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.figure import Figure

from graft.commands.compare.frontier import Axis, Path, PathComparison, compare_paths, mean_points, paths
from graft.commands.compare.rows import Row
from graft.evaluation.confidence import MeanInterval
from graft.report.figures import MARK, hide_spines, series_style, svg_element, to_bytes
from graft.report.tables import format_interval, html_table

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
    floors = [row["drift_floor"] for row in rows if row.get("drift_floor") is not None]
    floor = sum(floors) / len(floors) if floors else None
    png, svg = (_render_figure(found, about, floor, kind) for kind in ("png", "svg"))
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

    head = ["path", "reward at equal drift", "difference", "p", "drift at equal reward", "difference", "p"]
    head += ["reward calls at equal reward", "not beaten"]
    body = [
        [
            *(name, cell(each.reward), cell(each.reward_difference), p(each.reward_p)),
            *(cell(each.drift), cell(each.drift_difference), p(each.drift_p)),
            *(cell(each.calls), "" if each.beaten else "yes"),
        ]
        for name, each in compared.items()
    ]
    return head, body


def _render_figure(
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
    figure = Figure(figsize=(5.5 * len(panels) + 2, 4.4), layout="constrained")
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (by, label) in zip(every, panels, strict=True):
        for i, (name, path) in enumerate(found.items()):
            points = mean_points(path)
            axes.plot(
                [getattr(point, by) for point in points],
                [point.reward for point in points],
                **series_style(i),
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
