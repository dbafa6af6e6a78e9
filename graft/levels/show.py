"""The comparison of levels to look at: a table for the terminal, a picture, and both as a section of the report."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graft import files
from graft.levels.search import NAME, Analysis, Level
from graft.levels.search_settings import SURVIVING
from graft.levels.statistics import Estimate
from graft.report import COLOURS, format_number

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


def rows(found: Analysis) -> list[tuple[str, ...]]:
    """A row for each level, as `HEAD` says."""
    return [
        (
            format_number(level.level),
            format_number(level.time),
            "∞" if level.log_snr is None else format_number(level.log_snr),
            _cell(level.reward_r2),
            _cell(level.predicted_retention),
            _cell(level.measured_retention),
            "–" if level.score_gap is None else f"{level.score_gap.value:.3g}",  # the picture has its small interval
            format_number(level.trained_fraction),
            f"{level.denoiser_calls:,}",
            f"{level.reward_calls:,}",
        )
        for level in found.levels
    ]


def facts(found: Analysis) -> str:
    """What the comparison took, in a sentence."""
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


def table(found: Analysis) -> str:
    """The comparison as text."""
    body = rows(found)
    wide = [max(len(row[i]) for row in [HEAD, *body]) for i in range(len(HEAD))]
    lines = ["  ".join(f"{cell:>{w}}" for cell, w in zip(row, wide, strict=True)) for row in [HEAD, *body]]
    for i, level in enumerate(found.levels):
        lines[i + 1] += " ⟵" if level.level == found.level else ""
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*lines, "", facts(found), found.reason])


def picture(found: Analysis) -> bytes:
    """The curves over u with their intervals as PNG; below u stand t and log-SNR."""
    levels = found.levels
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, colour, shift in (
        ("reward_r2", COLOURS["reference"], -0.006),
        ("predicted_retention", COLOURS["accepted"], 0.0),
        ("measured_retention", COLOURS["tuned"], 0.006),
    ):
        label = {"reward_r2": "reward decided, ρ²", "predicted_retention": "gain surviving, predicted"}.get(
            name, "gain surviving, re-rolled"
        )
        _curve(left, levels, [getattr(level, name) for level in levels], label, colour, shift)
    left.axhline(SURVIVING, color="#1c2430", linewidth=0.8, linestyle=":")
    left.set_ylim(min(-0.02, left.get_ylim()[0]), max(1.05, left.get_ylim()[1]))
    left.set_ylabel("share" if found.stochastic else "share (1 by definition: the sampler draws no noise)")
    left.legend(frameon=False, fontsize=9)
    _curve(right, levels, [level.score_gap for level in levels], "", COLOURS["tuned"], 0.0)
    right.set_yscale("log")
    right.set_ylabel("to learn: E‖score − score of the prior‖²")
    for axes in (left, right):
        axes.axvline(found.level, color="#c0392b", linewidth=1.2, linestyle="--")
        axes.set_xlim(-0.04, max(level.level for level in levels) + 0.06)
        axes.set_xticks([level.level for level in levels], [_tick(level) for level in levels], fontsize=8)
        axes.set_xlabel("level u, time t, log-SNR (nats); dashed: the level chosen", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130, metadata={"Software": None})
    return out.getvalue()


def write(found: Analysis, folder: Path) -> None:
    """``levels.png`` and, last, ``levels.json``, whose presence says that the level is chosen."""
    files.write_bytes(folder / PICTURE, picture(found))
    found.write(folder)


def section(folder: Path) -> str:
    """The comparison in a run's folder as HTML that needs no other file; empty if there is none."""
    if not (folder / NAME).exists() or not (folder / PICTURE).exists():
        return ""
    found, esc = Analysis.read(folder), html.escape

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{esc(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(
        line([f"{cell} ⟵" if i == 0 and level.level == found.level else cell for i, cell in enumerate(row)], "td")
        for row, level in zip(rows(found), found.levels, strict=True)
    )
    png = base64.b64encode((folder / PICTURE).read_bytes()).decode()
    return (
        f"<h2>Levels</h2><p>{esc(found.reason[0].upper() + found.reason[1:])}.</p>"
        f"<figure><img alt='levels compared' src='data:image/png;base64,{png}'></figure>"
        f"<table style='font-size:.8rem'>{line(HEAD, 'th')}{body}</table>"
        f"<p class='note'>{esc(LEGEND)} {esc(facts(found))}.</p>"
    )


def _cell(value: "Estimate | None") -> str:
    if value is None or value.value != value.value:
        return "–"
    if value.low == value.high:
        return f"{value.value:.2f}"
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _tick(level: Level) -> str:
    snr = "∞" if level.log_snr is None else f"{level.log_snr:.1f}"
    return f"{level.level:.3g}\n{level.time:.2g}\n{snr}"


def _curve(
    axes: Axes,
    levels: Sequence[Level],
    values: "Sequence[Estimate | None]",
    label: str,
    colour: str,
    shift: float,
) -> None:
    """Points with intervals, moved aside by ``shift`` so that intervals at one level can be told apart."""
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
