"""The comparison of methods: tables for the terminal, a figure, and a page that needs no other file."""

import html
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graft.commands.compare import show_frontier
from graft.commands.compare.frontier import DISTANCE
from graft.commands.compare.rows import TEXT, Row
from graft.evaluation.confidence import MeanInterval, mean_interval, paired_difference
from graft.io.atomic import write_bytes
from graft.io.json_files import write_json
from graft.io.page import repeat_section, write_page
from graft.report.figures import COLOURS, MARK, hide_spines, series_style, svg_element, to_bytes
from graft.report.tables import format_interval, format_name, format_number, html_table, text_table

Groups = dict[str, dict[str, Any]]
RESULTS = ("reward", "difference", "gain_in_reference_std", "gain_of_accepted")
COSTS = (
    "training_reward_calls",
    "rollout_denoiser_calls",
    "optimizer_steps",
    "training_network_evaluations",
    "inference_reward_calls",
    "inference_denoiser_calls",
    "level_reward_calls",
    "level_denoiser_calls",
    "training_seconds",
    "inference_seconds",
)
HIDDEN = {
    "seed",
    "position",
    "n",
    "reward_std",
    "failed_rewards",
    "gain",
    "distance_n",
    "rounds",
    "evaluation_reward_calls",
    "u",
}
SHARES = ("matched_share", "distance_share")
"""Columns that the tables show only if a value differs from 1."""
PER_SAMPLE = ("inference_reward_calls", "inference_denoiser_calls")
LEGEND = (
    "Means over seeds, ± half of a 95 % t interval. Difference: of the gain to {baseline}, paired by seed. Gain: in "
    "reward over the reference with the same noise, each condition with its share of the samples, in the reference's "
    "standard deviations and as a share of the gain of accepted draws. Distances to accepted draws, by features; in "
    "brackets the floor, that of accepted draws to others. All sets that are compared have the same conditions equally "
    "often. Conditions without accepted draws take no part in the share, those without two none in the distances: "
    "matched share and distance share say how many samples are left. "
    "Inference: per sample. Every trained method takes {reward_calls:,} reward calls, {denoiser_calls:,} denoiser "
    "calls in rollouts (fewer where samples share their first steps) and {optimizer_steps:,} optimizer steps. All "
    "methods that sample with GRAFT's weights share the cost of one GRAFT run. A method that is stopped early has the "
    "cost up to that round."
)


def group_rows(rows: Sequence[Row], baseline: str) -> Groups:
    """Return the seeds, the number of samples and the means over seeds, by line.

    The column ``difference`` is the difference of the gain to the baseline's gain, paired by seed.

    Args:
        rows: Rows of ``compare.csv``.
        baseline: Label of the baseline's line.
    """
    out: Groups = {}
    lines = dict.fromkeys(row["line"] for row in rows)
    gains = {
        line: {row["seed"]: row["gain"] for row in rows if row["line"] == line and row["gain"] is not None}
        for line in lines
    }
    for line in lines:
        own_rows = [row for row in rows if row["line"] == line]
        columns: dict[str, MeanInterval | None] = {}
        for name in own_rows[0]:
            if name not in TEXT and name != "seed":
                columns[name] = mean_interval([row[name] for row in own_rows if row[name] is not None])
        columns["difference"] = paired_difference(gains[line], gains[baseline]) if line != baseline else None
        out[line] = {"seeds": [row["seed"] for row in own_rows], "columns": columns, "samples": own_rows[0]["n"]}
    return out


def tables(found: Groups) -> list[tuple[list[str], list[list[str]]]]:
    """Return (head, rows) of the table of results and of the table of costs."""
    names = list(next(iter(found.values()))["columns"])
    hidden = {*HIDDEN, *RESULTS, *COSTS}
    for name in SHARES:
        shares = [each["columns"].get(name) for each in found.values()]
        hidden |= {name} if all(share is None or share.mean == 1 for share in shares) else set()
    metrics = [n for n in names if n not in hidden and not n.endswith(("_stderr", "_floor"))]
    shown = [*RESULTS, *metrics]
    if all(each["columns"]["difference"] is None for each in found.values()):
        shown.remove("difference")
    costs = [n for n in COSTS if any(each["columns"][n] is None or each["columns"][n].mean for each in found.values())]
    out = []
    for columns in (shown, costs):
        head = ["method", "seeds", *(format_name(name) for name in columns)]
        body = [
            [line, str(len(each["seeds"])), *(_format_cell(name, each) for name in columns)]
            for line, each in found.items()
        ]
        out.append((head, body))
    return out


def _format_cell(name: str, each: dict[str, Any]) -> str:
    value: MeanInterval | None = each["columns"][name]
    if value is None:
        return "–"
    if name in PER_SAMPLE:
        return format_number(value.mean / each["samples"])
    if name in COSTS and not name.endswith("_seconds"):
        return f"{round(value.mean):,}"
    floor: MeanInterval | None = each["columns"].get(f"{name}_floor")
    in_brackets = "" if floor is None else f" ({floor.mean:.3g})"
    return format_interval(value) + in_brackets


def comparison_table(found: Groups, frontier: "show_frontier.RenderedFrontier | None", about: dict[str, Any]) -> str:
    """Return the results, the costs, the frontier and their legends as text."""
    parts = ["\n".join(text_table(head, body)) for head, body in tables(found)]
    if frontier is not None:
        parts += ["\n".join(text_table(frontier.head, frontier.body)), show_frontier.legend(about)]
    return "\n\n".join([*parts, legend(about)])


def legend(about: dict[str, Any]) -> str:
    """Return the explanation of the columns."""
    return LEGEND.format(baseline=about["baseline"], **about["budget"])


def render_figure(found: Groups, about: dict[str, Any], kind: 'Literal["png", "svg"]') -> bytes:
    """Return a figure of the reward against the distance to the accepted distribution and against diversity.

    If the domain has no features, the figure shows the rewards alone.

    Args:
        found: Means over seeds by line.
        about: Content of ``compare.json``.
        kind: Format of the file.
    """
    featured = any(each["columns"].get(DISTANCE) is not None for each in found.values())
    panels = (
        [(DISTANCE, "Fréchet distance to the accepted distribution"), ("internal_diversity", "internal diversity")]
        if featured
        else [("", "")]
    )
    accepted = COLOURS["accepted"]
    figure = Figure(figsize=(5.5 * len(panels) + 2, 4.4), layout="constrained")
    reward = about["reward"]["name"] + (f" ({about['reward']['unit']})" if about["reward"]["unit"] else "")
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (name, label) in zip(every, panels, strict=True):
        _scatter(axes, found, name)
        level = about["accepted_distribution"]["accepted_reward"]
        axes.axhline(level, color=accepted, linewidth=1, linestyle=":", label="accepted distribution")
        axes.set_xlabel(label, fontsize=9)
        hide_spines(axes)
    every[0].set_ylabel(reward, fontsize=9)
    if featured:
        floors = [each["columns"][f"{DISTANCE}_floor"] for each in found.values()]
        floor = next((each.mean for each in floors if each is not None), None)
        if floor is not None:
            label = "floor: two halves of the accepted samples"
            every[0].axvline(floor, color=MARK, linewidth=1.2, linestyle="--", label=label)
        if "internal_diversity" in about["accepted_distribution"]:
            every[1].axvline(
                about["accepted_distribution"]["internal_diversity"], color=accepted, linewidth=1, linestyle=":"
            )
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    return to_bytes(figure, kind)


def _scatter(axes: Axes, found: Groups, name: str) -> None:
    """Plot a point with error bars for each line.

    Without ``name``, x is the position of the line in the table.
    """
    for i, (line, each) in enumerate(found.items()):
        x: MeanInterval | None = each["columns"].get(name) if name else MeanInterval(float(i), None, 1)
        y: MeanInterval | None = each["columns"]["reward"]
        if x is None or y is None:
            continue
        axes.errorbar(
            [x.mean],
            [y.mean],
            xerr=None if x.half is None else [x.half],
            yerr=None if y.half is None else [y.half],
            **series_style(i),
            markersize=6,
            linestyle="none",
            elinewidth=1.1,
            capsize=3,
            label=line,
        )
    if not name:
        axes.set_xticks(range(len(found)), list(found), rotation=30, ha="right", fontsize=8)


def write_comparison(
    folder: Path, rows: Sequence[Row], about: dict[str, Any]
) -> tuple[Groups, "show_frontier.RenderedFrontier | None"]:
    """Write ``compare.png``, ``.svg``, ``.html`` and ``.json``, and ``frontier.png`` and ``.svg`` if there are paths.

    Returns:
        The means by line, without the earlier rounds of runs, and the frontier.

    Args:
        folder: Folder of the comparison.
        rows: Rows of ``compare.csv`` to show.
        about: Further content of ``compare.json``.
    """
    every = group_rows(rows, about["baseline"])
    found = {line: each for line, each in every.items() if line not in about["earlier"]}
    frontier = show_frontier.render_frontier(rows, about)
    plain = {
        line: {
            "seeds": each["seeds"],
            "columns": {k: None if v is None else asdict(v) for k, v in each["columns"].items()},
        }
        for line, each in every.items()
    }
    write_bytes(folder / "compare.png", render_figure(found, about, "png"))
    svg = render_figure(found, about, "svg")
    write_bytes(folder / "compare.svg", svg)
    if frontier is not None:
        write_bytes(folder / "frontier.png", frontier.png)
        write_bytes(folder / "frontier.svg", frontier.svg)
    _write_page(folder / "compare.html", found, frontier, rows, about, svg)
    compared = {} if frontier is None else {name: asdict(each) for name, each in frontier.compared.items()}
    write_json(folder / "compare.json", {**about, "lines": plain, "frontier": compared, "rows": list(rows)})
    return found, frontier


def _write_page(
    path: Path,
    found: Groups,
    frontier: "show_frontier.RenderedFrontier | None",
    rows: Sequence[Row],
    about: dict[str, Any],
    svg: bytes,
) -> None:
    def scrolled(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
        return f"<div style='overflow-x:auto'>{html_table(body, head, small=True)}</div>"

    (results, costs), accepted = tables(found), about["accepted_distribution"]
    title = f"Methods compared: {about['reward']['name']}"
    cells = [["" if v is None else v if isinstance(v, str) else format_number(v) for v in row.values()] for row in rows]
    methods = "".join(f"<li>{html.escape(name)}: {html.escape(what)}</li>" for name, what in about["methods"].items())
    sections = [
        f"<h1>{html.escape(title)}</h1><p class='note'>{about['samples']:,} fresh samples for each method and seed, "
        f"of the same noise and conditions. Seeds {', '.join(map(str, about['seeds']))}.</p>",
        f"<figure>{svg_element(svg)}</figure>",
        f"<h2>Results</h2>{scrolled(*results)}",
        f"<h2>Costs</h2>{scrolled(*costs)}<p class='note'>{html.escape(legend(about))}</p>",
        "" if frontier is None else show_frontier.frontier_section(frontier, about),
        f"<h2>Methods</h2><ul>{methods}</ul>",
        f"<h2>The accepted distribution</h2><p>{accepted['count']:,} samples by the rule "
        f"“{html.escape(about['rule'])}”, of {accepted['draws']:,} draws of the reference. The mean reward is "
        f"{format_number(accepted['accepted_reward'])}, and {format_number(accepted['reward'])} before acceptance, "
        f"each condition with its share of the draws; {accepted['matched_share']:.1%} of the draws have a condition "
        f"with accepted draws. The samples took {accepted['reward_calls']:,} reward calls and "
        f"{accepted['denoiser_calls']:,} denoiser calls, which count for no method.</p>",
        f"<h2>Runs</h2>{scrolled(list(rows[0]), cells)}",
        repeat_section(about["command"], about["versions"]),
    ]
    write_page(path, title, sections)
