"""What limits the gain of one round of anchored shaping: one change at a time, on the same draws of the reference.

    python tests/benchmarks/causes.py run layouts|molecules [--seeds 0,1] [--out runs/causes]
    python tests/benchmarks/causes.py table layouts|molecules [--seeds 0,1] [--out runs/causes]

The round has the reward calls of the domain's comparison of small rounds. The draws of a seed are sampled and scored
once, and again for the accepted draws alone, which need their states at the level; the seed gives the same draws. Every
variant trains on them and is evaluated on 1,000 samples with the same noise. The share is that of the condition-matched
gain of the accepted draws. The same command resumes the runs.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

BASE = {
    "layouts": ["--config", "domains/layout.yaml", "--data.draws", "6144", "--data.steps_per_round", "480"],
    "molecules": [
        *["--config", "domains/molecule.yaml", "--data.filters", "null", "--data.source", "reference"],
        *["--data.draws", "3072", "--data.steps_per_round", "480"],
    ],
}
GRAFT = ["--model.objective", "graft.objectives.Shaping"]
CHANGES: dict[str, dict[str, list[str]]] = {
    "layouts": {
        "the whole chain": ["--model.upper_level", "1"],
        "half of the draws": ["--data.draws", "3072"],
        "a quarter of the draws": ["--data.draws", "1536"],
    },
    "molecules": {
        "the whole chain": ["--model.level", "0"],
        "even levels": ["--model.tuning.timestep_sampler", "null"],
        "half of the draws": ["--data.draws", "1536"],
        "a quarter of the draws": ["--data.draws", "768"],
    },
}
COMMON = {
    "none": [],
    "half of the steps": ["--data.steps_per_round", "240"],
    "twice the steps": ["--data.steps_per_round", "960"],
    "a third of the rate": ["--model.optimizer.init_args.lr", "3.3e-4"],
    "three times the rate": ["--model.optimizer.init_args.lr", "3e-3"],
    "no average of weights": ["--model.tuning.ema_decay", "null"],
    "accepted draws alone": GRAFT,
}


def changes(domain: str) -> dict[str, list[str]]:
    return COMMON | CHANGES[domain]


def folder(args: argparse.Namespace, name: str, seed: int) -> Path:
    return args.out / args.domain / f"{name.replace(' ', '_')}_{seed}"


def run(args: argparse.Namespace) -> None:
    cells = list(itertools.product(args.seeds, changes(args.domain).items()))
    for number, (seed, (name, flags)) in enumerate(cells, 1):
        made = folder(args, name, seed)
        if (made / "summary.json").exists():
            continue
        print(f"{number} of {len(cells)}: {name}, seed {seed}", flush=True)
        command = [sys.executable, "-m", "graft", "fit", *BASE[args.domain], *flags, "--run_dir", str(made)]
        command += ["--seed_everything", str(seed), "--trainer.max_epochs", "1"]
        command += ["--data.evaluation.validation_draws", "0", "--data.evaluation.test_draws", "1000"]
        command += ["--trainer.enable_progress_bar", "false"]
        if (known := args.reuse or folder(args, "none", seed)) != made and flags != GRAFT:
            command += ["--data.storage.reuse_runs", f"[{known}]"]
        command += ["--ckpt_path", "auto"]
        made.parent.mkdir(parents=True, exist_ok=True)
        with (args.out / args.domain / "log.txt").open("a") as log:
            if subprocess.run(command, check=False, stdout=log, stderr=log).returncode:
                sys.exit(f"{name} failed; {log.name} says why")


def table(args: argparse.Namespace) -> None:
    print(
        "| change | seeds | gain | share of the accepted gain | change of the share, by seed |\n|---|---|---|---|---|"
    )
    base: dict[int, Any] = {}
    for name in changes(args.domain):
        paths = {seed: folder(args, name, seed) / "summary.json" for seed in args.seeds}
        found = {seed: json.loads(path.read_text())["gain"] for seed, path in paths.items() if path.exists()}
        if found:
            base = base or found
            gain, share = (
                statistics.mean(each[column] for each in found.values())
                for column in ("in_reference_std", "of_accepted")
            )
            each = [f"{found[s]['of_accepted'] - base[s]['of_accepted']:+.2f}" for s in found if s in base]
            print(f"| {name} | {len(found)} | {gain:.2f} | {share:.2f} | {', '.join(each) if name != 'none' else ''} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("domain", choices=list(BASE))
    parser.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[0, 1])
    parser.add_argument("--reuse", type=Path, help="folder of earlier runs on the same draws, in place of this one's")
    parser.add_argument("--out", type=Path, default=Path("runs/causes"))
    args = parser.parse_args()
    {"run": run, "table": table}[args.action](args)


if __name__ == "__main__":
    main()
