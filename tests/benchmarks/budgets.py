"""Few reward calls: which method, screening and filter find the best and the most diverse hits on molecules.

    python tests/benchmarks/budgets.py run [--budgets 200,500,1000] [--seeds 0,1,2,3] [--smiles CC(=O)Nc1ccc(O)cc1]
    python tests/benchmarks/budgets.py table [--out runs/budgets]

The reward is the similarity (ECFP4) to one small drug: most molecules have little of it, as of a docking score. A
budget is the number of reward calls in all. The methods are in ``METHODS``; those that train have rounds of a tenth of
the budget, 20 steps each. Unless a method says otherwise, invalid molecules and those in pieces take no reward call: a
free proxy reward lets as many valid draws pass as may be scored. The same command resumes the runs. ``table`` prints
the hits among all scored molecules of a run.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from graft.evaluation.confidence import mean_interval, paired_p_value

HERE = Path(__file__).parent
ROUNDS, STEPS = 10, 20
SPARE = 1.5  # draws for each reward call
BEST = 10
BASE = "reference alone"
HIT = 0.4  # similarity of a hit
SHAPING = ["--config", "molecule/pgraft.yaml", "--data.source", "current", "--data.replay_rounds", "3"]
SMALL = ["--config", str(HERE / "molecule_methods/anchored_small_rounds.yaml")]
SCREENED = {
    "class_path": "domains.molecules.rewards.Gated",
    "init_args": {"reward": {"class_path": "domains.molecules.rewards.Validity"}, "require": ["connected", "valid"]},
}
LIKELY = {
    "class_path": "domains.molecules.rewards.Gated",
    "init_args": {"reward": {"class_path": "domains.molecules.rewards.QED"}, "require": ["connected", "valid"]},
}
METHODS: dict[str, dict[str, Any]] = {
    BASE: {"rounds": 1, "steps": 1},
    "P-GRAFT, draws of the tuned model": {"flags": SHAPING},
    "DiffusionNFT": {"flags": ["--config", str(HERE / "molecule_methods/nft_small_rounds.yaml")]},
    "anchored P-GRAFT": {"flags": SMALL},
    "anchored, five rounds": {"flags": SMALL, "rounds": 5, "steps": 40},
    "anchored, a fifth accepted": {"flags": [*SMALL, "--data.accept.fraction", "0.2"]},
    "anchored, memory": {},  # as domains/molecule.yaml has it
    "anchored, QED as the proxy": {"flags": SMALL, "proxy": LIKELY},
    "anchored, no screening": {"flags": SMALL, "proxy": None},
}


def folder_name(method: str, budget: int, seed: int) -> str:
    return f"{method.replace(',', '').replace(' ', '_')}_{budget}_{seed}"


def run(args: argparse.Namespace) -> None:
    cells = list(itertools.product(args.seeds, args.budgets, args.methods))
    for number, (seed, budget, name) in enumerate(cells, 1):
        folder = args.out / folder_name(name, budget, seed)
        if (folder / "summary.json").exists():
            continue
        print(f"{number} of {len(cells)}: {name}, {budget} calls, seed {seed}", flush=True)
        with (args.out / "log.txt").open("a") as log:
            command = fit(name, budget, seed, folder, args)
            if subprocess.run(command, check=False, stdout=log, stderr=log).returncode:
                sys.exit(f"{name} failed; {args.out / 'log.txt'} says why")


def fit(name: str, budget: int, seed: int, folder: Path, args: argparse.Namespace) -> list[str]:
    method = METHODS[name]
    rounds, steps, proxy = method.get("rounds", ROUNDS), method.get("steps", STEPS), method.get("proxy", SCREENED)
    calls = budget // rounds
    reward = {
        "class_path": "domains.molecules.rewards.Gated",
        "init_args": {
            "reward": {"class_path": "domains.molecules.rewards.Similarity", "init_args": {"smiles": args.smiles}},
            "require": ["connected", "valid"],
        },
    }
    draws = calls if proxy is None else round(SPARE * calls)
    command = [sys.executable, "-m", "graft", "fit", "--config", "domains/molecule.yaml", *method.get("flags", [])]
    command += ["--run_dir", str(folder), "--seed_everything", str(seed), "--data.reward", json.dumps(reward)]
    command += ["--trainer.max_epochs", str(rounds), "--trainer.check_val_every_n_epoch", str(rounds)]
    command += ["--data.draws", str(draws), "--data.steps_per_round", str(steps)]
    command += ["--data.evaluation.validation_draws", "0", "--data.evaluation.test_draws", "16"]
    command += ["--model.lr_scheduler.warmup_steps", "20", "--trainer.enable_progress_bar", "false"]
    if proxy is not None:
        command += ["--data.budget.proxy_reward", json.dumps(proxy)]
        command += ["--data.budget.proxy_fraction", str(calls / draws)]
    return [*command, "--ckpt_path", "auto"]


def hits(folder: Path) -> dict[str, float]:
    """Return the scored molecules of a run's rounds and their rewards."""
    found: dict[str, float] = {}
    for path in folder.glob("rounds/*/scores_*.json"):
        scores = json.loads(path.read_text())
        for key, value in zip(scores["keys"], scores["values"], strict=True):
            if key and value is not None:
                found[key] = float(value)
    return found


def diversity(smiles: list[str]) -> float:
    """Return the mean Tanimoto distance of the pairs (ECFP4)."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(each)) for each in smiles]
    return statistics.mean(1 - DataStructs.TanimotoSimilarity(a, b) for a, b in itertools.combinations(prints, 2))


def calls_of(folder: Path) -> int:
    paths = folder.glob("rounds/*/scores_*.json")
    return sum(json.loads(path.read_text())["reward_calls"] for path in paths)


def figures(folder: Path) -> dict[str, float]:
    pool = hits(folder)
    best = sorted(pool, key=lambda key: pool[key], reverse=True)[:BEST]
    return {
        "reward calls": calls_of(folder),
        "distinct molecules": len(pool),
        "best": pool[best[0]],
        f"mean of the {BEST} best": statistics.mean(pool[key] for key in best),
        f"hits of {HIT:g} or more": sum(value >= HIT for value in pool.values()),
        f"distance within the {BEST} best": diversity(best),
    }


def spread(values: list[float]) -> str:
    found = mean_interval(values)
    digits = 0 if max(values) >= 10 else 2
    half = f" ± {found.half:.{digits}f}" if found.half is not None else ""
    return f"{found.mean:.{digits}f}{half}"


def table(args: argparse.Namespace) -> None:
    print(
        f"Mean ± half of a 95 % t interval over seeds; p: paired t test of the mean of the {BEST} best against {BASE}\n"
    )
    for budget in args.budgets:
        rows = {}
        for name in args.methods:
            folders = {seed: args.out / folder_name(name, budget, seed) for seed in args.seeds}
            rows[name] = {s: figures(folder) for s, folder in folders.items() if (folder / "summary.json").exists()}
        names = next((list(each) for found in rows.values() for each in found.values()), [])
        print(f"| {budget} calls | seeds | " + " | ".join(names) + " | p |")
        print("|---" * (3 + len(names)) + "|")
        best = {name: {s: each[names[3]] for s, each in found.items()} for name, found in rows.items()}
        for name, found in rows.items():
            if found:
                cells = [spread([each[what] for each in found.values()]) for what in names]
                p = paired_p_value(best[name], best.get(BASE, {})) if name != BASE else None
                cells.append("" if p is None else f"{p:.3f}")
                print(f"| {name} | {len(found)} | " + " | ".join(cells) + " |")
        print()


def numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument(
        "--budgets", type=lambda text: [int(each) for each in text.split(",")], default=[200, 500, 1000]
    )
    parser.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[0, 1, 2, 3])
    parser.add_argument("--methods", type=lambda text: text.split(";"), default=list(METHODS), help="names with ;")
    parser.add_argument("--smiles", default="CC(=O)Nc1ccc(O)cc1", help="drug that the molecules should resemble")
    parser.add_argument("--out", type=Path, default=Path("runs/budgets"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    {"run": run, "table": table}[args.action](args)


if __name__ == "__main__":
    main()
