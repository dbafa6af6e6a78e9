"""How time and memory grow with samples, steps, model size, batch and processes, for each domain.

    python tests/benchmarks/cost.py [DOMAIN ...]      # molecule, layout, image
    python tests/benchmarks/cost.py ranks             # one step on 1 and 2 processes, molecules

Each figure is the median of processor times in a process of its own, on one thread; memory is that process's peak.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

WIDER = {  # the network of about twice the width
    "molecule": ["--model.backbone.hidden_dim=128"],
    "layout": ["--model.backbone.width=192"],
    "image": ["--model.backbone.block_out_channels=[64,64]"],
}
REPEATS = 3


def measured(domain, what, amount, steps, wider):
    """Return {seconds, MiB, parameters} of sampling, of a training step, or of loading alone."""
    import torch

    import graft
    from graft.core.datatypes import TrainingBatch
    from graft.sampler import run_stages

    torch.set_num_threads(1)
    shipped, _, _ = module, _, _ = graft.load(f"domains/{domain}.yaml", f"--model.steps={steps}")
    if wider:
        untrained = ["--model.weights=null", "--model.level=0"]
        module, _, _ = graft.load(f"domains/{domain}.yaml", f"--model.steps={steps}", *untrained, *WIDER[domain])
        module.dataset_statistics = shipped.dataset_statistics
    generator = torch.Generator().manual_seed(0)
    condition = module.sample_conditions(amount, generator)
    state = module.policy.process.prior(condition, generator)
    optimizer = torch.optim.AdamW([p for p in module.policy.backbone.parameters() if p.requires_grad], fused=True)

    def draw():
        with module.policy.eval_weights():
            run_stages(
                module.policy.sampling_stages("reference") if not wider else module.policy.sampling_stages("tuned"),
                condition,
                steps,
                (),
                generator,
            )

    def step():
        module.policy.loss(TrainingBatch(state, condition), generator).backward()
        optimizer.step()
        optimizer.zero_grad()

    call = {"draw": draw, "step": step, "nothing": lambda: None}[what]
    call()
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return {
        "seconds": statistics.median(times),
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "parameters": sum(p.numel() for p in module.policy.backbone.parameters()),
    }


def measured_apart(*args):
    out = subprocess.run([sys.executable, __file__, "one", *map(str, args)], check=True, capture_output=True, text=True)
    return json.loads(out.stdout.splitlines()[-1])


def table(domain):
    base = measured_apart(domain, "nothing", 1, 24, 0)
    print(f"\n{domain}: {base['parameters']:,} parameters, {base['MiB']:.0f} MiB with nothing drawn")
    print(f"{'':<42}{'ms':>10}{'us a call':>12}{'MiB':>8}")
    rows = [("draw", n, s, 0) for n, s in ((64, 24), (256, 24), (1024, 24), (256, 6), (256, 96))]
    rows += [("step", n, 24, 0) for n in (16, 64, 256)] + [("draw", 256, 24, 1), ("step", 64, 24, 1)]
    for what, amount, steps, wider in rows:
        found = measured_apart(domain, what, amount, steps, wider)
        calls = amount * (steps if what == "draw" else 1)
        name = f"{what} {amount:>5}" + (f" x {steps} steps" if what == "draw" else " in a batch")
        name += f", {found['parameters']:,} parameters" if wider else ""
        more = found["MiB"] - base["MiB"]
        print(
            f"{name:<42}{1e3 * found['seconds']:>10.1f}{1e6 * found['seconds'] / calls:>12.1f}{more:>8.0f}", flush=True
        )


def ranks():
    """A fit on one and on two processes: what drawing and training take."""
    import tempfile

    few = ["--trainer.max_epochs", "1", "--data.evaluation.validation_draws", "0", "--data.evaluation.test_draws", "8"]
    few += ["--trainer.enable_progress_bar", "false", "--data.reward", "domains.molecules.rewards.Stability"]
    two = ["--config", "trainer/ddp.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", "2"]

    def wall(processes: int, draws: int, steps: int) -> float:
        size = ["--data.draws", str(draws), "--data.steps_per_round", str(steps)]
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            command = [
                "fit",
                "--config",
                "domains/molecule.yaml",
                "--config",
                "molecule/pgraft.yaml",
                *few,
                *size,
                *(two if processes == 2 else []),
            ]
            command += ["--run_dir", f"{folder}/run"]
            subprocess.run([sys.executable, "-m", "graft", *command], check=True, capture_output=True)
            return time.perf_counter() - started

    for processes in (1, 2):  # differences of runs, so that starting up does not count
        least = wall(processes, 256, 50)
        drawing, training = wall(processes, 4352, 50) - least, wall(processes, 256, 1050) - least
        print(
            f"{processes}: {least:.1f} s for 256 draws and 50 steps; 4,096 more draws {drawing:.1f} s, "
            f"1,000 more steps {training:.1f} s"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        domain, what, *numbers = sys.argv[2:]
        print(json.dumps(measured(domain, what, *map(int, numbers))))
    else:
        for name in sys.argv[1:] or WIDER:
            ranks() if name == "ranks" else table(name)
