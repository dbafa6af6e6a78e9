"""The reference's samples are those of diffusers' own pipeline call, and the schedule is the scheduler's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, EulerDiscreteScheduler, PNDMScheduler

from domains.images.classifier import ClassifierFeatures
from domains.images.text import Guidance, Memory, TextToImage
from domains.images.text.process import process, sampling_scheduler
from graft import GraftError
from graft.core import seeding
from graft.sampler import Trajectory, run_stages

STEPS = 10
PIXELS = {"flux": 4 * tiny.SIZE}


def module(path: Path, kind: str = "", **settings: Any) -> TextToImage:
    pixels = PIXELS.get(kind)
    given: dict[str, Any] = {"steps": STEPS, "level": 0.5, "height": pixels, "width": pixels}
    given["guidance"] = Guidance(1.0 if kind == "flux" else 4.0)
    return TextToImage(str(path), "prompts.txt", **{**given, **settings})


def drawn(model: TextToImage, prompts: list[int]) -> Trajectory:
    condition = {"prompt": torch.tensor(prompts)}
    with model.policy.eval_weights():
        return run_stages(
            model.policy.sampling_stages("reference"),
            condition,
            model.policy.steps,
            generator=seeding.make_generator(0, "test"),
        )


def theirs(path: Path, model: TextToImage, prompts: list[int], **more: Any) -> Any:
    """Return the samples of the pipeline's own call, with its scheduler or graft's."""
    pipe = DiffusionPipeline.from_pretrained(
        path, **({"text_encoder_3": None, "tokenizer_3": None} if "sd3" in path.name else {})
    )
    if type(pipe.scheduler) is not type(model._pipeline.pipe.scheduler):
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    texts = [model.prompts[i].text for i in prompts]
    guidance = 3.5 if "flux" in path.name else 4.0
    generator = seeding.make_generator(0, "test")
    pixels = PIXELS.get(path.name)
    given = {"num_inference_steps": model.policy.steps, "guidance_scale": guidance, "generator": generator}
    return pipe, pipe(texts, height=pixels, width=pixels, **{**given, **more}).images


@pytest.mark.parametrize("kind", list(tiny.KINDS))
def test_reference_is_the_pipeline(kind: str, pipelines: dict[str, Path]) -> None:
    """Noise, latents and pictures are equal, with guidance, for every family."""
    model, prompts = module(pipelines[kind], kind), [0, 1, 2, 0]
    ours = drawn(model, prompts)
    pipe, latents = theirs(pipelines[kind], model, prompts, output_type="latent")
    if kind == "flux":
        latents = pipe._unpack_latents(latents, PIXELS[kind], PIXELS[kind], pipe.vae_scale_factor)
    torch.testing.assert_close(ours.state, latents, rtol=1e-5, atol=1e-5 * float(latents.abs().max()))
    assert ours.denoiser_calls == STEPS
    _, pictures = theirs(pipelines[kind], model, prompts)
    decoded = model.decode(ours.state, {"prompt": torch.tensor(prompts)})
    off = [np.abs(np.asarray(a, int) - np.asarray(b, int)) for a, b in zip(decoded, pictures, strict=True)]
    assert max(each.max() for each in off) <= 1 and np.mean(off) < 0.01  # rounding
    assert [image.info["prompt"] for image in decoded] == [model.prompts[i].text for i in prompts]


@pytest.mark.parametrize("kind", ["eps", "v"])
def test_stochastic_sampler(kind: str, pipelines: dict[str, Path]) -> None:
    """eta 1 draws the noise that diffusers draws, in its order."""
    model = module(pipelines[kind], eta=1.0)
    _, latents = theirs(pipelines[kind], model, [0, 2], output_type="latent", eta=1.0)
    torch.testing.assert_close(drawn(model, [0, 2]).state, latents, rtol=1e-5, atol=1e-5 * float(latents.abs().max()))


def test_without_guidance_and_with_a_negative_prompt(pipelines: dict[str, Path]) -> None:
    for guidance, more in (
        (Guidance(1.0), {"guidance_scale": 1.0}),
        (Guidance(3.0, negative_prompt="blurry"), {"guidance_scale": 3.0, "negative_prompt": ["blurry"] * 2}),
    ):
        model = module(pipelines["v"], guidance=guidance)
        _, latents = theirs(pipelines["v"], model, [0, 2], output_type="latent", **more)
        torch.testing.assert_close(drawn(model, [0, 2]).state, latents, rtol=1e-5, atol=1e-5)


def test_texts_are_encoded_once_and_pictures_decoded_once(
    pipelines: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, decoded = module(pipelines["eps"]), []
    vae = model._pipeline.pipe.vae
    monkeypatch.setattr(vae, "decode", lambda x, decode=vae.decode, **k: decoded.append(len(x)) or decode(x, **k))
    for _ in range(2):
        model.decode(drawn(model, [0, 0, 1, 2]).state, {"prompt": torch.tensor([0, 0, 1, 2])})
    assert model._texts.calls == 4  # three prompts and the negative one
    assert decoded == [4, 4]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_schedule_is_the_schedulers(prediction: str) -> None:
    """At each level alpha² is that of the table at the sampler's timestep, which is the network's input."""
    scheduler = tiny.scheduler(prediction)
    found = process(sampling_scheduler(scheduler), 8, (4, 8, 8), 0.0)
    scheduler.set_timesteps(8)
    for i, time in enumerate(scheduler.timesteps.tolist()):
        alpha, sigma = found.alpha_sigma((8 - i) / 8)
        torch.testing.assert_close(float(alpha**2), float(scheduler.alphas_cumprod[time]), rtol=1e-6, atol=0)
        assert float(alpha**2 + sigma**2) == pytest.approx(1)
        assert float(found.timestep((8 - i) / 8)) == pytest.approx(time, abs=1e-9)
    assert float(found.alpha_sigma(0.0)[0] ** 2) == pytest.approx(float(scheduler.final_alpha_cumprod), rel=1e-6)
    levels = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert bool((found.log_snr(levels).diff() < 0).all())


def test_schedulers_that_are_solvers_of_the_same_table() -> None:
    given = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    tables = [sampling_scheduler(kind(**given)).alphas_cumprod for kind in (PNDMScheduler, EulerDiscreteScheduler)]
    assert torch.equal(tables[0], tables[1]) and torch.equal(tables[0], tiny.scheduler().alphas_cumprod)


def test_zero_terminal_snr() -> None:
    """alpha is 0 at level 1: v determines x_0, eps does not."""
    changes = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    found = process(sampling_scheduler(tiny.scheduler("v_prediction"), changes), 8, (4, 8, 8), 0.0)
    assert float(found.alpha_sigma(1.0)[0]) == 0
    with pytest.raises(GraftError, match="says nothing about x_0 where alpha is 0"):
        process(sampling_scheduler(tiny.scheduler(), changes), 8, (4, 8, 8), 0.0)


def test_more_noise_than_diffusers_has_is_refused() -> None:
    with pytest.raises(GraftError, match=r"`eta` is 1.5; it must lie in \[0, 1\], as in diffusers"):
        process(tiny.scheduler(), 10, (4, 8, 8), 1.5)


def test_steps_that_ddim_cannot_take() -> None:
    trailing = sampling_scheduler(tiny.scheduler(), {"timestep_spacing": "trailing"})
    process(trailing, 8, (4, 8, 8), 0.0)
    with pytest.raises(GraftError, match="take a number of steps that divides 1000"):
        process(trailing, 7, (4, 8, 8), 0.0)
    with pytest.raises(GraftError, match="it must be at most 1000"):
        process(trailing, 1001, (4, 8, 8), 0.0)


def test_which_samplers_reverse_the_process_in_distribution(pipelines: dict[str, Path]) -> None:
    """Target (b) needs this property; a guided sampler does not have it, for any noise."""
    models = {
        (eta, scale): module(pipelines["eps"], eta=eta, guidance=Guidance(scale)) for eta in (0, 1) for scale in (1, 4)
    }
    assert {key: model.policy.process.reverses_in_distribution(0.5) for key, model in models.items()} == {
        (0, 1): False,
        (0, 4): False,
        (1, 1): True,
        (1, 4): False,
    }
    targets = {key: model.objective.target(model.policy, "reference") for key, model in models.items()}
    assert targets[1, 1] == "trajectory" and {targets[0, 1], targets[0, 4], targets[1, 4]} == {"transition"}


def test_memory_settings_change_nothing(pipelines: dict[str, Path]) -> None:
    memory = Memory(True, True, True, True, False)
    plain, spare = module(pipelines["eps"]), module(pipelines["eps"], memory=memory)
    a, b = (drawn(model, [0, 1]).state for model in (plain, spare))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    assert spare._pipeline.network.is_gradient_checkpointing


def test_bfloat16_is_near(pipelines: dict[str, Path]) -> None:
    from graft.network import LoRA

    lora = LoRA(2, 2, ["to_q", "to_v"])
    half = module(pipelines["v"], dtype="bfloat16", lora=lora)
    assert half._pipeline.network.conv_in.weight.dtype == torch.bfloat16
    assert {p.dtype for p in half.policy.backbone.parameters() if p.requires_grad} == {torch.float32}
    a, b = drawn(half, [0, 1]).state, drawn(module(pipelines["v"]), [0, 1]).state
    assert a.dtype == torch.float32
    assert float((a - b).norm() / b.norm()) < 0.05


def test_conditions_are_prompts_in_turn(pipelines: dict[str, Path], folder: Path) -> None:
    """M draws of each prompt in a row, for any size of the chunks; the evaluation has other prompts."""
    (folder / "other.txt").write_text("a house\na tree\n")
    model = module(pipelines["eps"], num_images_per_prompt=4, evaluation_prompts="other.txt")

    def prompts_of(chunk: int, *purpose: int | str) -> list[int]:
        generator = torch.Generator()
        return [
            i
            for s in range(0, 24, chunk)
            for i in model.conditions_for(purpose, s, chunk, generator)["prompt"].tolist()
        ]

    first = prompts_of(8, "rollout", 0)
    assert first == prompts_of(6, "rollout", 0) == first[:12] * 2
    assert all(len(set(first[i : i + 4])) == 1 for i in range(0, 24, 4)) and set(first) == {0, 1, 2}
    assert len({tuple(prompts_of(8, "rollout", number)) for number in range(8)}) > 1
    judged = prompts_of(8, "test")
    assert set(judged) == {3, 4} and judged[:2] * 12 == judged
    assert model.group({"prompt": torch.tensor(first)}).tolist() == first


def test_metrics_against_real_pictures(pipelines: dict[str, Path], folder: Path) -> None:
    """Diversity always; distances where there are real pictures, which are scaled to the model's own size."""
    pictures = np.random.default_rng(0).integers(0, 256, (12, 24, 24, 3), dtype=np.uint8)
    np.savez(folder / "real.npz", images=pictures)
    appearance = ["colour_entropy", "saturation", "edge_density", "distinct"]
    assert list(module(pipelines["eps"]).metrics()) == ["diversity", *appearance]
    model = module(pipelines["eps"], real="real.npz", features=ClassifierFeatures())
    pixels = model.policy.process.shape[1] * model._pipeline.pipe.vae_scale_factor
    assert model.real is not None and model.real.shape == (12, 3, pixels, pixels)
    metrics = model.metrics()
    assert {"fid", "fid_floor", "kid", "coverage", "nearest", "diversity"} <= metrics.keys()
    drawn_ones = model.decode(drawn(model, [0, 1, 2, 0]).state, {"prompt": torch.tensor([0, 1, 2, 0])})
    metrics["nearest"].update(drawn_ones)
    assert 0 < float(metrics["nearest"].compute()) < 2
    with pytest.raises(GraftError, match="the pictures are 16x32: leave it out"):
        module(pipelines["eps"], real="real.npz", height=32, width=16)
