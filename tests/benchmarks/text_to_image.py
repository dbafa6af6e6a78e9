"""Rollouts through graft against the same diffusers pipeline called directly: the same batch, steps and guidance.

    python tests/benchmarks/text_to_image.py            # ratio of images a second, pair by pair
    python tests/benchmarks/text_to_image.py --device cuda --size v2 [--compile]   # in bfloat16, a UNet of SD v2's size
    python tests/benchmarks/text_to_image.py --device cuda --size sd3 [--compile]  # the transformer of SD 3.5 medium
    python tests/benchmarks/text_to_image.py memory 8   # peak memory of a process that samples in so many steps
    python tests/benchmarks/text_to_image.py cost       # FLOPs of the denoisers that configurations name

The pipeline is a small Stable Diffusion of random weights (6 million parameters), made on the spot: what graft adds to
a step does not depend on the network, so that a larger one only hides it. On a processor what counts is its time, on an
accelerator the clock's.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "text_to_image"))
warnings.simplefilter("ignore")

BATCH, STEPS, PAIRS = 4, 20, 9
PROMPTS = ["a red ball", "a blue cube"]


SMALL = {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": (64, 128, 128),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": 8,
}
V2 = {"sample_size": 64, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
MEDIUM = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 384,
    "qk_norm": "rms_norm",
    "dual_attention_layers": tuple(range(13)),
}
SIZES = {"small": SMALL, "v2": V2, "sd3": MEDIUM}
KEPT = ("patch_size", "in_channels", "out_channels", "joint_attention_dim", "pooled_projection_dim")  # the tiny parts'


def saved(folder: Path, size: str = "small", device: str = "cpu") -> Path:
    """Write a pipeline with a network of the given size on latents of 64 x 64, or 16 x 16 if small."""
    import tiny
    from diffusers import SD3Transformer2DModel, UNet2DConditionModel

    given = SIZES[size]
    with torch.device(device):
        if size == "sd3":
            pipe = tiny.stable_diffusion_3(third=True)
            given = {**given, **{name: pipe.transformer.config[name] for name in KEPT}, "sample_size": 64}
            pipe.transformer = SD3Transformer2DModel(**given)
        else:
            pipe = tiny.stable_diffusion()
            pipe.unet = UNet2DConditionModel(cross_attention_dim=tiny.CROSS, **given)
    denoiser(pipe).to(torch.float32 if device == "cpu" else torch.bfloat16)
    pipe.save_pretrained(folder)
    return folder


def denoiser(pipe) -> torch.nn.Module:
    return pipe.transformer if hasattr(pipe, "transformer") else pipe.unet


def opened(folder: Path, steps: int, device: str = "cpu", compile: bool = False):
    """(our module, the pipeline itself with the same scheduler); on an accelerator in bfloat16."""
    from diffusers import DiffusionPipeline

    from domains.images.text import Guidance, TextToImage
    from graft.network import LoRA
    from graft.policy import Tuning

    half = device != "cpu"
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    model = TextToImage(
        str(folder),
        str(folder / "prompts.txt"),
        steps=steps,
        level=0.0,
        guidance=Guidance(4.0),
        num_images_per_prompt=BATCH // len(PROMPTS),
        dtype="bfloat16" if half else "float32",
        lora=LoRA(4, 4, ["to_q", "to_v"]) if half else None,
        tuning=Tuning(compile=compile),
    ).to(device)
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=torch.bfloat16 if half else torch.float32).to(device)
    if compile:
        denoiser(pipe).compile()
    pipe.scheduler = model._pipeline.pipe.scheduler
    pipe.set_progress_bar_config(disable=True)
    return model, pipe


def now(device: str) -> float:
    """Seconds: the processor's own, or the clock's once an accelerator is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def ours(model, seed: int):
    """A rollout as a round draws it, and its pictures as the reward gets them: (final latents, pictures)."""
    from graft.core.datatypes import SampleRequest

    condition = model.conditions_for(("rollout", 0), 0, BATCH, torch.Generator())
    condition = {name: value.to(model.device) for name, value in condition.items()}
    with torch.no_grad():
        drawn = model.predict_step(SampleRequest(condition, (seed,), "reference", (0.5,)))
        return drawn.state, model.decode(drawn.state, condition)


def theirs(model, pipe, seed: int, output: str = "pil"):
    """The same prompts through the pipeline's own call."""
    from graft.core import seeding

    condition = model.conditions_for(("rollout", 0), 0, BATCH, torch.Generator())
    texts = [model.prompts[i].text for i in condition["prompt"].tolist()]
    generator = seeding.make_generator(model.seed, seed)
    given = {"num_inference_steps": model.policy.steps, "guidance_scale": 4.0, "generator": generator}
    return pipe(texts, output_type=output, **given).images


def compare(device: str = "cpu", size: str = "small", compile: bool = False) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        model, pipe = opened(saved(Path(name), size, device), STEPS, device, compile)
        million = sum(p.numel() for p in denoiser(pipe).parameters()) / 1e6
        latents, _ = ours(model, 0)  # warm, too
        off = float((latents - theirs(model, pipe, 0, "latent")).abs().max() / latents.abs().max())
        ratios, seconds = [], []
        for pair in range(1, PAIRS + 1):
            taken = {}
            for who in ("ours", "theirs") if pair % 2 else ("theirs", "ours"):
                start = now(device)
                ours(model, pair) if who == "ours" else theirs(model, pipe, pair)
                taken[who] = now(device) - start
            ratios.append(taken["theirs"] / taken["ours"])
            seconds.append(taken["theirs"])
        how = "one thread, processor time" if device == "cpu" else f"{torch.cuda.get_device_name()}, bfloat16"
        how += ", compiled" if compile else ""
        kind = type(denoiser(pipe)).__name__
        print(f"{kind} of {million:.1f} M parameters, {BATCH} images, {STEPS} steps, guidance 4, {how}")
        print(f"largest difference of the latents: {off:.1e} of the largest latent")
        print(f"seconds of the pipeline's call: {statistics.median(seconds):.2f}")
        print(f"images a second, graft / diffusers: median {statistics.median(ratios):.3f}", end=", ")
        print(f"{min(ratios):.3f} to {max(ratios):.3f} over {PAIRS} pairs")
        if device != "cpu":
            peaks = [peak(lambda: ours(model, 0)), peak(lambda: theirs(model, pipe, 0))]
            print("memory beyond the weights, GiB: graft {:.2f}, diffusers {:.2f}".format(*peaks), end="; ")
            print(f"both networks with all else: {torch.cuda.memory_allocated() / 2**30:.2f}")
        prompts = {"encoded": model._texts.calls, "prompts and the negative one": len(PROMPTS) + 1}
        print(", ".join(f"{key}: {value}" for key, value in prompts.items()))


def peak(call) -> float:
    """Return the largest memory of a call beyond what is allocated before it, in GiB."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def memory(steps: int) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        model, _ = opened(saved(Path(name)), steps)
        ours(model, 0)
        print(f"{steps} steps: peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def cost() -> None:
    """Multiply-adds are two operations; parameters lie on no device, so that the real sizes cost nothing."""
    from diffusers import SD3Transformer2DModel, UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    v2 = {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
    xl = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (320, 640, 1280),
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "use_linear_projection": True,
    }
    with torch.device("meta"), torch.no_grad():
        time_ids = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
        pooled = {"pooled_projections": torch.empty(1, 2048)}
        for name, build, size, channels, text, more in (
            ("SD v2, 512 pixels", lambda: UNet2DConditionModel(sample_size=64, **v2), 64, 4, (77, 1024), {}),
            ("SD v2, 768 pixels", lambda: UNet2DConditionModel(sample_size=96, **v2), 96, 4, (77, 1024), {}),
            (
                "SDXL, 1024 pixels",
                lambda: UNet2DConditionModel(sample_size=128, **xl),
                128,
                4,
                (77, 2048),
                {"added_cond_kwargs": time_ids},
            ),
            ("SD 3.5 medium, 1024 pixels", lambda: SD3Transformer2DModel(**MEDIUM), 128, 16, (333, 4096), pooled),
        ):
            network = build().eval()
            with FlopCounterMode(display=False) as counter:
                network(
                    torch.empty(1, channels, size, size),
                    timestep=torch.empty(1),
                    encoder_hidden_states=torch.empty(1, *text),
                    **more,
                )
            million = sum(p.numel() for p in network.parameters()) / 1e6
            one = counter.get_total_flops() / 1e12
            image = 2 * 40 * one  # with guidance
            print(
                f"{name}: {million:.0f} M parameters, {one:.2f} TFLOP a call, {image:.0f} an image of 40 guided steps"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", choices=("compare", "memory", "cost"), default="compare")
    parser.add_argument("steps", nargs="?", type=int, default=STEPS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--compile", action="store_true", help="compile both networks")
    flags = parser.parse_args()
    if flags.what == "compare":
        compare(flags.device, flags.size, flags.compile)
    else:
        {"memory": lambda: memory(flags.steps), "cost": cost}[flags.what]()
