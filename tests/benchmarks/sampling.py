"""Molecules per second by `graft.sampler.run_stages` against the plainest hand-written loop, same network and steps.

    python tests/benchmarks/sampling.py

Prints the ratio of throughputs, pair by pair in one process, and the peak memory at several numbers of steps.
"""

import subprocess
import sys

import torch
from paired import compare_throughput

import graft
from graft.sampler import Stage, run_stages

DRAWS, STEPS, PAIRS = 256, 24, 15


def plain(net, process, mask, steps, generator):
    """Ancestral sampling of the two fields, written out; the coefficients of all steps are computed once."""
    x_process, h_process = process.fields["x"], process.fields["h"]
    condition, nodes = {"mask": mask}, mask[..., None]

    def centred(x):
        return (x - (x * nodes).sum(1, keepdim=True) / nodes.sum(1, keepdim=True)) * nodes

    x = centred(torch.randn(*mask.shape, 3, generator=generator))
    h = torch.randn(*mask.shape, h_process.shape[1], generator=generator) * nodes
    for i in range(steps, 0, -1):
        u, s = i / steps, (i - 1) / steps
        (alpha, sigma), (alpha_s, sigma_s) = (map(float, x_process.alpha_sigma(v)) for v in (u, s))
        eta = x_process.eta if u > x_process.eta_above else 1.0
        c = min(eta * sigma_s * (sigma**2 - (alpha / alpha_s) ** 2 * sigma_s**2) ** 0.5 / sigma, sigma_s)
        keep = (sigma_s**2 - c**2) ** 0.5 / sigma
        move = alpha_s - alpha * keep
        out = net({"x": x, "h": h}, torch.full((len(mask),), u**x_process.warp), condition)
        x = keep * x + move * centred(out["x"])
        h = keep * h + move * h_process.one_hot_scale * out["h"].softmax(-1) * nodes
        if c > 0:
            x = x + c * centred(torch.randn(x.shape, generator=generator))
            h = h + c * torch.randn(h.shape, generator=generator) * nodes
    return {"x": x, "h": h}


def main():
    torch.set_num_threads(1)
    module, _, _ = graft.load("domains/molecule.yaml")
    module.eval()
    condition = module.sample_conditions(DRAWS, torch.Generator().manual_seed(0))
    stages = [Stage(module.policy.process, module.policy.backbone)]

    def ours(seed):
        return run_stages(stages, condition, STEPS, generator=torch.Generator().manual_seed(seed)).state

    @torch.no_grad()
    def theirs(seed):
        return plain(
            module.policy.backbone, module.policy.process, condition["mask"], STEPS, torch.Generator().manual_seed(seed)
        )

    compare_throughput(ours, theirs, DRAWS, PAIRS)
    for steps in (24, 96, 384):
        code = (
            "import resource, torch, graft; from graft.sampler import Stage, run_stages; torch.set_num_threads(1);"
            "m = graft.load('domains/molecule.yaml')[0].eval();"
            f"c = m.sample_conditions({DRAWS}, torch.Generator().manual_seed(0));"
            "stages = [Stage(m.policy.process, m.policy.backbone)];"
            "run_stages(stages, c, 2, generator=torch.Generator().manual_seed(0));"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
            f"run_stages(stages, c, {steps}, generator=torch.Generator().manual_seed(0));"
            "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
            "print(f'{before / 1024:.0f} MiB after 2 steps, {after / 1024:.0f} MiB')"
        )
        out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        print(f"peak memory at {steps} steps: {out.stdout.strip()}")


if __name__ == "__main__":
    main()
