"""report.html: what changed, to look at; one file that needs no network."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from graft import page

COLOURS = {"reference": "#8793a3", "accepted": "#e0a030", "tuned": "#2a6fbb"}


def comparison_rows(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, reference, tuned) of the comparison, as shown in the terminal and in the report."""
    reference, tuned = summary["reference"], summary["tuned"]
    name = summary["reward"]["name"] + (f" ({summary['reward']['unit']})" if summary["reward"]["unit"] else "")
    out = [
        (
            name,
            *(
                f"{format_number(side['reward'])} ± {format_number(side['reward_stderr'])}"
                for side in (reference, tuned)
            ),
        )
    ]
    skip = {"reward", "reward_stderr", "reward_std", "n"}
    for key in tuned:
        if key not in skip and not isinstance(tuned[key], dict):
            out.append((key.replace("_", " "), format_number(reference[key]), format_number(tuned[key])))
    out.append(("samples", str(reference["n"]), str(tuned["n"])))
    return out


def breakdown_rows(summary: dict[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    """(part, reference, tuned) of each metric that gives several numbers."""
    reference, tuned = summary["reference"], summary["tuned"]
    return {
        name: [(part, format_number(reference[name].get(part)), format_number(share)) for part, share in parts.items()]
        for name, parts in tuned.items()
        if isinstance(parts, dict)
    }


def run_facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, value) of the run as a whole."""
    std, start = summary["gain"]["in_reference_std"], summary["start"]
    taken_over = f", after the reference from 1 to {start:.4g}" if start < 1 else ""
    return [
        ("method", f"{summary['objective']} at u* = {summary['level']:.4g}{taken_over}"),
        *([("chosen by", summary["levels"]["reason"])] if "levels" in summary else []),
        ("rule", summary["rule"]),
        ("gain, in standard deviations of the reference", format_number(std)),
        *_selection(summary),
        ("reward calls", f"{summary['reward_calls']:,}{_terms(summary)}"),
        ("denoiser calls", f"{summary['denoiser_calls']:,}"),
        *_alarms(summary),
        ("seconds", format_number(summary["seconds"])),
        ("seed", str(summary["seed"])),
    ]


def _terms(summary: dict[str, Any]) -> str:
    """The calls of each reward that the reward is made of, where they differ from those of the whole."""
    terms = summary.get("reward_calls_by_term", {})
    apart = len(terms) > 1 or any(calls != summary["reward_calls"] for calls in terms.values())
    return f" ({', '.join(f'{name} {calls:,}' for name, calls in terms.items())})" if apart else ""


def accepted_label(summary: dict[str, Any]) -> str:
    """What the accepted reward is called: by its column where a file's scores are another quantity than the reward."""
    return f"accepted {summary['scored_set']['score']} of the file" if _apart(summary) else "accepted reward"


def _apart(summary: dict[str, Any]) -> bool:
    """A file's scores are accepted by, and samples are judged by another reward: no gain is a share of the other."""
    return "scored_set" in summary and not summary["scored_set"]["is_the_reward"]


def _selection(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What was accepted, and how the gain compares with that; in a sentence why there is no such thing."""
    if not summary["selective"]:
        return [("accepted law", "none: all draws are learned from, good and bad, so there is no gain or KL of one")]
    share = format_number(summary["gain"]["of_accepted"])
    return [
        (f"{accepted_label(summary)} (condition-matched)", format_number(summary["accepted_reward"])),
        *([] if _apart(summary) else [("gain, as a share of the accepted gain", share)]),
        *([] if summary["matched_share"] in (None, 1) else [_covered(summary)]),
        ("acceptance rate of the last round", format_number(summary["acceptance_rate"])),
        ("KL of the accepted law, nats, last round", format_number(summary["kl_nats"])),
    ]


def _covered(summary: dict[str, Any]) -> tuple[str, str]:
    """Return how much of the samples the share of the accepted gain is of."""
    return "samples whose condition has accepted draws", f"{summary['matched_share']:.1%}: the accepted gain is theirs"


def _alarms(summary: dict[str, Any]) -> list[tuple[str, str]]:
    if not summary["monitored"]:
        return [("alarms", "nothing was watched")]
    names = dict.fromkeys(each["statistic"] for each in summary["monitored"])
    said = [("alarms", "; ".join(summary["alarms"]) or f"none, of {', '.join(names).replace('_', ' ')}")]
    if summary["stopped_by_alarm"]:
        kept = summary["restored_round"]
        said.append(("stopped by an alarm", f"the weights of {'the start' if kept is None else f'round {kept + 1}'}"))
    return said


def table(summary: dict[str, Any]) -> str:
    """The comparison as text."""
    head = ("", "reference", "tuned")
    body = comparison_rows(summary)
    wide = [max(len(row[i]) for row in [head, *body]) for i in range(3)]
    lines = [f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:>{wide[2]}}" for a, b, c in [head, *body]]
    lines.insert(1, "-" * (sum(wide) + 4))
    names = max(len(name) for name, _ in run_facts(summary))
    return "\n".join([*lines, "", *(f"{name:<{names}}  {value}" for name, value in run_facts(summary))])


def format_number(value: "float | None") -> str:
    """Four significant digits; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) >= 10 else f"{value:.4g}"


def histogram(rewards: Mapping[str, Sequence[float]], label: str, accepted: Sequence[float] = ()) -> bytes:
    """Reward histograms of reference, accepted and tuned as SVG; ``accepted`` are the weights of the accepted ones."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    everything = [r for values in rewards.values() for r in values]
    low, high = min(everything), max(everything)
    bins = [low + (high - low or 1.0) * i / 40 for i in range(41)]
    for name, values in rewards.items():
        counts = accepted if name == "accepted" and accepted else [1.0] * len(values)
        weights = [count / sum(counts) for count in counts]
        axes.hist(values, bins, weights=weights, histtype="stepfilled", alpha=0.25, color=COLOURS[name])
        axes.hist(values, bins, weights=weights, histtype="step", linewidth=1.8, color=COLOURS[name], label=name)
    axes.set_xlabel(label)
    axes.set_ylabel("share")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def reference_values(summary: dict[str, Any]) -> dict[str, Any]:
    """The reference's figures beside a round's: of as many draws, on which some depend, where it was watched."""
    watched = {each["statistic"]: each["reference"] for each in summary.get("monitored", [])}
    return {**summary["reference"], **watched}


def curves(points: dict[str, list[tuple[float, float]]], start: dict[str, Any]) -> bytes:
    """One small panel for each quantity over the rounds as SVG; ``start`` is the reference's value."""
    names = list(points)
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    width, height = 3.2 * columns, 2.3 * lines
    figure = Figure(figsize=(width, height))
    # margins in inches; a constrained layout draws everything twice more to find them
    figure.subplots_adjust(
        left=0.6 / width, right=1 - 0.1 / width, bottom=0.5 / height, top=1 - 0.3 / height, wspace=0.28, hspace=0.55
    )
    for i, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, i + 1)
        x, y = zip(*points[name], strict=True)
        if start.get(name) is not None:
            axes.axhline(start[name], color=COLOURS["reference"], linewidth=1.2, linestyle="--")
        axes.plot(x, y, marker="o", markersize=4, color=COLOURS["tuned"])
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xlabel("round", fontsize=9)
        axes.set_xlim(-0.1 * max(x), 1.1 * max(x))
        if max(y) - min(y) < 1e-6 * max(map(abs, y)):  # the same, but for the last place
            axes.set_ylim(*sorted((0.9 * y[0], 1.1 * y[0])))
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def write(
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
    """Write the page.

    Args:
        path: Of the file.
        summary: What ``summary.json`` holds.
        title: Heading.
        command: That repeats the run.
        rewards: Of reference, accepted and tuned.
        over_rounds: Points (round, value) by quantity.
        pictures: PNG of the reference's and of the tuned model's samples.
        levels: The section on the comparison of levels, if there was one.
        hits: The section on the best of what was drawn, if there is one.
        weights: Of the accepted rewards, so that each condition has its share of the draws; equal ones if not given.
    """
    esc = html.escape

    def compared(lines: Sequence[tuple[str, str, str]]) -> str:
        cells = "".join(f"<tr><td>{esc(a)}</td><td>{esc(b)}</td><td>{esc(c)}</td></tr>" for a, b, c in lines)
        return f"<table><tr><th></th><th>reference</th><th>tuned</th></tr>{cells}</table>"

    about = "".join(f"<tr><td>{esc(a)}</td><td>{esc(b)}</td></tr>" for a, b in run_facts(summary))
    grids = "".join(
        f"<figure><figcaption>{esc(name)}</figcaption><img alt='samples of the {esc(name)}' "
        f"src='data:image/png;base64,{base64.b64encode(png).decode()}'></figure>"
        for name, png in pictures.items()
    )
    label = summary["reward"]["name"] + (f" / {summary['reward']['unit']}" if summary["reward"]["unit"] else "")
    failed = "".join(
        f"<li>round {r['round'] + 1}: {count} × {esc(why)}</li>"
        for r in summary["rounds"]
        for why, count in r["failures"].items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    sections = [
        f"<h1>{esc(title)}</h1><p class='note'>Reference against tuned: fresh samples of the same noise.</p>",
        compared(comparison_rows(summary)),
        f"<h2>The run</h2><table>{about}</table>",
        f"<h2>Reward</h2>{histogram(rewards, label, weights).decode()}",
        f"<h2>Over the rounds</h2>{curves(over_rounds, reference_values(summary)).decode()}" if over_rounds else "",
        levels,
        f"<h2>Samples</h2><p class='note'>The same noise in the same place.</p>{grids}" if grids else "",
        hits,
        *(
            f"<h2>{esc(name.replace('_', ' '))}</h2>{compared(lines)}"
            for name, lines in breakdown_rows(summary).items()
        ),
        f"<h2>Rewards that failed</h2><ul>{failed}</ul>" if failed else "",
        f"<h2>Repeat it</h2><pre>{esc(command)}</pre><p class='note'>{esc(versions)}</p>",
    ]
    page.write(path, title, sections)


def _svg(figure: Figure) -> bytes:
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "graft"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index(b"<svg") :]
