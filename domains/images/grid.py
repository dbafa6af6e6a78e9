"""Pictures in a grid."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP, LINE = 6, 16  # pixels between cells, and height of a legend
COLUMNS, CELL = 8, 96  # largest number of columns, and side of a cell in pixels
ALONE = (512, 1024)  # smallest and largest side of the cell of a single picture


def render_grid(images: Sequence[Image.Image], legends: "Sequence[str] | None" = None) -> bytes:
    """Return a PNG of the pictures in a grid, with legends below.

    Small pictures are enlarged by a whole number, pixel by pixel; large ones are scaled down. A single picture has a
    large cell.
    """
    columns, cell = max(1, min(COLUMNS, len(images))), CELL
    if len(images) == 1:
        cell = min(max(ALONE[0], *images[0].size), ALONE[1])
    rows = max(1, -(-len(images) // columns))
    height = cell + (LINE if legends is not None else 0)
    sheet = Image.new("RGB", (columns * (cell + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, image in enumerate(images):
        left, top = GAP + i % columns * (cell + GAP), GAP + i // columns * (height + GAP)
        shown = _fitted(image, cell)
        sheet.paste(shown, (left + (cell - shown.width) // 2, top + (cell - shown.height) // 2))
        pen.rectangle((left - 1, top - 1, left + cell, top + cell), outline="#dde3ea")
        if legends is not None and i < len(legends):
            pen.text((left + cell // 2, top + cell + 2), legends[i], "#1c2430", font, anchor="mt")
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def _fitted(image: Image.Image, cell: int) -> Image.Image:
    longer = max(image.size)
    if longer <= cell:
        times = cell // longer
        return image.convert("RGB").resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    size = (max(1, image.width * cell // longer), max(1, image.height * cell // longer))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
