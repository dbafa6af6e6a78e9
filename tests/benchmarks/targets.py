"""The targets of `graft.objectives.Shaping` measured against each other: (a) transition, (b) trajectory, (c) renoised.

    python tests/benchmarks/targets.py noise                    noise of the loss and of its gradient at equal states
    python tests/benchmarks/targets.py toys [RESULTS.jsonl]     fine-tuning the toys, stochastic and with an ODE sampler
    python tests/benchmarks/targets.py molecules [RESULTS.jsonl]
    python tests/benchmarks/targets.py table [RESULTS.jsonl]

With the ODE sampler (b) and (c) are biased, and refused; here they are forced through.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch
from levels import append, error, mean, pm, read
from toys import FOLDER, TOYS, Distribution, best, drawn, module, quiet, reference, rollouts, tuned

import graft
from graft import TrainingBatch
from graft.core import seeding
from graft.domain import distance
from graft.objectives import Shaping
from graft.sampler import run_stages

TARGETS = ("transition", "trajectory", "renoised")
SEEDS = range(5)
RESULTS = FOLDER / "targets.jsonl"
CELLS = [("ring", "spot", 0.25), ("digits", "ink", 0.375)]


class Forced(Shaping):
    """`Shaping` without its check of the target."""

    def target(self, module, source):
        return self.setting


# Noise at equal states


def noise() -> None:
    """Measure noise at the reference, on its accepted trajectories; targets share draws, levels and noise."""
    print("Of a batch: variance of the loss / mean²; variance of the gradient / squared mean gradient\n")
    print("| toy, reward, u* | u | (a) | (b) | (c) |\n|---|---|---|---|---|")
    for toy, reward, level in CELLS:
        above = [None, *(level + (1 - level) * s for s in (0.05, 0.25, 0.7))]  # None: spread over all
        found = {(u, t): [] for u in above for t in TARGETS}
        for seed in range(3):
            made = drawn(toy, 4096, 500 + seed, record=(level,))
            index = best(TOYS[toy]["rewards"][reward]().values(made.state))
            final, middle = made.state[index], made.states[level][index]
            net = module(toy, reference(toy), level=level)
            for u in above:
                for target in TARGETS:
                    found[u, target].append(_noise(net, target, final, middle, u))
        for u in above:
            cells = []
            for target in TARGETS:
                loss, ratio = zip(*found[u, target], strict=True)
                cells.append(f"{pm(list(loss), 3)}; {pm(list(ratio), 1)}")
            where = f"{toy}, {reward}, {level:g} | {'all' if u is None else f'{u:.2f}'}"
            print(f"| {where} | {' | '.join(cells)} |", flush=True)


def _noise(net, target: str, final, middle, u: "float | None", batches: int = 50) -> tuple[float, float]:
    """(variance of a batch's loss over its squared mean, variance of its gradient over the squared mean gradient)."""
    losses, slopes = [], []
    for number in range(batches):
        generator = seeding.make_generator(number, "batch")
        rows = torch.randint(len(final), (64,), generator=generator)
        state, from_level = (final[rows], 0.0) if target == "renoised" else (middle[rows], net.policy.interval.low)
        goal = final[rows] if target == "trajectory" else None
        condition = {"row": torch.zeros(64)}
        if u is None:
            loss = net.policy.loss(TrainingBatch(state, condition, None, from_level, goal), generator)
        else:
            levels = torch.full((64,), u, dtype=torch.float64)
            loss = net.policy.process.loss(
                net.policy.backbone, state, levels, from_level, condition, goal, generator
            ).mean()
        parameters = list(net.policy.backbone.parameters())
        slopes.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
        losses.append(loss.detach())
    loss, slope = torch.stack(losses).double(), torch.stack(slopes).double()
    variance = float(slope.var(0).sum())
    signal = float(slope.mean(0).square().sum()) - variance / batches
    return float(loss.var() / loss.mean() ** 2), variance / signal if signal > 0 else float("inf")


# Fine-tuning the toys


def toys(path: Path) -> None:
    done = {(r["toy"], r["reward"], r["eta"], r["level"], r["target"], r["seed"]) for r in read(path) if "toy" in r}
    for toy, reward, level in CELLS:
        for eta in (1.0, 0.0):
            wanted = [(t, s) for s in SEEDS for t in TARGETS if (toy, reward, eta, level, t, s) not in done]
            distribution = Distribution(toy, reward, eta) if wanted else None
            for target, seed in wanted:
                started = time.perf_counter()
                made = module(toy, reference(toy), eta, level=level, seed=seed, objective=Forced(target))
                folder = Path(tempfile.mkdtemp())
                try:
                    x = tuned(made, rollouts(distribution.score, seed), folder)
                finally:
                    shutil.rmtree(folder)
                where = {"toy": toy, "reward": reward, "eta": eta, "level": level, "target": target, "seed": seed}
                floor = {f"{name}_floor": value for name, value in distribution.floor.items()}
                seconds = round(time.perf_counter() - started, 1)
                append(
                    path, {**where, "share": distribution.share(x), **distribution.to(x), **floor, "seconds": seconds}
                )


# Fine-tuning molecules


def molecules(path: Path) -> None:
    """2048 draws, an eighth accepted, 300 steps, level 0.167; each seed's draws are made once."""
    done = {(r["target"], r["seed"]) for r in read(path) if "molecules" in r}
    base = FOLDER / "molecules"
    flags = (
        "--data.draws=2048",
        "--data.steps_per_round=300",
        "--trainer.max_epochs=1",
        "--data.evaluation.validation_draws=0",
    )
    flags += ("--data.evaluation.test_draws=500", "--data.accept.fraction=0.125", "--trainer.enable_progress_bar=false")
    for seed in range(3):
        for target in TARGETS:
            if (target, seed) in done:
                continue
            store = [base / str(seed) / t for t in TARGETS if (base / str(seed) / t / "summary.json").exists()]
            more = (f"--data.storage.reuse_runs=[{store[0]}]",) if store else ()
            made, data, trainer = graft.load(
                "domains/molecule.yaml", "--config=molecule/pgraft.yaml", *flags, f"--seed_everything={seed}", *more
            )
            made.objective = Forced(target)
            folder = base / str(seed) / target
            shutil.rmtree(folder, ignore_errors=True)
            summary = graft.fit(made, data, folder, trainer)
            ours = {k: summary["tuned"][k] for k in ("reward", "valid_connected", "validity", "uniqueness")}
            theirs = {f"reference_{k}": summary["reference"][k] for k in ours}
            items = made.evaluators["tuned"].items
            row = {"molecules": True, "target": target, "seed": seed, **ours, **theirs, **_far(made, data, items)}
            append(path, {**row, "accepted_reward": summary["accepted_reward"], "seconds": summary["seconds"]})


def _far(made, data, items: list) -> dict[str, float]:
    """1000 MMD² of the features to fresh rejection samples of the reference, and its floor, at equal n."""
    file = FOLDER / "molecules" / "distribution.pt"
    if not file.exists():
        features, rewards, groups, keys = [], [], [], []
        for number in range(64):
            generator = seeding.make_generator(number, "benchmark")
            condition = made.sample_conditions(128, generator)
            drawn = made.decode(
                run_stages(made.policy.sampling_stages("reference"), condition, made.policy.steps, (), generator).state,
                condition,
            )
            features.append(made.features(drawn))
            rewards += data.reward(drawn).values
            groups.append(made.group(condition))
            keys += [made.key(item) for item in drawn]
        data.reward.teardown()
        chosen = data.accept(torch.tensor(rewards), torch.cat(groups), keys, seeding.make_generator(0, "distribution"))
        torch.save(torch.cat(features)[chosen.index], file)
    distribution = torch.load(file)
    features = made.features(items)
    n = min(len(distribution) // 2, len(features))
    order = torch.randperm(len(distribution), generator=seeding.make_generator(0, "halves"))
    half, other = distribution[order[:n]], distribution[order[n : 2 * n]]
    value, floor = distance.mmd(half, features[:n]), distance.mmd(half, other)
    return {"mmd": 1e3 * value, "mmd_floor": 1e3 * floor, "n": n}


# Tables


def table(path: Path) -> None:
    rows = read(path)
    print("Toys (mean ± standard error over seeds; differences paired)\n")
    head = "share of the gain | 1000 MMD² | 1000 Fréchet"
    print(f"| toy, reward, u* | sampler | target | {head} | share less (a)'s | MMD² less (a)'s | n |")
    print("|---" * 9 + "|")
    for toy, reward, level in CELLS:
        for eta in (1.0, 0.0):
            each = {
                t: {
                    r["seed"]: r
                    for r in rows
                    if (r.get("toy"), r.get("reward"), r.get("eta"), r["target"]) == (toy, reward, eta, t)
                }
                for t in TARGETS
            }
            for target, runs in each.items():
                if not runs:
                    continue
                values = [pm([r[k] for r in runs.values()], d) for k, d in (("share", 3), ("mmd", 2), ("frechet", 1))]
                less = [_less(runs, each["transition"], k) for k in ("share", "mmd")]
                sampler = "stochastic" if eta == 1 else "ODE"
                cells = " | ".join([*values, *less, str(len(runs))])
                print(f"| {toy}, {reward}, {level:g} | {sampler} | {target} | {cells} |")
            if each["trajectory"] and each["renoised"]:
                less = [_less(each["trajectory"], each["renoised"], k) for k in ("share", "mmd", "frechet")]
                print(f"| | | (b) less (c) | {' | '.join(less)} | | | |")
            if each["transition"]:
                first = next(iter(each["transition"].values()))
                print(
                    "| | | floor | | {:.2f} ± {:.2f} | {:.1f} ± {:.1f} | | | |".format(
                        *first["mmd_floor"], *first["frechet_floor"]
                    )
                )
    chemistry = {t: {r["seed"]: r for r in rows if "molecules" in r and r["target"] == t} for t in TARGETS}
    if not chemistry["transition"]:
        return
    print("\nMolecules\n")
    names = ("reward", "valid_connected", "validity", "uniqueness", "mmd")
    print(f"| target | {' | '.join(names)} | reward less (a)'s | MMD² less (a)'s | n |")
    print("|---" * (len(names) + 4) + "|")
    for target, runs in chemistry.items():
        values = [pm([r[k] for r in runs.values()], 3) for k in names]
        less = [_less(runs, chemistry["transition"], k) for k in ("reward", "mmd")]
        print(f"| {target} | {' | '.join([*values, *less])} | {len(runs)} |")
    less = [_less(chemistry["trajectory"], chemistry["renoised"], k) for k in ("reward", "mmd")]
    print(f"| (b) less (c) | | | | | | {' | '.join(less)} | |")
    runs = list(chemistry["transition"].values())
    values = [pm([r[f"reference_{k}"] for r in runs], 3) for k in names[:4]]
    print(f"| reference | {' | '.join(values)} | floor {runs[0]['mmd_floor']:.2f} | | | |")


def _less(runs: dict, others: dict, name: str) -> str:
    gaps = [run[name] - others[seed][name] for seed, run in runs.items() if seed in others]
    return f"{mean(gaps):+.3f} ± {error(gaps):.3f}" if runs is not others else ""


def main() -> None:
    quiet()
    path = Path(sys.argv[2]) if len(sys.argv) > 2 else RESULTS
    doing = sys.argv[1] if len(sys.argv) > 1 else ""
    if doing not in ("noise", "toys", "molecules", "table"):
        raise SystemExit(__doc__)
    if doing == "noise":
        noise()
        return
    if doing != "table":
        {"toys": toys, "molecules": molecules}[doing](path)
    table(path)


if __name__ == "__main__":
    main()
