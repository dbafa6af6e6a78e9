"""Pictures of layouts: pages in a grid, a colour for each class, a legend.

Elements that the user fixed have a thick frame.
"""

import colorsys
import io
from collections.abc import Iterator, Sequence
from html import escape

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from domains.layouts.layout import PUBLAYNET, Layout

COLUMNS = 8
WIDTH, GAP, TEXT = 110.0, 14.0, 11.0  # width of a page, gap of pages, height of text; in units of the picture
ALONE = 4 * WIDTH  # width of a single page
_DOCUMENT = dict(zip(PUBLAYNET, ("#4c78a8", "#e45756", "#54a24b", "#b279a2", "#f2a541"), strict=True))


def colour(name: str, names: Sequence[str]) -> str:
    """Return the colour of a class as #rrggbb."""
    if tuple(names) == PUBLAYNET:
        return _DOCUMENT[name]
    hue = names.index(name) / len(names)
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, 0.55, 0.55))


def _page_width(items: Sequence[Layout]) -> float:
    return ALONE if len(items) == 1 else WIDTH


def _cells(items: Sequence[Layout], columns: int) -> "Iterator[tuple[int, float, float, float]]":
    """Yield (position, left, top, height) of each page; rows start below the row above."""
    top, wide = GAP, _page_width(items)
    for start in range(0, len(items), columns):
        row = items[start : start + columns]
        heights = [wide * item.page[1] / item.page[0] for item in row]
        for i, height in enumerate(heights):
            yield start + i, GAP + i * (wide + GAP), top, height
        top += max(heights) + GAP + TEXT


def _size(items: Sequence[Layout], columns: int) -> tuple[float, float, float]:
    """Return (width, height, top of the legend) of the picture."""
    cells = list(_cells(items, columns))
    bottom = max((top + height for _, _, top, height in cells), default=0.0) + GAP + TEXT
    names = items[0].names if items else PUBLAYNET
    width = max(GAP + columns * (_page_width(items) + GAP), 4 * WIDTH)
    return width, bottom + TEXT * 1.8 * len(_rows(names, width)), bottom


def _rows(names: Sequence[str], width: float) -> list[list[tuple[str, float]]]:
    """Return the names of the legend with their left ends, by line."""
    lines, left = list[list[tuple[str, float]]]([[]]), GAP
    for name in names:
        needed = TEXT * 2.2 + 0.62 * TEXT * len(name)
        if left + needed > width and lines[-1]:
            lines, left = [*lines, []], GAP
        lines[-1].append((name, left))
        left += needed
    return lines


def _rectangles(
    items: Sequence[Layout], columns: int
) -> "Iterator[tuple[str, float, float, float, float, str, float]]":
    """Yield rectangles of all pages, large ones first.

    A rectangle is (kind, left, top, width, height, colour, line width).
    """
    wide = _page_width(items)
    for i, left, top, height in _cells(items, columns):
        item = items[i]
        yield "page", left, top, wide, height, "#ffffff", 0.8
        area = (item.widths * item.heights).tolist()
        for j in sorted(range(len(item)), key=lambda j: -area[j]):
            x, y, r, b = item.boxes[j].tolist()
            fill = colour(item.classes[j], item.names)
            line = 2.2 if item.given[j] else 0.8
            yield "box", left + x * wide, top + y * height, (r - x) * wide, (b - y) * height, fill, line


def svg(items: Sequence[Layout], legends: "Sequence[str] | None") -> str:
    """Return an SVG picture of the layouts."""
    columns = max(1, min(COLUMNS, len(items)))
    width, height, below = _size(items, columns)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="sans-serif" font-size="{TEXT:g}">',
        f'<rect width="{width:g}" height="{height:g}" fill="#f0f0f0"/>',
    ]
    for kind, x, y, w, h, fill, line in _rectangles(items, columns):
        style = 'stroke="#888888"' if kind == "page" else f'fill-opacity="0.55" stroke="{fill}"'
        out.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{w:.2f}" height="{h:.2f}" fill="{fill}" '
            f'stroke-width="{line:g}" {style}/>'
        )
    half = _page_width(items) / 2
    for (_, x, y, h), text in zip(_cells(items, columns), legends or (), strict=False):
        out.append(f'<text x="{x + half:.1f}" y="{y + h + TEXT * 1.1:.1f}" text-anchor="middle">{escape(text)}</text>')
    for i, line_ in enumerate(_rows(items[0].names if items else (), width)):
        for name, x in line_:
            y = below + TEXT * 1.8 * i
            fill = colour(name, items[0].names)
            out.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{TEXT}" height="{TEXT}" fill="{fill}" '
                f'fill-opacity="0.55" stroke="{fill}"/>'
            )
            out.append(f'<text x="{x + TEXT * 1.4:.1f}" y="{y + TEXT * 0.9:.1f}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>", ""])


def png(items: Sequence[Layout], legends: "Sequence[str] | None") -> bytes:
    """Return a PNG picture of the layouts."""
    columns = max(1, min(COLUMNS, len(items)))
    width, height, below = _size(items, columns)
    figure = Figure(figsize=(width / 72, height / 72), dpi=120, facecolor="#f0f0f0")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for kind, x, y, w, h, fill, line in _rectangles(items, columns):
        face, edge = (fill, "#888888") if kind == "page" else (f"{fill}8c", fill)
        axes.add_patch(Rectangle((x, y), w, h, facecolor=face, edgecolor=edge, linewidth=line))
    for (_, x, y, h), text in zip(_cells(items, columns), legends or (), strict=False):
        axes.text(x + _page_width(items) / 2, y + h + TEXT * 0.7, text, ha="center", va="center", fontsize=TEXT * 0.75)
    for i, line_ in enumerate(_rows(items[0].names if items else (), width)):
        for name, x in line_:
            y, fill = below + TEXT * 1.8 * i, colour(name, items[0].names)
            axes.add_patch(Rectangle((x, y), TEXT, TEXT, facecolor=f"{fill}8c", edgecolor=fill, linewidth=0.8))
            axes.text(x + TEXT * 1.4, y + TEXT / 2, name, va="center", fontsize=TEXT * 0.8)
    out = io.BytesIO()
    figure.savefig(out, format="png", facecolor=figure.get_facecolor())
    return out.getvalue()
