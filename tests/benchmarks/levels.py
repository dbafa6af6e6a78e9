"""Evaluate `level: auto`: its estimates against the truth, and fine-tuning at its level against fixed levels.

    python tests/benchmarks/levels.py run [RESULTS.jsonl]      (15 minutes on one thread; resumes where it stopped)
    python tests/benchmarks/levels.py table [RESULTS.jsonl]

Two toys (`toys.py`) times three rewards times five seeds. A run draws 512, accepts 64 of them and trains 400 steps; the
analysis behind `auto` takes its default number of draws. Its choice is read from the analysis of the same seed, so that
fine-tuning at `auto` is the run at the level that it chose: the same draws, noise and steps.
"""

import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from toys import FOLDER, JUDGED, TOYS, Distribution, drawn, module, quiet, reference, rollouts, trainer, tuned

import graft
from graft.rollouts.settings import MIN_RETENTION, LevelSearch

SEEDS = range(5)
FIXED = (0.0, 0.125, 0.25, 0.375, 0.5)
TRUE = 8192  # draws of the analysis that is taken for the truth
RESULTS = FOLDER / "levels.jsonl"
NAMES = {"share": 1, "mmd": -1, "frechet": -1}  # what is compared, and whether more is better


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, row: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def analysed(toy: str, reward: str, seed: int, draws: "int | None" = None) -> dict:
    """Return the result of `graft levels`: the chosen level, and ρ² and the predicted and re-sampled share by level."""
    made = module(toy, reference(toy), level="auto", seed=seed)
    data = rollouts(TOYS[toy]["rewards"][reward](), seed, level_search=LevelSearch(draws=draws, n_bootstrap=40))
    with tempfile.TemporaryDirectory() as folder:
        found = graft.levels(made, data, folder, trainer())
    shares = {
        name: {level.level: getattr(level, name).value for level in found.levels[1:]}
        for name in ("decided", "predicted", "measured")
    }
    return {"chosen": found.level, "draws": found.draws, "accepted": found.accepted, **shares}


def once(toy: str, reward: str, seed: int, level: float, distribution: Distribution) -> dict:
    started = time.perf_counter()
    made = module(toy, reference(toy), level=level, seed=seed)
    folder = Path(tempfile.mkdtemp())
    try:
        x = tuned(made, rollouts(TOYS[toy]["rewards"][reward](), seed), folder)
    finally:
        shutil.rmtree(folder)
    return {"share": distribution.share(x), **distribution.to(x), "seconds": round(time.perf_counter() - started, 1)}


def everything(path: Path) -> None:
    distributions: dict[tuple[str, str], Distribution] = {}
    done = {(r["kind"], r["toy"], r["reward"], r.get("seed"), r.get("level")) for r in read(path)}
    for toy in TOYS:
        for reward in TOYS[toy]["rewards"]:
            where = {"toy": toy, "reward": reward}
            if ("truth", toy, reward, None, None) not in done:
                append(path, {"kind": "truth", **where, **analysed(toy, reward, 1000, TRUE)})
            for seed in SEEDS:
                if ("auto", toy, reward, seed, None) not in done:
                    append(path, {"kind": "auto", **where, "seed": seed, **analysed(toy, reward, seed)})
    for seed in SEEDS:  # all cells of one seed before the next, so that what is there is balanced
        for toy in TOYS:
            for reward in TOYS[toy]["rewards"]:
                where = {"toy": toy, "reward": reward}
                rows = [r for r in read(path) if r["toy"] == toy and r["reward"] == reward]
                wanted = {*FIXED, *(r["chosen"] for r in rows if r["kind"] == "auto" and r["seed"] == seed)}
                wanted |= {r["chosen"] for r in rows if r["kind"] == "truth"}
                missing = [u for u in sorted(wanted) if ("run", toy, reward, seed, u) not in done]
                if not missing:
                    continue
                distribution = distributions[toy, reward] = distributions.get((toy, reward)) or Distribution(
                    toy, reward
                )
                if ("distribution", toy, reward, None, None) not in done and seed == SEEDS[0]:
                    append(
                        path,
                        {
                            "kind": "distribution",
                            **where,
                            "base": distribution.base,
                            "gain": distribution.gain,
                            "floor": distribution.floor,
                        },
                    )
                for level in missing:
                    row = {"kind": "run", **where, "seed": seed, "level": level}
                    append(path, {**row, **once(toy, reward, seed, level, distribution)})


def mean(values: list[float]) -> float:
    return statistics.mean(values) if values else math.nan


def error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def pm(values: list[float], digits: int = 2) -> str:
    return f"{mean(values):.{digits}f} ± {error(values):.{digits}f}"


def agreement(pairs: list[tuple[float, float]]) -> str:
    """Bias, rms and correlation of the first against the second."""
    a, b = zip(*pairs, strict=True)
    gaps = [x - y for x, y in pairs]
    rms = math.sqrt(mean([g**2 for g in gaps]))
    return f"{mean(gaps):+.3f} | {rms:.3f} | {statistics.correlation(a, b):.2f} | {len(pairs)}"


def tables(path: Path) -> None:
    rows = read(path)
    cells = [(toy, reward) for toy in TOYS for reward in TOYS[toy]["rewards"]]

    def of(kind: str, toy: str, reward: str) -> list[dict]:
        return [r for r in rows if r["kind"] == kind and r["toy"] == toy and r["reward"] == reward]

    truth = {cell: of("truth", *cell)[0] for cell in cells if of("truth", *cell)}
    print(f"Surviving share: of the truth ({TRUE} draws), predicted by the fit / re-rolled; what `auto` chose\n")
    levels = list(next(iter(truth.values()))["measured"])
    print("| toy, reward | " + " | ".join(f"u = {u}" for u in levels) + " | truth chooses | `auto`, by seed |")
    print("|---" * (len(levels) + 3) + "|")
    for cell, t in truth.items():
        shares = [f"{t['predicted'][u]:.2f} / {t['measured'][u]:.2f}" for u in levels]
        chosen = ", ".join(f"{r['chosen']:g}" for r in of("auto", *cell))
        print(f"| {cell[0]}, {cell[1]} | {' | '.join(shares)} | {t['chosen']:g} | {chosen} |")

    print("\nErrors of the surviving share\n\n| | bias | rms | correlation | n |\n|---|---|---|---|---|")
    small = [(cell, r) for cell in truth for r in of("auto", *cell)]
    every = [(t["predicted"][u], t["measured"][u]) for t in truth.values() for u in levels]
    print(f"| predicted against re-rolled, both of {TRUE} draws | {agreement(every)} |")
    for name in ("predicted", "measured"):
        pairs = [(r[name][u], truth[cell]["measured"][u]) for cell, r in small for u in levels]
        pairs = [pair for pair in pairs if not any(map(math.isnan, pair))]
        print(f"| {name} at the default ({small[0][1]['draws']} draws) against the truth | {agreement(pairs)} |")
    pairs = [(r["predicted"][u], r["measured"][u]) for _, r in small for u in levels]
    print(f"| predicted against re-rolled, both at the default | {agreement(pairs)} |")
    runs = {(r["toy"], r["reward"], r["seed"], r["level"]): r for r in rows if r["kind"] == "run"}
    for name in ("predicted", "measured"):
        pairs = [
            (truth[toy, reward][name][str(u)], run["share"])
            for (toy, reward, _, u), run in runs.items()
            if u > 0 and (toy, reward) in truth
        ]
        if pairs:
            print(f"| {name} ({TRUE} draws) against the gain that fine-tuning had | {agreement(pairs)} |")
    right = [r["chosen"] == truth[cell]["chosen"] for cell, r in small]
    near = [abs(r["chosen"] - truth[cell]["chosen"]) < 0.13 for cell, r in small]
    print(f"\n`auto` chose as the truth would in {sum(right)} of {len(right)}, within one candidate in {sum(near)}.")

    untuned = {}
    for cell in truth:
        distribution, x = Distribution(*cell), drawn(cell[0], JUDGED, 777).state
        untuned[cell] = {"share": distribution.share(x), **distribution.to(x)}
    for name, title, digits in (
        ("share", "Reward: share of the accepted distribution's gain", 2),
        ("mmd", "Distance to the accepted distribution: 1000 MMD²", 2),
        ("frechet", "Distance to the accepted distribution: 1000 Fréchet", 1),
    ):
        print(f"\n{title} (mean ± standard error over seeds; floor: two real sets)\n")
        fixed = " | ".join(f"{u:g}" for u in FIXED)
        print(f"| toy, reward | floor | not tuned | {fixed} | `auto` | truth's level |")
        print("|---" * (len(FIXED) + 5) + "|")
        for cell in truth:
            distribution = of("distribution", *cell)
            floor = (
                "1"
                if name == "share"
                else "{:.2f} ± {:.2f}".format(*distribution[0]["floor"][name])
                if distribution
                else ""
            )
            cols = [f"{untuned[cell][name]:.{digits}f}"]
            cols += [pm([r[name] for r in of("run", *cell) if r["level"] == u], digits) for u in FIXED]
            autos = {r["seed"]: r["chosen"] for r in of("auto", *cell)}
            for choices in (autos, dict.fromkeys(SEEDS, truth[cell]["chosen"])):
                found = [runs[(*cell, s, u)][name] for s, u in choices.items() if (*cell, s, u) in runs]
                cols.append(pm(found, digits))
            print(f"| {cell[0]}, {cell[1]} | {floor} | {' | '.join(cols)} |")

    versus(runs, {cell: {r["seed"]: r["chosen"] for r in of("auto", *cell)} for cell in truth}, "`auto`")
    versus(runs, {cell: dict.fromkeys(SEEDS, t["chosen"]) for cell, t in truth.items()}, "The truth's level")
    for least in (0.8, 0.95, 0.98):
        chosen = {cell: {r["seed"]: highest(r["measured"], least) for r in of("auto", *cell)} for cell in truth}
        versus(runs, chosen, f"`auto` with at least {least:g} in place of {MIN_RETENTION:g}")


def highest(shares: dict[str, float], least: float) -> float:
    """Return the largest fixed level at which at least this share survives."""
    return max([0.0, *(float(u) for u, share in shares.items() if share >= least and float(u) in FIXED)])


def versus(runs: dict, choices: dict, name: str) -> None:
    """Paired differences over seeds, at two standard errors."""
    print(f"\n{name} against fixed levels: cells won / equal / lost at 2 standard errors, paired over seeds\n")
    print("| fixed level | reward | 1000 MMD² | 1000 Fréchet | mean difference in share, in MMD², in Fréchet | loses |")
    print("|---|---|---|---|---|---|")
    for u in FIXED:
        score, lost, gaps = {n: [0, 0, 0] for n in NAMES}, [], {n: [] for n in NAMES}
        for cell, chosen in choices.items():
            for what, sign in NAMES.items():
                d = [
                    runs[(*cell, s, c)][what] - runs[(*cell, s, u)][what]
                    for s, c in chosen.items()
                    if (*cell, s, c) in runs and (*cell, s, u) in runs
                ]
                if not d:
                    continue
                gaps[what].append(mean(d))
                better = sign * mean(d) / error(d) if len(d) > 1 and error(d) > 0 else 0.0
                score[what][0 if better > 2 else 2 if better < -2 else 1] += 1
                if better < -2:
                    lost.append(f"{cell[1]} ({what} {mean(d):+.2f} ± {error(d):.2f})")
        text = " | ".join(" / ".join(map(str, score[what])) for what in NAMES)
        means = f"{mean(gaps['share']):+.3f}, {mean(gaps['mmd']):+.2f}, {mean(gaps['frechet']):+.0f}"
        print(f"| {u:g} | {text} | {means} | {'; '.join(lost) or 'nowhere'} |")


def main() -> None:
    quiet()
    torch.manual_seed(0)
    path = Path(sys.argv[2]) if len(sys.argv) > 2 else RESULTS
    if len(sys.argv) < 2 or sys.argv[1] not in ("run", "table"):
        raise SystemExit(__doc__)
    if sys.argv[1] == "run":
        everything(path)
    print(
        f"The criterion: the largest level at which the interval of the surviving share begins at {MIN_RETENTION:g}.\n"
    )
    tables(path)


if __name__ == "__main__":
    main()
