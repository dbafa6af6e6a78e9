"""The comparison of levels as a table for the terminal, a figure, and a section of the report."""

import html
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graft.commands.levels.results import NAME, Analysis, Level
from graft.commands.levels.statistics import Estimate
from graft.io.atomic import write_bytes
from graft.io.page import embed_image
from graft.report.figures import COLOURS, MARK, hide_spines, to_bytes
from graft.report.tables import format_number, html_table, text_table
from graft.rollouts.settings import MIN_RETENTION

PICTURE = "levels.png"
HEAD = (
    "u",
    "t",
    "log-SNR",
    "decided",
    "survives: predicted",
    "re-rolled",
    "to learn",
    "to train",
    "denoiser calls",
    "reward calls",
)
LEGEND = (
    "decided: share of the reward's variance that the state at u has decided; survives: share of the accepted gain "
    "that a hand-over at u keeps, predicted from the estimate of the sample at u, and measured on accepted states "
    "re-rolled from u by the reference; to learn: squared distance of the score at u from the prior's; to train: "
    "share of the levels. In brackets: 95 % intervals, by bootstrap of the draws; ⟵ is the level chosen."
)


def level_rows(found: Analysis) -> list[tuple[str, ...]]:
    """Return the table's row of each level, with the columns of `HEAD`."""
    return [
        (
            format_number(level.level),
            format_number(level.time),
            "∞" if level.log_snr is None else format_number(level.log_snr),
            _format_estimate(level.reward_r2),
            _format_estimate(level.predicted_retention),
            _format_estimate(level.measured_retention),
            # The figure shows the interval of this column, which is small.
            "–" if level.score_gap is None else f"{level.score_gap.value:.3g}",
            format_number(level.trained_fraction),
            f"{level.denoiser_calls:,}",
            f"{level.reward_calls:,}",
        )
        for level in found.levels
    ]


def run_facts(found: Analysis) -> str:
    """Return one sentence on the cost of the comparison."""
    accepted = (
        f", {found.accepted} accepted ({found.rule}), {found.resampled} re-rolled from each level"
        if found.accepted
        else ""
    )
    failed = f", {found.failed_rewards} of which failed" if found.failed_rewards else ""
    return (
        f"{found.draws} draws of the reference{accepted}: {found.denoiser_calls:,} denoiser calls, "
        f"{found.reward_calls:,} reward calls{failed}"
    )


def levels_table(found: Analysis) -> str:
    """Return the comparison as text; an arrow marks the chosen level."""
    head, rule, *body = text_table(HEAD, level_rows(found), left=0)
    marked = [
        line + (" ⟵" if level.level == found.level else "") for line, level in zip(body, found.levels, strict=True)
    ]
    return "\n".join([head, rule, *marked, "", run_facts(found), found.reason])


def render_figure(found: Analysis) -> bytes:
    """Return a PNG of the curves over u with their intervals.

    The ticks give u, t and the log-SNR.
    """
    levels = found.levels
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, label, colour, shift in (
        ("reward_r2", "reward decided, ρ²", COLOURS["reference"], -0.006),
        ("predicted_retention", "gain surviving, predicted", COLOURS["accepted"], 0.0),
        ("measured_retention", "gain surviving, re-rolled", COLOURS["tuned"], 0.006),
    ):
        _plot_estimates(left, levels, [getattr(level, name) for level in levels], label, colour, shift)
    left.axhline(MIN_RETENTION, color="#1c2430", linewidth=0.8, linestyle=":")
    left.set_ylim(min(-0.02, left.get_ylim()[0]), max(1.05, left.get_ylim()[1]))
    left.set_ylabel("share" if found.stochastic else "share (1 by definition: the sampler draws no noise)")
    left.legend(frameon=False, fontsize=9)
    _plot_estimates(right, levels, [level.score_gap for level in levels], "", COLOURS["tuned"], 0.0)
    right.set_yscale("log")
    right.set_ylabel("to learn: E‖score − score of the prior‖²")
    for axes in (left, right):
        axes.axvline(found.level, color=MARK, linewidth=1.2, linestyle="--")
        axes.set_xlim(-0.04, max(level.level for level in levels) + 0.06)
        axes.set_xticks([level.level for level in levels], [_tick(level) for level in levels], fontsize=8)
        axes.set_xlabel("level u, time t, log-SNR (nats); dashed: the level chosen", fontsize=9)
        hide_spines(axes)
    return to_bytes(figure)


def write_levels(found: Analysis, folder: Path) -> None:
    """Write ``levels.png`` and then ``levels.json``.

    A folder with ``levels.json`` has a chosen level.
    """
    write_bytes(folder / PICTURE, render_figure(found))
    found.write(folder)


def levels_section(folder: Path) -> str:
    """Return the comparison in a run's folder as an HTML section, or "" if there is none."""
    if not (folder / NAME).exists() or not (folder / PICTURE).exists():
        return ""
    found = Analysis.read(folder)
    body = [
        (f"{u} ⟵" if level.level == found.level else u, *cells)
        for (u, *cells), level in zip(level_rows(found), found.levels, strict=True)
    ]
    return (
        f"<h2>Levels</h2><p>{html.escape(found.reason[0].upper() + found.reason[1:])}.</p>"
        f"{embed_image((folder / PICTURE).read_bytes(), 'levels compared')}{html_table(body, HEAD, small=True)}"
        f"<p class='note'>{html.escape(LEGEND)} {html.escape(run_facts(found))}.</p>"
    )


def _format_estimate(value: "Estimate | None") -> str:
    if value is None or value.value != value.value:
        return "–"
    if value.low == value.high:
        return f"{value.value:.2f}"
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _tick(level: Level) -> str:
    snr = "∞" if level.log_snr is None else f"{level.log_snr:.1f}"
    return f"{level.level:.3g}\n{level.time:.2g}\n{snr}"


def _plot_estimates(
    axes: Axes,
    levels: Sequence[Level],
    values: "Sequence[Estimate | None]",
    label: str,
    colour: str,
    shift: float,
) -> None:
    """Plot estimates with intervals.

    The shift along u keeps the intervals of several curves apart.
    """
    shown = [(level.level + shift, value) for level, value in zip(levels, values, strict=True) if value is not None]
    shown = [(u, value) for u, value in shown if value.value == value.value]
    if not shown:
        return
    below = [max(0.0, value.value - value.low) if value.low == value.low else 0.0 for _, value in shown]
    above = [max(0.0, value.high - value.value) if value.high == value.high else 0.0 for _, value in shown]
    axes.errorbar(
        [u for u, _ in shown],
        [value.value for _, value in shown],
        [below, above],
        color=colour,
        marker="o",
        markersize=4,
        linewidth=1.6,
        elinewidth=1.2,
        capsize=3,
        label=label,
    )
