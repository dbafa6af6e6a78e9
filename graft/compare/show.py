"""The comparison to look at: tables for the terminal, a picture, and both on a page that needs no other file."""

import html
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graft import files
from graft import page as pages
from graft.compare.rows import TEXT, Row
from graft.compare.statistics import MeanInterval, mean_interval, paired_difference
from graft.report import format_number

Groups = dict[str, dict[str, Any]]
DISTANCE = "frechet"  # of the picture
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
HIDDEN = {"seed", "n", "reward_std", "failed_rewards", "gain", "distance_n", "rounds", "evaluation_reward_calls", "u"}
SHARES = ("matched_share", "distance_share")  # shown where they are not 1
PER_SAMPLE = ("inference_reward_calls", "inference_denoiser_calls")
LEGEND = (
    "Means over seeds, ± half of a 95 % t interval. Difference: of the gain to {baseline}, paired by seed. Gain: in "
    "reward over the reference with the same noise, each condition with its share of the samples, in the reference's "
    "standard deviations and as a share of the gain of accepted draws. Distances to accepted draws, by features; in "
    "brackets the floor, that of accepted draws to others. All sets that are compared have the same conditions equally "
    "often. Conditions without accepted draws take no part in the share, those without two none in the distances: "
    "matched share and distance share say how many samples are left. "
    "Inference: per sample. Every trained method takes {reward_calls:,} reward calls, {denoiser_calls:,} denoiser "
    "calls in rollouts and {optimizer_steps:,} optimizer steps; one that draws with GRAFT's weights costs what GRAFT "
    "costs, once for all of them, and one that is stopped early what it took up to there."
)


def groups(rows: Sequence[Row], baseline: str) -> Groups:
    """For each line its columns over seeds, and ``difference``, of the gain to the baseline's, paired by seed."""
    out: Groups = {}
    lines = dict.fromkeys(row["line"] for row in rows)
    gains = {
        line: {row["seed"]: row["gain"] for row in rows if row["line"] == line and row["gain"] is not None}
        for line in lines
    }
    for line in lines:
        mine = [row for row in rows if row["line"] == line]
        found: dict[str, MeanInterval | None] = {}
        for name in mine[0]:
            if name not in TEXT and name != "seed":
                found[name] = mean_interval([row[name] for row in mine if row[name] is not None])
        found["difference"] = paired_difference(gains[line], gains[baseline]) if line != baseline else None
        out[line] = {"seeds": [row["seed"] for row in mine], "columns": found, "samples": mine[0]["n"]}
    return out


def tables(found: Groups) -> list[tuple[list[str], list[list[str]]]]:
    """(heading, lines) of the results and of the costs."""
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
        heading = ["method", "seeds", *(name.replace("_", " ") for name in columns)]
        body = [
            [line, str(len(each["seeds"])), *(_cell(name, each) for name in columns)] for line, each in found.items()
        ]
        out.append((heading, body))
    return out


def _cell(name: str, each: dict[str, Any]) -> str:
    value: MeanInterval | None = each["columns"][name]
    if value is None:
        return "–"
    if name in PER_SAMPLE:
        return format_number(value.mean / each["samples"])
    if name in COSTS and not name.endswith("_seconds"):
        return f"{round(value.mean):,}"
    floor: MeanInterval | None = each["columns"].get(f"{name}_floor")
    beside = "" if floor is None else f" ({floor.mean:.3g})"
    return f"{value.mean:.4g}" + (f" ± {value.half:.2g}" if value.half else "") + beside


def table(found: Groups, about: dict[str, Any]) -> str:
    """The comparison as text."""
    out = []
    for heading, body in tables(found):
        wide = [max(len(line[i]) for line in [heading, *body]) for i in range(len(heading))]
        lines = [
            "  ".join(f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(line, wide, strict=True)))
            for line in [heading, *body]
        ]
        out.append("\n".join([lines[0], "-" * len(lines[0]), *lines[1:]]))
    return "\n\n".join([*out, legend(about)])


def legend(about: dict[str, Any]) -> str:
    """What the columns are."""
    return LEGEND.format(baseline=about["baseline"], **about["budget"])


def picture(found: Groups, about: dict[str, Any], kind: str) -> bytes:
    """Reward against the distance to the accepted law and against diversity, ``png`` or ``svg``.

    Where the domain has no features, the rewards alone.
    """
    featured = any(each["columns"].get(DISTANCE) is not None for each in found.values())
    panels = (
        [(DISTANCE, "Fréchet distance to the accepted law"), ("internal_diversity", "internal diversity")]
        if featured
        else [("", "")]
    )
    figure = Figure(figsize=(5.5 * len(panels) + 2, 4.4), layout="constrained")
    reward = about["reward"]["name"] + (f" ({about['reward']['unit']})" if about["reward"]["unit"] else "")
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (name, label) in zip(drawn, panels, strict=True):
        _scatter(axes, found, name)
        axes.axhline(about["law"]["accepted_reward"], color="#e0a030", linewidth=1, linestyle=":", label="accepted law")
        axes.set_xlabel(label, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    drawn[0].set_ylabel(reward, fontsize=9)
    if featured:
        floors = [each["columns"][f"{DISTANCE}_floor"] for each in found.values()]
        floor = next((each.mean for each in floors if each is not None), None)
        if floor is not None:
            drawn[0].axvline(floor, color="#c0392b", linewidth=1.2, linestyle="--", label="floor: the law to itself")
        if "internal_diversity" in about["law"]:
            drawn[1].axvline(about["law"]["internal_diversity"], color="#e0a030", linewidth=1, linestyle=":")
    handles, labels = drawn[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "graft"}):
        figure.savefig(out, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return out.getvalue()


def _scatter(axes: Axes, found: Groups, name: str) -> None:
    """A point with error bars for each line; without ``name`` its place on the axis is its place in the table."""
    colours = matplotlib.colormaps["tab10"]
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
            color=colours(i % 10),
            marker="os^Dv<>Ph*"[i // 10 % 10],
            markersize=6,
            linestyle="none",
            elinewidth=1.1,
            capsize=3,
            label=line,
        )
    if not name:
        axes.set_xticks(range(len(found)), list(found), rotation=30, ha="right", fontsize=8)


def write(folder: Path, rows: Sequence[Row], about: dict[str, Any]) -> Groups:
    """``compare.json``, ``.png``, ``.svg`` and ``.html``."""
    found = groups(rows, about["baseline"])
    plain = {
        line: {
            "seeds": each["seeds"],
            "columns": {k: None if v is None else asdict(v) for k, v in each["columns"].items()},
        }
        for line, each in found.items()
    }
    files.write_bytes(folder / "compare.png", picture(found, about, "png"))
    svg = picture(found, about, "svg")
    files.write_bytes(folder / "compare.svg", svg)
    files.write_text(folder / "compare.html", page(found, rows, about, svg.decode()))
    files.write_json(folder / "compare.json", {**about, "lines": plain, "rows": list(rows)})
    return found


def page(found: Groups, rows: Sequence[Row], about: dict[str, Any], svg: str) -> str:
    """The page."""
    esc = html.escape

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{esc(cell)}</{tag}>" for cell in cells) + "</tr>"

    def shown(heading: Sequence[str], body: Sequence[Sequence[str]]) -> str:
        inside = line(heading, "th") + "".join(line(each, "td") for each in body)
        return f"<div style='overflow-x:auto'><table style='font-size:.8rem'>{inside}</table></div>"

    (results, costs), law = tables(found), about["law"]
    title = f"Methods compared: {about['reward']['name']}"
    cells = [["" if v is None else v if isinstance(v, str) else format_number(v) for v in row.values()] for row in rows]
    methods = "".join(f"<li>{esc(name)}: {esc(what)}</li>" for name, what in about["methods"].items())
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    sections = [
        f"<h1>{esc(title)}</h1><p class='note'>{about['samples']:,} fresh samples for each method and seed, of the "
        f"same noise and conditions. Seeds {', '.join(map(str, about['seeds']))}.</p>",
        f"<figure>{svg[svg.index('<svg') :]}</figure>",
        f"<h2>Results</h2>{shown(*results)}",
        f"<h2>Costs</h2>{shown(*costs)}<p class='note'>{esc(legend(about))}</p>",
        f"<h2>Methods</h2><ul>{methods}</ul>",
        f"<h2>The accepted law</h2><p>{law['count']:,} samples by the rule “{esc(about['rule'])}”, of {law['draws']:,} "
        f"draws of the reference: reward {format_number(law['accepted_reward'])}, {format_number(law['reward'])} "
        "before, each "
        f"condition with its share of the draws; {law['matched_share']:.1%} of these have a condition with accepted "
        f"ones. It took {law['reward_calls']:,} reward calls and {law['denoiser_calls']:,} denoiser calls, which are "
        "no method's.</p>",
        f"<h2>Runs</h2>{shown(list(rows[0]), cells)}",
        f"<h2>Repeat it</h2><pre>{esc(about['command'])}</pre><p class='note'>{esc(versions)}</p>",
    ]
    return pages.page(title, sections)
