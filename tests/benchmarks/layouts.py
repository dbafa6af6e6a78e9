"""Layouts per second by `graft.sampler.run_stages` against the plainest hand-written loop, same network and steps.

    python tests/benchmarks/layouts.py

Prints the ratio of throughputs, pair by pair in one process.
"""

import torch
from paired import compare_throughput

import graft
from domains.layouts.conditioning import unconditional
from graft.sampler import Stage, run_stages

DRAWS, PAIRS = 128, 9


def plain(net, process, condition, steps, generator):
    """Ancestral sampling of boxes (predicting v) and classes (logits), written out."""
    there = condition["mask"][..., None]
    box_process, label_process = process.fields["box"], process.fields["label"]
    box = torch.randn(len(there), *box_process.shape, generator=generator) * there
    label = torch.randn(len(there), *label_process.shape, generator=generator) * there
    for i in range(steps, 0, -1):
        u, s = i / steps, (i - 1) / steps
        (alpha, sigma), (alpha_s, sigma_s) = (map(float, box_process.alpha_sigma(v)) for v in (u, s))
        c = sigma_s * (sigma**2 - (alpha / alpha_s) ** 2 * sigma_s**2) ** 0.5 / sigma
        keep = (sigma_s**2 - c**2) ** 0.5 / sigma
        move = alpha_s - alpha * keep
        out = net({"box": box, "label": label}, torch.full((len(there),), u**box_process.warp), condition)
        box = keep * box + move * (alpha * box - sigma * out["box"]) * there
        label = keep * label + move * label_process.one_hot_scale * out["label"].softmax(-1) * there
        if c > 0:
            box = box + c * torch.randn(box.shape, generator=generator) * there
            label = label + c * torch.randn(label.shape, generator=generator) * there
    return {"box": box, "label": label}


def main():
    torch.set_num_threads(1)
    module, _, _ = graft.load("domains/layout.yaml")
    module.eval()
    counts = module.sample_conditions(DRAWS, torch.Generator().manual_seed(0))["mask"]
    condition = unconditional(counts, len(module.names))
    stages, steps = [Stage(module.policy.process, module.policy.backbone)], module.policy.steps

    def ours(seed):
        return run_stages(stages, condition, steps, generator=torch.Generator().manual_seed(seed)).state

    @torch.no_grad()
    def theirs(seed):
        return plain(
            module.policy.backbone, module.policy.process, condition, steps, torch.Generator().manual_seed(seed)
        )

    compare_throughput(ours, theirs, DRAWS, PAIRS)


if __name__ == "__main__":
    main()
