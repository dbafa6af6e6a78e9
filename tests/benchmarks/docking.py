"""P-GRAFT, GRAFT, DiffusionNFT and best of N on docking with AutoDock Vina, at the same number of docking calls.

    python tests/benchmarks/docking.py run --receptors FOLDER [--targets DRD3,PARP1] [--calls 300] [--seeds 0,1,2]
    python tests/benchmarks/docking.py table [--out runs/docking]

FOLDER has ``NAME_target.pdbqt`` and ``NAME_conf.txt`` of each target, such as ``dockstring/resources/targets`` of the
package dockstring (58 receptors, Apache-2.0). The program ``vina`` and the package meeko must be installed. ``run``
calls ``graft compare`` for each target, which prints its progress; the same command resumes it. The docked poses of the
best molecules of a run are in its folder, ``compare/runs/*/hits_as_scored.sdf``, and all poses in ``poses``. ``table``
prints the tables.

A molecule that is not valid or in pieces has the reward 0 and takes no docking call. Each method that trains docks
``--calls`` molecules. Methods draw the same samples of the reference for the same seed; these are docked once, and
count for each method. Best of N needs no training: N is such that ``--test_draws`` samples have about as many valid
candidates. The evaluation docks further molecules, as many for each method.
"""

import argparse
import csv
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from budgets import diversity
from rdkit import Chem, rdBase

from domains.molecules.chemistry import molecule_key

HERE = Path(__file__).parent
METHODS = "pgraft,graft,nft"
HITS = 10


def box(folder: Path, target: str, size: float) -> dict[str, Any]:
    """Return the receptor and the box of a target, with the centre of its ``conf.txt``."""
    conf = dict(line.split(" = ") for line in (folder / f"{target}_conf.txt").read_text().splitlines() if " = " in line)
    center = [float(conf[f"center_{axis}"]) for axis in "xyz"]
    return {"receptor": str((folder / f"{target}_target.pdbqt").resolve()), "center": center, "size": [size] * 3}


def compare(args: argparse.Namespace, target: str) -> None:
    folder = args.out / target
    folder.mkdir(parents=True, exist_ok=True)
    vina = {**box(args.receptors, target, args.size), "exhaustiveness": args.exhaustiveness, "workers": args.workers}
    vina["poses"] = str((folder / "poses").resolve())
    cached = {
        "reward": {"class_path": "domains.molecules.rewards.Vina", "init_args": vina},
        "path": str((folder / "affinities.sqlite").resolve()),
        "count_cached": True,
    }
    reward = {
        "class_path": "domains.molecules.rewards.Gated",
        "init_args": {
            "reward": {"class_path": "graft.reward.CachedReward", "init_args": cached},
            "require": ["connected", "valid"],
        },
    }
    candidates = max(1, round(args.calls / args.valid / args.test_draws))
    draws = 2 * args.calls
    command = [sys.executable, "-m", "graft", "compare", "--config", "domains/molecule.yaml"]
    command += ["--config", "molecule/pgraft.yaml"]
    command += ["--config", str(HERE / "docking.yaml"), "--methods", f"{METHODS},best_of:{candidates},reference"]
    command += ["--seeds", args.seeds, "--run_dir", str(folder / "compare"), "--data.reward", json.dumps(reward)]
    command += ["--data.draws", str(draws), "--data.budget.proxy_fraction", "0.5"]
    command += ["--data.batch_size", str(min(50, args.calls)), "--data.steps_per_round", str(args.steps)]
    command += ["--data.evaluation.test_draws", str(args.test_draws)]
    print(f"{target}: {' '.join(command)}", flush=True)
    if status := subprocess.run(command, check=False).returncode:
        sys.exit(f"graft compare ended with status {status}; the same command resumes it")


def docked(run: Path, samples: str) -> dict[str, float]:
    """Return the best affinity of each distinct molecule of a run's training draws and of one set of its samples."""
    found: list[tuple[str, float]] = []
    for path in run.glob("rounds/*/scores_*.json"):
        scores = json.loads(path.read_text())
        pairs = zip(scores["keys"], scores["values"], strict=True)
        found += [(name, value) for name, value in pairs if value is not None]
    with rdBase.BlockLogs():
        for mol in Chem.SDMolSupplier(str(run / f"samples/{samples}.sdf"), sanitize=False):
            if mol is not None and mol.HasProp("SMILES") and math.isfinite(value := float(mol.GetProp("reward"))):
                flat = Chem.MolFromSmiles(mol.GetProp("SMILES"))
                found.append((molecule_key(flat) if flat is not None else "", value))
    best: dict[str, float] = {}
    for name, value in found:
        if name and value < 0:  # 0 is the reward of a molecule that was not docked
            best[name] = min(value, best.get(name, 0.0))
    return best


def pools(folder: Path) -> "Iterator[tuple[str, dict[str, float]]]":
    """Yield (method, docked molecules) for each run; the draws of GRAFT's runs are those of the reference."""
    for run in sorted((folder / "compare/runs").iterdir()):
        if (run / "summary.json").exists():
            method = run.name.split("_")[0]
            yield method, docked(run, "tuned")
            if method == "graft":
                yield "reference", docked(run, "reference")


def spread(values: list[float]) -> str:
    error = f" ± {statistics.stdev(values) / math.sqrt(len(values)):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{error}"


def table(out: Path) -> None:
    for folder in sorted(path for path in out.iterdir() if (path / "compare/compare.csv").exists()):
        with (folder / "compare/compare.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        print(f"\n{folder.name}: mean ± standard error over seeds; affinities in kcal/mol, smaller is better\n")
        names = ["reward", "gain_in_reference_std", "valid_connected", "uniqueness", "novelty", "internal_diversity"]
        names = [name for name in names if any(row.get(name) for row in rows)]
        print("| method | seeds | docking calls | " + " | ".join(names) + " |")
        print("|---" * (3 + len(names)) + "|")
        for line in dict.fromkeys(row["line"] for row in rows):
            mine = [row for row in rows if row["line"] == line]
            calls = [float(row["training_reward_calls"]) + float(row["inference_reward_calls"]) for row in mine]
            cells = [spread([float(row[name]) for row in mine if row[name]]) if mine else "" for name in names]
            print(f"| {line} | {len(mine)} | {statistics.mean(calls):.0f} | " + " | ".join(cells) + " |")
        print(f"\nHits of the training draws and the samples of a run; the ten best of each, {folder.name}\n")
        print("| method | runs | distinct docked | best | mean of the ten best | distance within the ten best |")
        print("|---|---|---|---|---|---|")
        found: dict[str, list[dict[str, float]]] = {}
        for method, pool in pools(folder):
            found.setdefault(method, []).append(pool)
        for method, each in found.items():
            ranked = [sorted(pool, key=lambda name: pool[name])[:HITS] for pool in each if len(pool) > 1]
            if not ranked:
                continue
            count = statistics.mean(len(pool) for pool in each)
            values = [[pool[name] for name in names] for pool, names in zip(each, ranked, strict=False)]
            best, ten = spread([best[0] for best in values]), spread([statistics.mean(best) for best in values])
            print(
                f"| {method} | {len(each)} | {count:.0f} | {best} | {ten} | {spread([diversity(n) for n in ranked])} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("--receptors", type=Path, help="folder of the receptors and their conf.txt")
    parser.add_argument("--targets", default="DRD3,PARP1")
    parser.add_argument("--out", type=Path, default=Path("runs/docking"))
    parser.add_argument("--calls", type=int, default=300, help="docking calls of the training of a method")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--test_draws", type=int, default=60, help="samples that evaluate a method")
    parser.add_argument("--steps", type=int, default=240, help="optimizer steps of a method")
    parser.add_argument("--valid", type=float, default=0.8, help="share of the reference's samples that is docked")
    parser.add_argument("--size", type=float, default=20.0, help="edge of the box in Å")
    parser.add_argument("--exhaustiveness", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="dockings at a time")
    args = parser.parse_args()
    if args.action == "run":
        if args.receptors is None:
            parser.error("run needs --receptors")
        for target in args.targets.split(","):
            compare(args, target)
    table(args.out)


if __name__ == "__main__":
    main()
