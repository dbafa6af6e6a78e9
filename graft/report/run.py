"""``report.html`` of a run: the reference against the tuned model, in one file that needs no network."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from graft.io.page import embed_image, repeat_section, write_page
from graft.objectives.reference_error import ErrorRatio
from graft.report.figures import COLOURS, hide_spines, svg_element, to_bytes
from graft.report.tables import format_name, format_number, html_table, text_facts, text_table

HEAD = ("", "reference", "tuned")


def comparison_rows(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the (name, reference, tuned) rows of the comparison."""
    reference, tuned = summary["reference"], summary["tuned"]
    name = summary["reward"]["name"] + (f" ({summary['reward']['unit']})" if summary["reward"]["unit"] else "")
    out = [(name, _mean(reference), _mean(tuned))]
    skip = {"reward", "reward_stderr", "reward_std", "n"}
    for key in tuned:
        if key not in skip and not isinstance(tuned[key], dict):
            out.append((format_name(key), format_number(reference[key]), format_number(tuned[key])))
    out.append(("samples", str(reference["n"]), str(tuned["n"])))
    return out


def _mean(side: dict[str, Any]) -> str:
    """Return the mean reward with its standard error, or a dash for a run without a reward."""
    if side["reward"] is None:
        return format_number(None)
    return f"{format_number(side['reward'])} ± {format_number(side['reward_stderr'])}"


def breakdown_rows(summary: dict[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    """Return the (part, reference, tuned) rows of each metric that gives several numbers."""
    reference, tuned = summary["reference"], summary["tuned"]
    return {
        name: [(part, format_number(reference[name].get(part)), format_number(share)) for part, share in parts.items()]
        for name, parts in tuned.items()
        if isinstance(parts, dict)
    }


def run_facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the (name, value) rows of the run as a whole."""
    std, start = summary["gain"]["in_reference_std"], summary["upper_level"]
    reference_part = f", after the reference from 1 to {start:.4g}" if start < 1 else ""
    return [
        ("method", f"{summary['objective']} at u* = {summary['level']:.4g}{reference_part}"),
        *([("chosen by", summary["levels"]["reason"])] if "levels" in summary else []),
        ("rule", summary["rule"]),
        ("gain, in standard deviations of the reference", format_number(std)),
        *_selection_facts(summary),
        ("reward calls", f"{summary['reward_calls']:,}{_calls_by_term(summary)}"),
        ("denoiser calls", f"{summary['denoiser_calls']:,}"),
        *_alarm_facts(summary),
        ("seconds", format_number(summary["seconds"])),
        ("seed", str(summary["seed"])),
    ]


def _calls_by_term(summary: dict[str, Any]) -> str:
    """Return the calls of each term of the reward in brackets, or "".

    The result is empty if the calls of the terms equal the calls of the reward.
    """
    terms = summary.get("reward_calls_by_term", {})
    differ = len(terms) > 1 or any(calls != summary["reward_calls"] for calls in terms.values())
    return f" ({', '.join(f'{name} {calls:,}' for name, calls in terms.items())})" if differ else ""


def accepted_label(summary: dict[str, Any]) -> str:
    """Return the label of the accepted reward.

    It is the name of the column if the scores of a file are another quantity than the reward.
    """
    if _accepts_by_another_reward(summary):
        return f"accepted {summary['scored_set']['score']} of the file"
    return "accepted reward"


def _accepts_by_another_reward(summary: dict[str, Any]) -> bool:
    """Return True if the scores of a file are another quantity than the reward.

    The gains of the two quantities cannot be compared.
    """
    return "scored_set" in summary and not summary["scored_set"]["is_the_reward"]


def _selection_facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows about the accepted draws and the gain as a share of the accepted gain."""
    if not summary["selective"]:
        text = "none: training takes all draws, good and bad, so there is no accepted gain and no KL divergence"
        return [("accepted distribution", text)]
    share = format_number(summary["gain"]["of_accepted"])
    same_reward = not _accepts_by_another_reward(summary)
    matched = summary["matched_share"]
    return [
        (f"{accepted_label(summary)} (condition-matched)", format_number(summary["accepted_reward"])),
        *([("gain, as a share of the accepted gain", share)] if same_reward else []),
        *([] if matched in (None, 1) else [_matched_fact(matched)]),
        ("acceptance rate of the last round", format_number(summary["acceptance_rate"])),
        ("KL of the accepted distribution, nats, last round", format_number(summary["kl_nats"])),
        *_reference_fact(summary),
    ]


def _reference_fact(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the error of the reference on its own draws, if the first round measured it."""
    error = summary["rounds"][0].get("reference_error")
    if error is None:
        return []
    return [("error of the reference on its own draws, relative to the selection", str(ErrorRatio(**error)))]


def _matched_fact(share: float) -> tuple[str, str]:
    """Return the row with the share of the samples that the accepted gain covers."""
    return "samples with accepted draws of their condition", f"{share:.1%}: the accepted gain is over these samples"


def _alarm_facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    if not summary["monitored"]:
        return [("alarms", "nothing was monitored")]
    names = dict.fromkeys(each["statistic"] for each in summary["monitored"])
    rows = [("alarms", "; ".join(summary["alarms"]) or f"none, of {format_name(', '.join(names))}")]
    if summary["stopped_by_alarm"]:
        restored = summary["restored_round"]
        where = "the start" if restored is None else f"round {restored + 1}"
        rows.append(("stopped by an alarm", f"the weights of {where}"))
    return rows


def run_table(summary: dict[str, Any]) -> str:
    """Return the comparison and the facts of the run as text for the terminal."""
    lines = text_table(HEAD, comparison_rows(summary))
    return "\n".join([*lines, "", *text_facts(run_facts(summary))])


def histogram(rewards: Mapping[str, Sequence[float]], label: str, accepted: Sequence[float] = ()) -> bytes:
    """Return an SVG file with the rewards of the reference, the accepted draws and the model.

    Args:
        rewards: Finite rewards by name of the set; at least one set has some.
        label: Label of the reward's axis.
        accepted: Weights of the accepted rewards; empty for equal weights.
    """
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    all_rewards = [reward for values in rewards.values() for reward in values]
    low, high = min(all_rewards), max(all_rewards)
    bins = [low + (high - low or 1.0) * i / 40 for i in range(41)]
    for name, values in rewards.items():
        counts = accepted if name == "accepted" and accepted else [1.0] * len(values)
        weights = [count / sum(counts) for count in counts]
        axes.hist(values, bins, weights=weights, histtype="stepfilled", alpha=0.25, color=COLOURS[name])
        axes.hist(values, bins, weights=weights, histtype="step", linewidth=1.8, color=COLOURS[name], label=name)
    axes.set_xlabel(label)
    axes.set_ylabel("share")
    axes.legend(frameon=False)
    hide_spines(axes)
    return to_bytes(figure, "svg")


def reference_values(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the reference's values to compare a round's values with, by name.

    Some statistics depend on the number of draws. For monitored statistics the value is therefore that of as many
    draws of the reference as a round's validation has.
    """
    monitored = {each["statistic"]: each["reference"] for each in summary.get("monitored", [])}
    return {**summary["reference"], **monitored}


def curves(points: dict[str, list[tuple[float, float]]], start: dict[str, Any]) -> bytes:
    """Return an SVG file with one small panel for each quantity over the rounds.

    Args:
        points: Points (round, value) by quantity.
        start: Value of the reference by quantity, drawn as a dashed line.
    """
    names = list(points)
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    width, height = 3.2 * columns, 2.3 * lines
    figure = Figure(figsize=(width, height))
    # The margins are in inches. A constrained layout would render everything twice more to find them.
    figure.subplots_adjust(
        left=0.6 / width, right=1 - 0.1 / width, bottom=0.5 / height, top=1 - 0.3 / height, wspace=0.28, hspace=0.55
    )
    for i, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, i + 1)
        x, y = zip(*points[name], strict=True)
        if start.get(name) is not None:
            axes.axhline(start[name], color=COLOURS["reference"], linewidth=1.2, linestyle="--")
        axes.plot(x, y, marker="o", markersize=4, color=COLOURS["tuned"])
        axes.set_title(format_name(name), fontsize=10)
        axes.set_xlabel("round", fontsize=9)
        axes.set_xlim(-0.1 * max(x), 1.1 * max(x))
        if max(y) - min(y) < 1e-6 * max(map(abs, y)):  # the values differ by rounding alone
            axes.set_ylim(*sorted((0.9 * y[0], 1.1 * y[0])))
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        axes.tick_params(labelsize=8)
        hide_spines(axes)
    return to_bytes(figure, "svg")


def write_report(
    path: Path,
    summary: dict[str, Any],
    title: str,
    command: str,
    rewards: Mapping[str, Sequence[float]],
    over_rounds: dict[str, list[tuple[float, float]]],
    pictures: "dict[str, bytes]",
    levels: str = "",
    hits: str = "",
    weights: Sequence[float] = (),
) -> None:
    """Write ``report.html``.

    Args:
        path: Path of the file.
        summary: Content of ``summary.json``.
        title: Heading of the page.
        command: Command that repeats the run.
        rewards: Rewards of the reference, the accepted draws and the tuned model, by name.
        over_rounds: Points (round, value) by quantity.
        pictures: PNG images of the samples of the reference and of the tuned model, by name.
        levels: HTML section of the comparison of levels; empty if there is none.
        hits: HTML section of the best samples; empty if there is none.
        weights: Weights of the accepted rewards, so that each condition has its share of the draws; empty for equal
            weights.
    """
    images = "".join(embed_image(png, f"samples of the {name}", name) for name, png in pictures.items())
    label = summary["reward"]["name"] + (f" / {summary['reward']['unit']}" if summary["reward"]["unit"] else "")
    failed = "".join(
        f"<li>round {each['round'] + 1}: {count} × {html.escape(why)}</li>"
        for each in summary["rounds"]
        for why, count in each["failures"].items()
    )
    distribution = svg_element(histogram(rewards, label, weights)) if any(rewards.values()) else ""
    curve = svg_element(curves(over_rounds, reference_values(summary))) if over_rounds else ""
    sections = [
        f"<h1>{html.escape(title)}</h1><p class='note'>Reference against tuned: fresh samples of the same noise.</p>",
        html_table(comparison_rows(summary), HEAD),
        f"<h2>The run</h2>{html_table(run_facts(summary))}",
        f"<h2>Reward</h2>{distribution}" if distribution else "",
        f"<h2>Over the rounds</h2>{curve}" if curve else "",
        levels,
        f"<h2>Samples</h2><p class='note'>The same noise in the same place.</p>{images}" if images else "",
        hits,
        *(
            f"<h2>{html.escape(format_name(name))}</h2>{html_table(rows, HEAD)}"
            for name, rows in breakdown_rows(summary).items()
        ),
        f"<h2>Rewards that failed</h2><ul>{failed}</ul>" if failed else "",
        repeat_section(command, summary["versions"]),
    ]
    write_page(path, title, sections)
