"""A search of equal size for each method on the drug-like molecules: five settings each, on a seed of its own.

    python tests/benchmarks/rivals.py run [--methods ddpo,nft] [--out runs/rivals]
    python tests/benchmarks/rivals.py table [--out runs/rivals]

Every run has 3,072 reward calls and 480 optimizer steps of 64 samples, as `configs/domains/molecule.yaml`. The search
uses seed 100 and the gain of 1,000 samples. The best settings of each method are files of `molecule_methods`, which
`README.md` compares on other seeds. The same command resumes the search, and takes more methods.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

SEED = 100
ALL_DRAWS: dict[str, Any] = {
    "accept": {"class_path": "graft.accept.AcceptAll", "init_args": {"deduplicate": False}},
    "filters": None,
    "source": "current",
}
SMALL = ALL_DRAWS | {"draws": 64, "steps_per_round": 10}  # 48 rounds in place of 12


def anchored(rate: float, **more: Any) -> dict[str, Any]:
    init_args = {"push_limit": 0.5} | more
    objective = {"class_path": "graft.objectives.AnchoredShaping", "init_args": init_args}
    return settings(rate, objective, {"source": "current", "filters": None}, level=0.167)


def nft(rate: float, **more: Any) -> dict[str, Any]:
    init_args = {"beta": 0.5, "push_limit": 0.5} | more
    objective = {"class_path": "graft.objectives.DiffusionNFT", "init_args": init_args}
    return settings(rate, objective, ALL_DRAWS, level=0.167)


def ddpo(rate: float, **more: Any) -> dict[str, Any]:
    return settings(rate, policy_gradient(**more), SMALL, level=0.0) | {"trainer": {"max_epochs": 48}}


def shared_prefix(rate: float, upper_level: float = 0.5, **more: Any) -> dict[str, Any]:
    data = SMALL | {"samples_per_prefix": 8}
    made = settings(rate, policy_gradient(**more), data, level=0.0, upper_level=upper_level)
    return made | {"trainer": {"max_epochs": 48}}


def policy_gradient(**more: Any) -> dict[str, Any]:
    return {
        "class_path": "graft.objectives.PolicyGradient",
        "init_args": {"clip_range": 0.2, "steps_per_sample": 4} | more,
    }


def settings(rate: float, objective: dict[str, Any], data: dict[str, Any], **model: Any) -> dict[str, Any]:
    return {
        "model": {"init_args": model | {"objective": objective, "optimizer": {"init_args": {"lr": rate}}}},
        "data": data,
    }


SEARCH = {
    "anchored": {
        **{f"lr {rate:g}": anchored(rate) for rate in (3e-4, 1e-3, 3e-3)},
        "lr 0.001, contrast scale 2": anchored(1e-3, contrast_scale=2.0),
        "lr 0.001, no push limit": anchored(1e-3, push_limit=None),
    },
    "nft": {
        **{f"lr {rate:g}": nft(rate) for rate in (3e-4, 1e-3, 3e-3)},
        "lr 0.001, beta 1": nft(1e-3, beta=1.0),
        "lr 0.001, KL weight 0.1": nft(1e-3, kl_coef=0.1),
    },
    "ddpo": {
        **{f"lr {rate:g}": ddpo(rate) for rate in (1e-4, 3e-4, 1e-3)},
        "lr 0.0003, clip 0.05": ddpo(3e-4, clip_range=0.05),
        "lr 0.0003, KL weight 0.1": ddpo(3e-4, kl_coef=0.1),
    },
    "shared_prefix": {
        **{f"lr {rate:g}": shared_prefix(rate) for rate in (1e-4, 3e-4, 1e-3)},
        "lr 0.0003, upper level 0.75": shared_prefix(3e-4, upper_level=0.75),
        "lr 0.0003, KL weight 0.1": shared_prefix(3e-4, kl_coef=0.1),
    },
}


def run(args: argparse.Namespace) -> None:
    folder = args.out / "methods"
    folder.mkdir(parents=True, exist_ok=True)
    files = ["reference"]
    for method in args.methods:
        for number, content in enumerate(SEARCH[method].values()):
            path = folder / f"{method}_{number}.yaml"
            path.write_text(yaml.safe_dump(content))
            files.append(str(path))
    command = [
        sys.executable,
        "-m",
        "graft",
        "compare",
        "--config",
        "domains/molecule.yaml",
        "--methods",
        ",".join(files),
    ]
    command += ["--seeds", str(SEED), "--run_dir", str(args.out / "compare"), "--target_draws", "256"]
    command += ["--data.evaluation.validation_draws", "0", "--data.evaluation.test_draws", "1000"]
    command += ["--data.budget.allow_constant", "true"]  # a model of invalid molecules alone is a result
    sys.exit(subprocess.run([*command, "--trainer.check_val_every_n_epoch", "12"], check=False).returncode)


def table(args: argparse.Namespace) -> None:
    with (args.out / "compare/compare.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = {row["line"].partition("@")[0]: row for row in csv.DictReader(file)}
    print("| method | settings | gain | valid and connected | uniqueness |\n|---|---|---|---|---|")
    for method, made in SEARCH.items():
        for number, label in enumerate(made):
            row = rows.get(f"{method}_{number}")
            if row is not None:
                names = ("gain_in_reference_std", "valid_connected", "uniqueness")
                cells = [f"{float(row[name]):.3f}" if row.get(name) else "" for name in names]
                print(f"| {method} | {label} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(SEARCH))
    parser.add_argument("--out", type=Path, default=Path("runs/rivals"))
    args = parser.parse_args()
    {"run": run, "table": table}[args.action](args)


if __name__ == "__main__":
    main()
