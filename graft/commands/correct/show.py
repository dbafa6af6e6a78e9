"""The correction: a table for the terminal, a figure of distance against cost, and the page of the run."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.ticker
from matplotlib.figure import Figure

from graft import report
from graft.commands.correct.pareto import CORRECTED, FLOW, GAUSSIAN, LONGER
from graft.io.atomic import write_bytes
from graft.io.markdown import markdown_table
from graft.io.page import embed_image, repeat_section, write_page
from graft.report.figures import COLOURS, MARK, hide_spines, to_bytes
from graft.report.tables import format_name, format_number, html_table, text_facts, text_table

PICTURE = "frontier.png"
SOLVER_STYLES = {"Euler": (COLOURS["reference"], "o"), "Heun": ("#3a9a6b", "s"), "Midpoint": ("#b0743a", "^")}
"""Colour and marker of the flow alone by solver."""
OTHER_STYLES = {CORRECTED: (COLOURS["tuned"], "*", 16), GAUSSIAN: ("#9b59b6", "D", 8), LONGER: (MARK, "v", 7)}
"""Colour, marker and marker size of the other ways to sample."""


def format_flops(flops: float) -> str:
    """Return a number of floating-point operations with its unit."""
    for size, unit in ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP")):
        if flops >= size:
            return f"{flops / size:.3g} {unit}"
    return f"{flops:.0f} FLOP"


def frontier_rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the (name, solver, warp, steps, cost, distance ± standard error) rows, by cost."""
    name = summary["distance"]["name"]
    out = list[tuple[str, ...]]()
    for row in sorted(summary["frontier"], key=lambda row: row["flops"]):
        distance = row["distances"][name]
        error = "" if distance["stderr"] is None else f" ± {format_number(distance['stderr'])}"
        out.append(
            (
                row["name"],
                row["solver"],
                format_number(row["warp"]),
                str(row["steps"]),
                format_flops(row["flops"]),
                format_number(distance["mean"]) + error,
            )
        )
    return out


def frontier_head(summary: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the columns of `frontier_rows`."""
    return ("", "solver", "warp", "steps", "a sample", format_name(summary["distance"]["name"]))


def correction_table(summary: dict[str, Any]) -> str:
    """Return the comparison and the facts of the run as text for the terminal."""
    lines = text_table(frontier_head(summary), frontier_rows(summary), left=2)
    return "\n".join([*lines, "", *text_facts(run_facts(summary)), "", describe_distances(summary)])


def run_facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the (name, value) rows of the run as a whole."""
    inversion, conclusion, cost = summary["inversion"], summary["conclusion"], summary["flops"]
    name, known = format_name(summary["distance"]["name"]), inversion["known_noise"]
    invalid = inversion["samples"] - inversion["kept"]
    best = conclusion["best_solver_at_equal_flops"]
    return [
        (
            f"floor: {name} of two halves of the held-out data, {summary['distance']['n']} samples each",
            format_number(summary["distance"]["floor"]),
        ),
        (
            "samples inverted",
            f"{inversion['kept']} of {inversion['samples']}"
            + (
                f"; left out {invalid}: {inversion['not_solved']} not solved, {inversion['round_trip_too_far']} too "
                "far off"
                if invalid
                else ""
            ),
        ),
        *([("left out differ", _format_gaps(inversion["left_out"]))] if inversion["left_out"] else []),
        (
            "round trip, median and largest",
            f"{_format_error(inversion['round_trip']['median'])}, {_format_error(inversion['round_trip']['max'])}",
        ),
        (
            "noise gain, median and largest",
            f"{format_number(inversion['noise_gain']['median'])}, {format_number(inversion['noise_gain']['max'])}",
        ),
        *(
            [("known noise recovered to 1 %", f"{known['recovered']:.1%} of {known['draws']}")]
            if known is not None
            else []
        ),
        (
            "a call of the flow, of the corrector",
            f"{format_flops(cost['call'])}, {format_flops(cost['corrector_call'])}",
        ),
        (
            "inversion, its check on known noise, training of the corrector",
            ", ".join(format_flops(cost[name]) for name in ("inversion", "certificate", "training")),
        ),
        (
            f"cost of the corrected flow over the flow's, {summary['solver']}, at equal {name}",
            f"{format_number(conclusion['flops_at_equal_distance'])}; at the same warp "
            f"{format_number(conclusion['flops_at_equal_distance_same_warp'])}",
        ),
        (f"{name} at the corrected flow's cost: corrected", format_number(conclusion["distance"])),
        ("    the same solver", format_number(conclusion["same_solver_at_equal_flops"])),
        (
            "    the best solver",
            f"{format_number(best['distance'])} ({best['solver']}, warp {format_number(best['warp'])})"
            if best
            else "–",
        ),
        ("    trained longer", format_number(conclusion["trained_longer_at_equal_flops"])),
        ("    Gaussian (cheaper)", format_number(conclusion["gaussian"])),
        ("seconds", format_number(summary["seconds"])),
        ("seed", str(summary["seed"])),
    ]


def describe_distances(summary: dict[str, Any]) -> str:
    """Return the sentences about the samples of the distances."""
    distance = summary["distance"]
    return (
        f"Each distance is between {distance['n']} samples and {distance['n']} of {distance['held_out']} held-out "
        "data, which neither the corrector nor the flow that was trained longer saw; the frozen flow was trained "
        "before. The floor is the distance between two halves of the held-out data. ± is the standard error over "
        f"{distance['sets']} sets of samples."
    )


def corrector_card(summary: dict[str, Any], model: str, reference: str, command: str) -> str:
    """Return the card of the weights of ``graft correct`` as Markdown.

    Args:
        summary: Content of ``summary.json``.
        model: Class of the model by its path.
        reference: Name of the weights of the frozen flow.
        command: Command that repeats the run; "" for a run from Python.
    """
    return report.render_card(
        "tuned.safetensors",
        ("noise-correction",),
        "Weights of a small flow that graft trained on the noise to which real data were inverted. The small flow "
        "samples the noise, and the frozen flow turns it into an object: both are needed.",
        [("model", f"`{model}`"), ("frozen flow", f"`{reference}`"), *run_facts(summary)],
        f"{describe_distances(summary)}\n\n{markdown_table(frontier_head(summary), frontier_rows(summary))}",
        "The correction brings samples nearer to the data that were inverted. It knows no reward.",
        summary,
        command,
    )


def _format_error(value: "float | None") -> str:
    return "–" if value is None else f"{value:.1e}"


def _format_gaps(gaps: Mapping[str, Any]) -> str:
    parts = [
        f"{format_name(name)} {format_number(gap['left_out'])} where the rest have {format_number(gap['kept'])}"
        for name, gap in gaps.items()
        if "kept" in gap
    ]
    errors = [f"{gap['standard_errors']:+.1f}" for gap in gaps.values() if gap.get("standard_errors") is not None]
    return "; ".join(parts) + (f" ({', '.join(errors)} standard errors)" if errors else "")


def render_figure(summary: dict[str, Any]) -> bytes:
    """Return a PNG of the distance against the cost of a sample, both on logarithmic axes."""
    distance = summary["distance"]["name"]
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()

    def points(name: str, way: "tuple[str, float] | None" = None) -> "list[tuple[float, float, float]]":
        chosen = [r for r in summary["frontier"] if r["name"] == name and way in (None, (r["solver"], r["warp"]))]
        found = [
            (r["flops"], r["distances"][distance]["mean"], r["distances"][distance]["stderr"] or 0)
            for r in chosen
            if (r["distances"][distance]["mean"] or 0) > 0  # a logarithmic axis shows positive values only
        ]
        return sorted(found)

    ways = dict.fromkeys((r["solver"], r["warp"]) for r in summary["frontier"] if r["name"] == FLOW)
    warps = sorted({warp for _, warp in ways})
    for way in ways:
        colour, marker = SOLVER_STYLES.get(way[0], ("#555555", "x"))
        if not (found := points(FLOW, way)):
            continue
        x, y, error = zip(*found, strict=True)
        line = ("-", ":", "-.")[min(2, warps.index(way[1]))]
        label = f"flow, {way[0]}" + (f", t = u^{format_number(way[1])}" if len(warps) > 1 else "")
        axes.errorbar(x, y, error, color=colour, marker=marker, markersize=5, capsize=2, label=label, linestyle=line)
    for name, (colour, marker, size) in OTHER_STYLES.items():
        if found := points(name):
            x, y, error = zip(*found, strict=True)
            style = "--" if len(found) > 1 else "none"
            axes.errorbar(
                x,
                y,
                error,
                color=colour,
                marker=marker,
                markersize=size,
                capsize=2,
                label=name,
                linestyle=style,
                zorder=5,
            )
    if (floor := summary["distance"]["floor"] or 0) > 0:
        axes.axhline(floor, color="#444444", linewidth=1, linestyle=":", label="two halves of the held-out data")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("floating-point operations a sample")
    axes.set_ylabel(format_name(distance))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: format_number(value)))
    axes.yaxis.set_minor_locator(matplotlib.ticker.LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: format_number(value)))
    axes.tick_params(axis="y", which="minor", labelsize=7)
    axes.legend(frameon=False, fontsize=8)
    hide_spines(axes)
    return to_bytes(figure)


def write_report(
    path: Path,
    summary: dict[str, Any],
    title: str,
    command: str,
    losses: Sequence[tuple[float, float, float]],
    pictures: Mapping[str, bytes],
) -> None:
    """Write the page of the run, and the figure as ``frontier.png`` into the same folder.

    Args:
        path: Path of the page.
        summary: Content of ``summary.json``.
        title: Heading of the page.
        command: Command that repeats the run.
        losses: (epoch, training loss, held-out loss) of the corrector.
        pictures: PNG images of samples by name.
    """
    figure = render_figure(summary)
    write_bytes(path.with_name(PICTURE), figure)
    steps = [
        (
            format_number(step["level"]),
            str(step["reached"]),
            str(step["not_inverted"]),
            f"{step['evaluations'] / max(1, step['reached']):.1f}",
            _format_error(step["residual"]),
        )
        for step in summary["inversion"]["steps"]
    ]
    metrics = [
        (format_name(name), format_number(summary["reference"].get(name)), format_number(value))
        for name, value in summary["tuned"].items()
        if not isinstance(value, dict)
    ]
    curve = html_table(
        [
            (format_number(epoch), format_number(training), format_number(held_out))
            for epoch, training, held_out in losses
        ],
        ("epoch", "training loss", "held-out loss"),
    )
    caption = "Distance to held-out data against the cost of a sample, all networks counted"
    images = "".join(embed_image(png, name, name) for name, png in pictures.items())
    sections = [
        f"<h1>{html.escape(title)}</h1><p class='note'>A small flow samples the noise that real data were inverted to, "
        "and the frozen flow turns that noise into samples.</p>",
        embed_image(figure, caption, caption),
        f"<p class='note'>{html.escape(describe_distances(summary))}</p>",
        html_table(frontier_rows(summary), frontier_head(summary)),
        f"<h2>The run</h2>{html_table(run_facts(summary))}",
        "<h2>Inversion, step by step</h2>"
        + html_table(steps, ("from level", "samples", "not inverted", "evaluations a sample", "worst residual")),
        f"<h2>The flow and the corrected flow at {summary['steps']} steps</h2>"
        + html_table(metrics, ("", "flow", "corrected")),
        f"<h2>Training of the corrector</h2>{curve}" if losses else "",
        f"<h2>Samples</h2>{images}" if images else "",
        repeat_section(command, summary["versions"]),
    ]
    write_page(path, title, sections)
