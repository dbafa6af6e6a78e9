"""Figures of reports: colours, axes, and the bytes of PNG and SVG files, which are the same for the same figure."""

import io
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"reference": "#8793a3", "accepted": "#e0a030", "tuned": "#2a6fbb"}
"""Colour of each model's samples, the same in every figure."""

MARK = "#c0392b"
"""Colour of a line that marks a chosen level or a floor."""


def hide_spines(axes: Axes) -> None:
    """Remove the lines at the top and at the right of axes."""
    axes.spines[["top", "right"]].set_visible(False)


def series_style(number: int) -> dict[str, Any]:
    """Return colour and marker of the n-th series of a figure; the first hundred differ."""
    return {"color": matplotlib.colormaps["tab10"](number % 10), "marker": "os^Dv<>Ph*"[number // 10 % 10]}


def to_bytes(figure: Figure, kind: 'Literal["png", "svg"]' = "png") -> bytes:
    """Return a figure as the bytes of a PNG or SVG file.

    The bytes are the same for the same figure: they have no dates, versions or random identifiers.
    """
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "graft"}):
        figure.savefig(out, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return out.getvalue()


def svg_element(svg: bytes) -> str:
    """Return the ``<svg>`` element of an SVG file, for a page: without the prolog of the file."""
    return svg[svg.index(b"<svg") :].decode()
