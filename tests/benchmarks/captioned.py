"""How good the shipped text-to-image pipeline is: the figures of its card.

    python tests/benchmarks/captioned.py                     # recognition, FID with its floor; one thread, minutes
    python tests/benchmarks/captioned.py --source FILE.npz   # and the nearest training pictures

Samples are those of plain diffusers with guidance 2, eta 1 and 20 steps.
"""

import argparse
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

warnings.simplefilter("ignore")
sys.path.insert(0, str(Path(__file__).parents[2]))

from domains.images.captioned import captions, judge, scorer  # noqa: E402
from domains.images.metrics import fid, nearest_real_distance  # noqa: E402
from domains.images.pixels import pil_to_tensor, to_float, to_pil  # noqa: E402
from graft.io.paths import find_file  # noqa: E402

REFERENCE = Path("domains/images/captioned/reference")
SHARE, TRAINING_PICTURES = 0.15, 16  # of domains/images/captioned/train_pipeline.py


def sampled(folder, texts, guidance, seed=0, steps=20, batch=50):
    """Pictures (n, 3, 32, 32) uint8 of the texts, by plain diffusers."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for start in range(0, len(texts), batch):
        some = texts[start : start + batch]
        found += pipe(some, num_inference_steps=steps, guidance_scale=guidance, eta=1.0, generator=generator).images
    return pil_to_tensor(found)


def shares(features, pixels, texts):
    """Shares of pictures of which the judge recognises every part, and each part."""
    right = features.right(to_pil(pixels, [{"prompt": text} for text in texts]))
    parts = {part: np.mean([each[part] for each in right]) for part in judge.PARTS}
    return {"all": np.mean([all(each.values()) for each in right]), **parts}


def shown(name, found, log_odds):
    print(
        f"{name:32s}" + "".join(f"  {part} {value:.3f}" for part, value in found.items()) + f"  reward {log_odds:.2f}"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source")
    parser.add_argument("--pipeline", help="folder of another pipeline")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--out", help="PNG of samples to look at")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    folder = flags.pipeline or find_file(REFERENCE / "pipeline/model_index.json").parent
    features = judge.JudgeFeatures()
    towers = scorer.load_scorer(REFERENCE / "scorer.safetensors")

    def reward(pixels, texts):
        cosine = (towers.of_pictures(to_float(pixels)) * towers.of_captions(texts)).sum(1)
        return float((towers.scale.exp() * cosine + towers.bias).mean())

    with np.load(find_file(REFERENCE / "pictures.npz")) as stored:
        real = torch.from_numpy(stored["images"]).movedim(-1, 1).contiguous()
        texts = [str(text) for text in stored["prompts"]]
    apart = [captions.held_out(captions.parse(text), SHARE) for text in texts]
    for name, wanted in (("real, seen pairs", False), ("real, held-out pairs", True)):
        rows = [i for i, out in enumerate(apart) if out == wanted]
        some = [texts[i] for i in rows]
        shown(f"{name} ({len(rows)})", shares(features, real[rows], some), reward(real[rows], some))
    chosen = random.Random(0)
    drawn = []
    for name, part in zip(("sampled, seen", "sampled, held-out"), captions.split(SHARE), strict=True):
        some = [caption.text() for caption in chosen.choices(part, k=flags.count)]
        pixels = sampled(folder, some, flags.guidance)
        drawn.append(pixels)
        shown(f"{name} ({flags.count})", shares(features, pixels, some), reward(pixels, some))
    if flags.out:
        from domains.images.grid import render_grid

        Path(flags.out).write_bytes(render_grid(to_pil(torch.cat([part[:40] for part in drawn]))))
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    first, second = (features.of_pixels(real[rows]) for rows in order.chunk(2))
    n = min(len(first), flags.count)
    print(f"FID (judge's features, {n} each)  sampled {fid(first[:n], features.of_pixels(drawn[0])[:n]):.2f}", end="")
    print(f"  floor (two halves) {fid(first[:n], second[:n]):.2f}")
    if flags.source:
        from domains.images.captioned.scenes import Scenes
        from graft.core import seeding

        scenes, seen = Scenes(flags.source), captions.split(SHARE)[0]
        training = [
            scenes.draw([caption] * TRAINING_PICTURES, seeding.make_generator(0, "latents", i))
            for i, caption in enumerate(seen)
        ]
        flat = to_float(torch.cat(training)).flatten(1)
        fresh = scenes.draw(random.Random(1).choices(seen, k=200), seeding.make_generator(7, "fresh"))
        for name, part in (("sampled", drawn[0][:200]), ("fresh real pictures", fresh)):
            apart = nearest_real_distance(flat, to_float(part).flatten(1))
            print(f"nearest training picture, {name}: {apart:.3f} (root mean square, pixels in [-1, 1])")


if __name__ == "__main__":
    main()
