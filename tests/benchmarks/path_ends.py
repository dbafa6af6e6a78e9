"""The last models of a comparison against a baseline's, paired by seed.

    python tests/benchmarks/path_ends.py COMPARISON BASELINE [LINE ...] [--columns frechet,fid]

Of each line of ``compare.csv`` in the folder COMPARISON (those that are named, or all last models except the
reference): the difference of the gain in standard deviations of the reference's reward, the ratio of the drift, the
same ratio of the drifts less their floors, and the differences of further columns. ± is half of a 95 % t interval over
seeds. p is of a paired t test of the difference, by Holm's method for all lines of the table. The frontier, at equal
drift or reward, is in ``compare.html``.
"""

import argparse
from pathlib import Path

from graft.commands.compare.rows import Row, read_rows
from graft.evaluation.confidence import MeanInterval, holm, mean_interval, paired_difference, paired_p_value

GAIN, DRIFT, FLOOR = "gain_in_reference_std", "drift", "drift_floor"


def by_seed(rows: list[Row], line: str) -> dict[int, Row]:
    return {row["seed"]: row for row in rows if row["line"] == line}


def cell(found: "MeanInterval | None", sign: str = "") -> str:
    if found is None:
        return ""
    half = "" if found.half is None else f" ± {found.half:.2g}"
    return f"{found.mean:{sign}.3g}{half}"


def differences(own: dict[int, Row], base: dict[int, Row], column: str) -> "tuple[MeanInterval | None, float | None]":
    """Return the paired difference of a column, and its p-value."""
    pairs = {seed: (own[seed].get(column), base[seed].get(column)) for seed in own if seed in base}
    known = {seed: (a, b) for seed, (a, b) in pairs.items() if a is not None and b is not None}
    left, right = ({seed: pair[i] for seed, pair in known.items()} for i in (0, 1))
    return paired_difference(left, right), paired_p_value(left, right)


def ratio(own: dict[int, Row], base: dict[int, Row], less_floor: bool) -> "MeanInterval | None":
    """Return the ratio of the drifts, or of the drifts above their floors; None if the baseline's is not above 0."""
    ratios = []
    for seed in own.keys() & base.keys():
        drift, other = own[seed].get(DRIFT), base[seed].get(DRIFT)
        floor = base[seed].get(FLOOR) if less_floor else 0.0
        if drift is None or other is None or floor is None or other <= floor:
            return None
        ratios.append((drift - floor) / (other - floor))
    return mean_interval(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("baseline")
    parser.add_argument("lines", nargs="*")
    parser.add_argument("--columns", type=lambda text: text.split(","), default=[])
    args = parser.parse_args()
    rows = read_rows(args.comparison / "compare.csv")
    known = list(dict.fromkeys(row["line"] for row in rows))
    if unknown := [name for name in (args.baseline, *args.lines) if name not in known]:
        parser.error(f"no line {unknown[0]!r}; there are {', '.join(known)}")
    base = by_seed(rows, args.baseline)
    every = args.lines or [n for n in known if n not in ("reference", args.baseline) and " round " not in n]
    columns = [GAIN, DRIFT, *args.columns]
    found = {(line, name): differences(by_seed(rows, line), base, name) for line in every for name in columns}
    adjusted: dict[tuple[str, str], float] = {}
    for name in columns:
        raw = {line: p for line in every if (p := found[line, name][1]) is not None}
        adjusted |= {(line, name): p for line, p in zip(raw, holm(list(raw.values())), strict=True)}

    def p(line: str, name: str) -> str:
        return f"{adjusted[line, name]:.2g}" if (line, name) in adjusted else ""

    heads = ["line", "seeds", "gain", "p", "ratio of the drift", "less the floor", "p"]
    print("| " + " | ".join([*heads, *(head for name in args.columns for head in (name, "p"))]) + " |")
    print("|---" * (len(heads) + 2 * len(args.columns)) + "|")
    for line in every:
        own = by_seed(rows, line)
        cells = [line, str(len(own.keys() & base.keys())), cell(found[line, GAIN][0], "+"), p(line, GAIN)]
        cells += [cell(ratio(own, base, less)) for less in (False, True)] + [p(line, DRIFT)]
        cells += [text for name in args.columns for text in (cell(found[line, name][0], "+"), p(line, name))]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
