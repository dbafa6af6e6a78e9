"""The correction to look at: a table for the terminal, and a page with the picture of distance against cost."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.ticker
from matplotlib.figure import Figure

from graft import files, page
from graft.correct.pareto import CORRECTED, FLOW, GAUSSIAN, LONGER
from graft.report import format_number

PICTURE = "frontier.png"
LOOKS = {"Euler": ("#8793a3", "o"), "Heun": ("#3a9a6b", "s"), "Midpoint": ("#b0743a", "^")}
OTHERS = {CORRECTED: ("#2a6fbb", "*", 16), GAUSSIAN: ("#9b59b6", "D", 8), LONGER: ("#c0392b", "v", 7)}


def operations(flops: float) -> str:
    """With a unit."""
    for size, unit in ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP")):
        if flops >= size:
            return f"{flops / size:.3g} {unit}"
    return f"{flops:.0f} FLOP"


def rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """(what, solver, warp, steps, cost, distance ± standard error) of each way to draw, by cost."""
    judged = summary["distance"]["name"]
    out = list[tuple[str, ...]]()
    for row in sorted(summary["frontier"], key=lambda row: row["flops"]):
        told = row["distances"][judged]
        error = "" if told["stderr"] is None else f" ± {format_number(told['stderr'])}"
        out.append(
            (
                row["name"],
                row["solver"],
                format_number(row["warp"]),
                str(row["steps"]),
                operations(row["flops"]),
                format_number(told["mean"]) + error,
            )
        )
    return out


def head(summary: dict[str, Any]) -> tuple[str, ...]:
    """Of the table."""
    return ("", "solver", "warp", "steps", "a sample", summary["distance"]["name"].replace("_", " "))


def table(summary: dict[str, Any]) -> str:
    """The comparison and the facts as text."""
    body = [head(summary), *rows(summary)]
    wide = [max(len(row[i]) for row in body) for i in range(len(body[0]))]
    lines = [
        "  ".join(
            f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, wide, strict=True))
        )
        for row in body
    ]
    lines.insert(1, "-" * len(lines[0]))
    told = facts(summary)
    names = max(len(name) for name, _ in told)
    return "\n".join([*lines, "", *(f"{name:<{names}}  {value}" for name, value in told), "", judged_by(summary)])


def facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, value) of the run as a whole."""
    found, said, cost = summary["inversion"], summary["conclusion"], summary["flops"]
    name, known = summary["distance"]["name"].replace("_", " "), found["known_noise"]
    lost = found["samples"] - found["kept"]
    best = said["best_solver_at_equal_flops"]
    return [
        (
            f"floor: {name} of two halves of the held-out data, {summary['distance']['n']} samples each",
            format_number(summary["distance"]["floor"]),
        ),
        (
            "samples inverted",
            f"{found['kept']} of {found['samples']}"
            + (
                f"; left out {lost}: {found['not_solved']} not solved, {found['round_trip_too_far']} too far off"
                if lost
                else ""
            ),
        ),
        *([("left out differ", _differ(found["left_out"]))] if found["left_out"] else []),
        (
            "round trip, median and largest",
            f"{_tiny(found['round_trip']['median'])}, {_tiny(found['round_trip']['max'])}",
        ),
        (
            "noise gain, median and largest",
            f"{format_number(found['noise_gain']['median'])}, {format_number(found['noise_gain']['max'])}",
        ),
        *(
            [("known noise recovered to 1 %", f"{known['recovered']:.1%} of {known['draws']}")]
            if known is not None
            else []
        ),
        ("a call of the flow, of the corrector", f"{operations(cost['call'])}, {operations(cost['corrector_call'])}"),
        (
            "inversion, its check on known noise, training of the corrector",
            ", ".join(operations(cost[name]) for name in ("inversion", "certificate", "training")),
        ),
        (
            f"cost of the corrected flow over the flow's, {summary['solver']}, at equal {name}",
            f"{format_number(said['flops_at_equal_distance'])}; at the same warp "
            f"{format_number(said['flops_at_equal_distance_same_warp'])}",
        ),
        (f"{name} at the corrected flow's cost: corrected", format_number(said["distance"])),
        ("    the same solver", format_number(said["same_solver_at_equal_flops"])),
        (
            "    the best solver",
            f"{format_number(best['distance'])} ({best['solver']}, warp {format_number(best['warp'])})"
            if best
            else "–",
        ),
        ("    trained longer", format_number(said["trained_longer_at_equal_flops"])),
        ("    Gaussian (cheaper)", format_number(said["gaussian"])),
        ("seconds", format_number(summary["seconds"])),
        ("seed", str(summary["seed"])),
    ]


def judged_by(summary: dict[str, Any]) -> str:
    """Say what the distances are to."""
    told = summary["distance"]
    return (
        f"Each distance is between {told['n']} samples and {told['n']} of {told['held_out']} held-out data, which "
        "neither the corrector nor the flow that was trained longer saw; the frozen flow was trained before. The floor "
        "is the distance between two halves of the held-out data. ± is the standard error over "
        f"{told['sets']} sets of samples."
    )


def _tiny(value: "float | None") -> str:
    return "–" if value is None else f"{value:.1e}"


def _differ(left: Mapping[str, Any]) -> str:
    said = [
        f"{what.replace('_', ' ')} {format_number(told['left_out'])} where the rest have {format_number(told['kept'])}"
        for what, told in left.items()
        if "kept" in told
    ]
    errors = [f"{told['standard_errors']:+.1f}" for told in left.values() if told.get("standard_errors") is not None]
    return "; ".join(said) + (f" ({', '.join(errors)} standard errors)" if errors else "")


def picture(summary: dict[str, Any], kind: str = "png") -> bytes:
    """Distance against cost, both on logarithmic axes."""
    judged = summary["distance"]["name"]
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()

    def points(name: str, how: "tuple[str, float] | None" = None) -> "list[tuple[float, float, float]]":
        chosen = [r for r in summary["frontier"] if r["name"] == name and how in (None, (r["solver"], r["warp"]))]
        told = [
            (r["flops"], r["distances"][judged]["mean"], r["distances"][judged]["stderr"] or 0)
            for r in chosen
            if (r["distances"][judged]["mean"] or 0) > 0  # on a logarithmic axis
        ]
        return sorted(told)

    ways = dict.fromkeys((r["solver"], r["warp"]) for r in summary["frontier"] if r["name"] == FLOW)
    warps = sorted({warp for _, warp in ways})
    for how in ways:
        colour, marker = LOOKS.get(how[0], ("#555555", "x"))
        if not (found := points(FLOW, how)):
            continue
        x, y, error = zip(*found, strict=True)
        line = ("-", ":", "-.")[min(2, warps.index(how[1]))]
        label = f"flow, {how[0]}" + (f", t = u^{format_number(how[1])}" if len(warps) > 1 else "")
        axes.errorbar(x, y, error, color=colour, marker=marker, markersize=5, capsize=2, label=label, linestyle=line)
    for name, (colour, marker, size) in OTHERS.items():
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
    axes.set_ylabel(judged.replace("_", " "))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: format_number(value)))
    axes.yaxis.set_minor_locator(matplotlib.ticker.LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: format_number(value)))
    axes.tick_params(axis="y", which="minor", labelsize=7)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "graft"}):
        figure.savefig(out, format=kind, dpi=130)
    return out.getvalue()


def write(
    path: Path,
    summary: dict[str, Any],
    title: str,
    command: str,
    losses: Sequence[tuple[float, float, float]],
    pictures: Mapping[str, bytes],
) -> None:
    """Write the page.

    Args:
        path: Of the file; the picture lies beside it.
        summary: What ``summary.json`` holds.
        title: Heading.
        command: That repeats the run.
        losses: (epoch, training loss, validation loss) of the corrector.
        pictures: PNG of samples, by name.
    """
    esc = html.escape
    shown = picture(summary)
    files.write_bytes(path.with_name(PICTURE), shown)

    def lines(cells: Sequence[Sequence[str]], top: "Sequence[str] | None" = None) -> str:
        first = "<tr>" + "".join(f"<th>{esc(c)}</th>" for c in top) + "</tr>" if top else ""
        return (
            f"<table>{first}"
            + "".join("<tr>" + "".join(f"<td>{esc(c)}</td>" for c in row) + "</tr>" for row in cells)
            + "</table>"
        )

    def image(png: bytes, what: str) -> str:
        data = base64.b64encode(png).decode()
        shown = f"<img alt='{esc(what)}' src='data:image/png;base64,{data}'>"
        return f"<figure><figcaption>{esc(what)}</figcaption>{shown}</figure>"

    steps = [
        (
            format_number(s["level"]),
            str(s["asked"]),
            str(s["missed"]),
            f"{s['evaluations'] / max(1, s['asked']):.1f}",
            _tiny(s["residual"]),
        )
        for s in summary["inversion"]["steps"]
    ]
    judged = [
        (name.replace("_", " "), format_number(summary["reference"].get(name)), format_number(value))
        for name, value in summary["tuned"].items()
        if not isinstance(value, dict)
    ]
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    curve = lines(
        [(format_number(e), format_number(a), format_number(b)) for e, a, b in losses],
        ("epoch", "training loss", "held-out loss"),
    )
    sections = [
        f"<h1>{esc(title)}</h1><p class='note'>A small flow draws the noise that real data were recovered to, and the "
        "frozen flow makes samples of it.</p>",
        image(shown, "Distance to held-out data against the cost of a sample, all networks counted"),
        f"<p class='note'>{esc(judged_by(summary))}</p>",
        lines(rows(summary), head(summary)),
        f"<h2>The run</h2>{lines(facts(summary))}",
        "<h2>Inversion, step by step</h2>"
        + lines(steps, ("from level", "samples", "not inverted", "evaluations a sample", "worst residual")),
        f"<h2>The flow and the corrected flow at {summary['steps']} steps</h2>"
        + lines(judged, ("", "flow", "corrected")),
        f"<h2>Training of the corrector</h2>{curve}" if losses else "",
        "<h2>Samples</h2>" + "".join(image(png, name) for name, png in pictures.items()) if pictures else "",
        f"<h2>Repeat it</h2><pre>{esc(command)}</pre><p class='note'>{esc(versions)}</p>",
    ]
    page.write(path, title, sections)
