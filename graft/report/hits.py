"""Hits: the best distinct objects that a run has scored, ranked, as a page, a picture, a table or a domain's file."""

import csv
import html
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from graft.io.atomic import write_bytes, write_text, write_with
from graft.io.csv_files import csv_text
from graft.io.page import embed_image, render_page
from graft.module import GraftModule
from graft.report.tables import Markup, format_number, html_table
from graft.reward import PartForms, ScoredForm, oriented, score_objects
from graft.rollouts import Rollouts

COLUMNS = ("rank", "key", "reward", "times", "origin")
IN_PICTURE = 24
"""Largest number of hits in the picture."""
IN_VIEWER = 8
"""Largest number of hits in the 3-D viewer of a domain that has one."""


@dataclass
class TopSample:
    """One of the best objects of a run.

    Attributes:
        item: The object.
        reward: Reward of the object.
        key: Key of the object; empty if the domain has no keys.
        origin: ``round N``, or ``samples`` for the samples of the final comparison.
        times: Number of draws with this key.
    """

    item: Any
    reward: float
    key: str
    origin: str
    times: int


def top_samples(
    module: GraftModule, data: Rollouts, rounds: int, items: Sequence[Any], rewards: Sequence[float], count: int
) -> tuple[list[TopSample], int]:
    """Return (the best ``count`` scored objects of a run with distinct keys, the number of invalid ones).

    The objects are the draws of the run's rounds and further samples, the best one first. Objects whose reward failed,
    invalid objects (an empty key of a domain with keys) and records of a scored file are left out. Objects of equal
    reward stay in the order in which they were sampled.

    Args:
        module: The model; it decodes the draws of the rounds.
        data: The rollouts; their ``run_dir`` has the rounds.
        rounds: Number of rounds.
        items: Further samples.
        rewards: Reward of each further sample, NaN where the reward failed.
        count: Largest number of hits.
    """
    pool: list[tuple[float, str, int, int]] = []  # reward, key, round (-1 for the samples), position
    for number_ in range(rounds if data.source.is_model else 0):
        scores, keys = data.rounds.store(number_).kept_scores()
        pool += [(value, key, number_, i) for i, (value, key) in enumerate(zip(scores.values, keys, strict=True))]
    keys = [module.key(item) if module.supports("key") else "" for item in items]
    pool += [(value, key, -1, i) for i, (value, key) in enumerate(zip(rewards, keys, strict=True))]
    pool = [each for each in pool if not math.isnan(each[0])]
    scored = len(pool)
    pool = [each for each in pool if each[1] or not module.supports("key")]
    times = Counter(key for _, key, _, _ in pool)
    pool.sort(key=lambda each: -oriented(each[0], data.rounds.higher_is_better))
    seen: set[str] = set()
    best: list[tuple[float, str, int, int]] = []
    for each in pool:
        if len(best) < count and each[1] not in seen:
            best.append(each)
            seen |= {each[1]} - {""}
    decoded: dict[tuple[int, int], Any] = {(-1, i): items[i] for _, _, number_, i in best if number_ == -1}
    for number_ in {each[2] for each in best} - {-1}:
        places = sorted(i for _, _, n, i in best if n == number_)
        draws = data.rounds.store(number_).take(torch.tensor(places))
        mols = module.decode(draws.state, draws.condition)
        decoded |= {(number_, i): item for i, item in zip(places, mols, strict=True)}
    found = [
        TopSample(decoded[n, i], value, key, "samples" if n == -1 else f"round {n + 1}", times[key] if key else 1)
        for value, key, n, i in best
    ]
    return found, scored - len(pool)


def left_out(invalid: int) -> str:
    """Return the text that says how many invalid objects are no hits; "" if there are none."""
    verb = "is" if invalid == 1 else "are"
    return f"{invalid} scored object{'' if invalid == 1 else 's'} {verb} invalid and no hit" if invalid else ""


def postprocessed(module: GraftModule, data: Rollouts, hits: Sequence[TopSample]) -> list[TopSample]:
    """Return the hits after the domain's post-processing, scored and ranked again.

    Post-processing may change the reward of an object. A hit is dropped if its reward fails after post-processing.

    Args:
        module: The model; it post-processes the objects.
        data: The rollouts; their reward scores the objects.
        hits: The hits.
    """
    items = module.postprocess([hit.item for hit in hits])
    scored = [
        replace(hit, item=item, reward=value)
        for hit, item, value in zip(hits, items, score_objects(data.rounds.require_reward, items).values, strict=True)
        if not math.isnan(value)
    ]
    return sorted(scored, key=lambda hit: -oriented(hit.reward, data.rounds.higher_is_better))


def as_scored(hits: Sequence[TopSample], forms: Sequence["ScoredForm | None"]) -> list[TopSample]:
    """Return the hits in the form in which a reward scored them, with its value; a hit without a form is dropped."""
    shown = [(hit, form) for hit, form in zip(hits, forms, strict=True) if form is not None]
    return [replace(hit, item=form.item, reward=form.value) for hit, form in shown]


def write_hits(module: GraftModule, hits: Sequence[TopSample], path: Path, label: str, invalid: int = 0) -> None:
    """Write hits as a page, a picture, a table or a file of the domain's format.

    The suffix ``.html`` gives a page, ``.png`` a picture and ``.csv`` a table.

    Args:
        module: The model; it renders and writes the objects.
        hits: The hits, best first.
        path: Path of the file; the suffix sets the format.
        label: Name of the reward.
        invalid: Number of scored objects that are left out as invalid, for a page.

    Raises:
        GraftError: The domain writes no file with this suffix.
    """
    if path.suffix == ".html":
        write_text(path, hits_page(module, hits, label, invalid))
    elif path.suffix == ".png" and (png := render_picture(module, hits)) is not None:
        write_bytes(path, png)
    elif path.suffix == ".csv":
        write_text(path, hits_csv(hits, hit_columns(module, hits)))
    else:
        items, rewards = [hit.item for hit in hits], [hit.reward for hit in hits]
        write_with(path, lambda temporary: module.write(items, temporary, rewards))


def hits_csv(hits: Sequence[TopSample], objects: "Mapping[str, Sequence[str]] | None" = None) -> str:
    """Return hits as CSV text, with the columns of `COLUMNS` and the objects' own columns.

    Args:
        hits: The hits, best first.
        objects: Cells of the objects' own columns by name, as `hit_columns` returns them.
    """
    own = {name: cells for name, cells in (objects or {}).items() if name not in COLUMNS}
    rows = [
        (rank, hit.key, hit.reward, hit.times, hit.origin, *(cells[rank - 1] for cells in own.values()))
        for rank, hit in enumerate(hits, 1)
    ]
    return csv_text((*COLUMNS, *own), rows)


def hit_columns(module: GraftModule, hits: Sequence[TopSample]) -> dict[str, list[str]]:
    """Return the cells of the hits' own columns by name (`object_columns`)."""
    return object_columns(module, [hit.item for hit in hits], [hit.reward for hit in hits])


def object_columns(module: GraftModule, items: Sequence[Any], rewards: Sequence[float]) -> dict[str, list[str]]:
    """Return the cells of the objects' own columns by name.

    They are those of the hook ``table_columns`` and, if CSV is the main format of the domain, the cells that the domain
    writes into a CSV file. Other domains have the objects in a file of their main format.

    Without a header the columns are called ``object_1``, ``object_2`` and so on. If the file does not have one line for
    each object, the only column is ``object``, with the ``repr`` of each object.

    Args:
        module: The model; it writes the objects.
        items: The objects.
        rewards: Reward of each object; empty if there are none.
    """
    own = {name: list(cells) for name, cells in module.table_columns(items).items()}
    if module.file_suffix != ".csv" or not items:
        return own
    with tempfile.TemporaryDirectory(prefix="graft-") as folder:
        path = Path(folder) / "hits.csv"
        module.write(items, path, rewards or None)
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    widths = {len(line) for line in lines}
    if len(widths) != 1 or len(lines) not in (len(items), len(items) + 1):
        return {**own, "object": [repr(item) for item in items]}
    names = [f"object_{i + 1}" for i in range(max(widths))]
    if len(lines) > len(items):
        names, *lines = lines
    return {**own, **{name: [line[i] for line in lines] for i, name in enumerate(names)}}


def render_picture(module: GraftModule, hits: Sequence[TopSample]) -> "bytes | None":
    """Return a PNG of the first hits with their rewards; None if the domain renders no pictures."""
    first = hits[:IN_PICTURE]
    return module.render([hit.item for hit in first], _legends(first)) if first else None


def hits_section(
    module: GraftModule, hits: Sequence[TopSample], label: str, forms: Sequence[PartForms] = (), invalid: int = 0
) -> str:
    """Return hits as an HTML section; "" if there are no hits.

    Args:
        module: The model; it renders the objects.
        hits: The hits, best first.
        label: Name of the reward.
        forms: Forms of the first hits in which parts of the reward scored them.
        invalid: Number of scored objects that are left out as invalid.
    """
    if not hits:
        return ""
    png = render_picture(module, hits)
    view = module.render_html([hit.item for hit in hits[:IN_VIEWER]], _legends(hits[:IN_VIEWER]))
    image = embed_image(png, f"the best {len(hits[:IN_PICTURE])}") if png is not None else ""
    own = module.table_columns([hit.item for hit in hits])
    rows = [
        (
            str(rank),
            format_number(hit.reward),
            str(hit.times),
            hit.origin,
            *(
                Markup(f"<code>{html.escape(text)}</code>")
                for text in (hit.key, *(each[rank - 1] for each in own.values()))
            ),
        )
        for rank, hit in enumerate(hits, 1)
    ]
    return (
        f"<h2>Hits</h2><p class='note'>The best {len(hits)} distinct objects of all that were sampled and scored"
        f"{f'; {left_out(invalid)}' if invalid else ''}.</p>"
        f"{image}{view}{_scored_section(module, forms)}<details><summary>table</summary>"
        f"{html_table(rows, ('rank', label, 'times', 'from', 'key', *own))}</details>"
    )


def _scored_section(module: GraftModule, forms: Sequence[PartForms]) -> str:
    """Return the HTML of the hits in the form in which each part of the reward scored them; "" if there is none."""
    out = ""
    for part, found in forms:
        shown = [(rank, form) for rank, form in enumerate(found, 1) if form is not None]
        items = [form.item for _, form in shown]
        legends = [f"{rank}: {format_number(form.value)} {part.unit}".strip() for rank, form in shown]
        content = module.render_html(items, legends)
        if not content and (png := module.render(items, legends)) is not None:
            content = embed_image(png, f"the best {len(items)} as {part.name} scored them")
        if content:
            out += f"<h3>As {html.escape(part.name)} scored them</h3>{content}"
    return out


def hits_page(module: GraftModule, hits: Sequence[TopSample], label: str, invalid: int = 0) -> str:
    """Return hits as an HTML page that needs no network."""
    return render_page("Hits", [hits_section(module, hits, label, invalid=invalid)])


def _legends(hits: Sequence[TopSample]) -> list[str]:
    return [format_number(hit.reward) for hit in hits]
