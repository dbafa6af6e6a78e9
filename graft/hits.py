"""Hits: the best distinct objects that a run has scored, ranked, to take home and to look at."""

import base64
import csv
import html
import io
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from graft import files
from graft import page as pages
from graft.module import GraftModule
from graft.report import format_number
from graft.reward import ask
from graft.rollouts import Rollouts
from graft.spreadsheet import cell

COLUMNS = ("rank", "key", "reward", "times", "origin")
DRAWN = 24  # hits in the picture
TURNED = 8  # hits in the view, where the domain has one


@dataclass
class TopSample:
    """An object, its reward, its key (empty where the domain has none), where it was drawn, how often its key was."""

    item: Any
    reward: float
    key: str
    origin: str
    times: int


def top_samples(
    module: GraftModule, data: Rollouts, rounds: int, items: Sequence[Any], rewards: Sequence[float], count: int
) -> list[TopSample]:
    """The best ``count`` objects with distinct keys of a run's rounds and of further samples, the best first.

    Objects whose reward failed are no hits, nor are those of a scored file, which nobody drew. Equals stand in the
    order in which they were drawn.

    Args:
        module: Decodes the rounds' draws.
        data: The rollouts, whose ``run_dir`` has the rounds.
        rounds: How many there are.
        items: Samples.
        rewards: Of each, NaN where it failed.
        count: The most hits.
    """
    pool: list[tuple[float, str, int, int]] = []  # reward, key, round (-1: samples), place
    for number_ in range(rounds if data.source.is_model else 0):
        scores, keys = data.round_rewards_and_keys(number_)
        pool += [(value, key, number_, i) for i, (value, key) in enumerate(zip(scores.values, keys, strict=True))]
    keys = [module.key(item) if module.has_keys else "" for item in items]
    pool += [(value, key, -1, i) for i, (value, key) in enumerate(zip(rewards, keys, strict=True))]
    pool = [each for each in pool if not math.isnan(each[0])]
    times: dict[str, int] = {}
    for _, key, _, _ in pool:
        times[key] = times.get(key, 0) + 1
    pool.sort(key=lambda each: -each[0] if data.higher_is_better else each[0])
    seen: set[str] = set()
    best: list[tuple[float, str, int, int]] = []
    for each in pool:
        if len(best) < count and each[1] not in seen:
            best.append(each)
            seen |= {each[1]} - {""}
    decoded: dict[tuple[int, int], Any] = {(-1, i): items[i] for _, _, number_, i in best if number_ == -1}
    for number_ in {each[2] for each in best} - {-1}:
        places = sorted(i for _, _, n, i in best if n == number_)
        mols = module.decode(*data.round_samples(number_, torch.tensor(places)))
        decoded |= {(number_, i): item for i, item in zip(places, mols, strict=True)}
    return [
        TopSample(decoded[n, i], value, key, "samples" if n == -1 else f"round {n + 1}", times[key] if key else 1)
        for value, key, n, i in best
    ]


def postprocessed(module: GraftModule, data: Rollouts, hits: Sequence[TopSample]) -> list[TopSample]:
    """The hits as the domain cleans them, scored and ranked anew: a reward may see what was mended.

    Those whose reward fails now are left out.
    """
    items = module.postprocess([hit.item for hit in hits])
    scored = [
        replace(hit, item=item, reward=value)
        for hit, item, value in zip(hits, items, ask(data.require_reward, items).values, strict=True)
        if not math.isnan(value)
    ]
    return sorted(scored, key=lambda hit: -hit.reward if data.higher_is_better else hit.reward)


def write(module: GraftModule, hits: Sequence[TopSample], path: Path, label: str) -> None:
    """Write hits into a file of the domain's, or as a page (``.html``), a picture (``.png``) or a table (``.csv``).

    Raises:
        GraftError: The domain writes no such file.
    """
    if path.suffix == ".html":
        files.write_text(path, page(module, hits, label))
    elif path.suffix == ".png" and (png := picture(module, hits)) is not None:
        files.write_bytes(path, png)
    elif path.suffix == ".csv":
        files.write_text(path, table(hits, columns(module, hits)))
    else:
        items, rewards = [hit.item for hit in hits], [hit.reward for hit in hits]
        files.write_with(path, lambda temporary: module.write(items, temporary, rewards))


def table(hits: Sequence[TopSample], objects: "Mapping[str, Sequence[str]] | None" = None) -> str:
    """Hits as CSV: rank, key, reward, how often the key was drawn, where this one was, and the objects' own columns.

    Args:
        hits: The hits.
        objects: Further columns by name; see `columns`.
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    own = {name: cells for name, cells in (objects or {}).items() if name not in COLUMNS}
    rows.writerow((*COLUMNS, *own))
    for rank, hit in enumerate(hits, 1):
        cells = [cell(each[rank - 1]) for each in own.values()]
        rows.writerow((rank, cell(hit.key), repr(hit.reward), hit.times, cell(hit.origin), *cells))
    return out.getvalue()


def columns(module: GraftModule, hits: Sequence[TopSample]) -> dict[str, list[str]]:
    """The columns of the objects, by name, as the domain writes them into its own CSV file.

    Empty where CSV is not the domain's main format, so that the objects are in a file of that. Without a header the
    columns are called ``object_1``, ``object_2`` and so on. A file that has no line for each object is one column, the
    objects as Python prints them.
    """
    if module.file_suffix != ".csv" or not hits:
        return {}
    with tempfile.TemporaryDirectory(prefix="graft-") as folder:
        path = Path(folder) / "hits.csv"
        module.write([hit.item for hit in hits], path, [hit.reward for hit in hits])
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    widths = {len(line) for line in lines}
    if len(widths) != 1 or len(lines) not in (len(hits), len(hits) + 1):
        return {"object": [repr(hit.item) for hit in hits]}
    names = [f"object_{i + 1}" for i in range(max(widths))]
    if len(lines) > len(hits):
        names, *lines = lines
    return {name: [line[i] for line in lines] for i, name in enumerate(names)}


def picture(module: GraftModule, hits: Sequence[TopSample]) -> "bytes | None":
    """A drawing of the first hits with their rewards; None if the domain draws nothing."""
    some = hits[:DRAWN]
    return module.render([hit.item for hit in some], _legends(some)) if some else None


def section(module: GraftModule, hits: Sequence[TopSample], label: str) -> str:
    """Hits as a part of a page."""
    if not hits:
        return ""
    png = picture(module, hits)
    view = module.render_html([hit.item for hit in hits[:TURNED]], _legends(hits[:TURNED]))
    image = (
        f"<figure><img alt='the best {len(hits[:DRAWN])}' src='data:image/png;base64,"
        f"{base64.b64encode(png).decode()}'></figure>"
        if png is not None
        else ""
    )
    rows = "".join(
        f"<tr><td>{rank}</td><td>{format_number(hit.reward)}</td><td>{hit.times}</td><td>{hit.origin}</td>"
        f"<td><code>{html.escape(hit.key)}</code></td></tr>"
        for rank, hit in enumerate(hits, 1)
    )
    head = f"<tr><th>rank</th><th>{html.escape(label)}</th><th>times</th><th>from</th><th>key</th></tr>"
    return (
        f"<h2>Hits</h2><p class='note'>The best {len(hits)} distinct ones of all that was drawn and scored.</p>"
        f"{image}{view}<details><summary>table</summary><table>{head}{rows}</table></details>"
    )


def page(module: GraftModule, hits: Sequence[TopSample], label: str) -> str:
    """Hits as a page that needs no network."""
    return pages.page("Hits", [section(module, hits, label)])


def _legends(hits: Sequence[TopSample]) -> list[str]:
    return [format_number(hit.reward) for hit in hits]
