"""The pipeline that ships, and the command that fine-tunes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from test_text_fit import CONFIGS, called

from domains.images.captioned import captions, judge, words
from domains.images.text import Guidance, TextToImage
from graft.core import seeding
from graft.io.paths import find_file
from graft.sampler import run_stages

REFERENCE = "domains/images/captioned/reference"


def pipeline() -> Path:
    return find_file(f"{REFERENCE}/pipeline/model_index.json").parent


def test_it_is_small_and_plain() -> None:
    """Below 8 MB with everything that ships for it, without pickle; its tokenizer is that of the captions."""
    files = [path for path in pipeline().parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8e6
    assert {path.suffix for path in files} <= {".json", ".txt", ".safetensors", ".npz", ".md"}
    stored = json.loads((pipeline() / "tokenizer/vocab.json").read_text())
    assert stored == words.vocabulary()[0]
    for path in files:
        if path.suffix in (".json", ".txt", ".md"):
            assert "/work/" not in path.read_text() and "/home/" not in path.read_text()


def test_it_is_trained_by_the_shipped_configuration() -> None:
    """The files are of the networks that the training builds."""
    from domains.images.captioned import networks

    both = networks.text_encoder_and_denoiser(words.tokenizer())
    for part, network in {"vae": networks.autoencoder(), "unet": both["unet"]}.items():
        stored = json.loads((pipeline() / part / "config.json").read_text())
        for name, value in network.config.items():
            if name != "scaling_factor" and not name.startswith("_"):
                assert stored[name] == (list(value) if isinstance(value, tuple) else value), name
    config = yaml.safe_load(find_file("domains/images/captioned/pipeline.yaml").read_text())
    assert config["out"] == f"{REFERENCE}/pipeline"


def module(steps: int) -> TextToImage:
    folder = f"{REFERENCE}/pipeline"
    return TextToImage(folder, f"{REFERENCE}/prompts.txt", steps=steps, eta=1.0, guidance=Guidance(2.0))


def test_its_samples_are_those_of_plain_diffusers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by its name from any folder."""
    from diffusers import StableDiffusionPipeline

    monkeypatch.chdir(tmp_path)
    model = module(4)
    pipe = StableDiffusionPipeline.from_pretrained(pipeline())
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = model._pipeline.pipe.scheduler
    given = {"num_inference_steps": 4, "guidance_scale": 2.0, "eta": 1.0, "output_type": "latent"}
    texts = [model.prompts[i].text for i in (0, 1)]
    theirs = pipe(texts, generator=seeding.make_generator(3), **given).images
    with model.policy.eval_weights():
        stages = model.policy.sampling_stages("reference")
        ours = run_stages(stages, {"prompt": torch.tensor([0, 1])}, 4, generator=seeding.make_generator(3)).state
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command as it ships on a few draws, from a folder of the user's."""
    monkeypatch.chdir(tmp_path)
    small = ["--model.steps", "4", "--data.draws", "16", "--data.batch_size", "16", "--data.steps_per_round", "2"]
    small += ["--data.evaluation.validation_draws", "0", "--data.evaluation.test_draws", "8", "--run_dir", "run"]
    status, out = called("fit", "--config", "domains/text_to_image.yaml", *small, "--trainer.max_epochs", "1")
    assert status == 0, out
    summary = json.loads(Path("run/summary.json").read_text())
    for name in ("recognised", "right_object", "right_colour", "right_background", "fid", "fid_floor", "nearest"):
        assert summary["tuned"][name] is not None, name
    assert summary["objective"] == "anchored P-GRAFT" and summary["level"] == 0.25
    assert "data:image/png" in Path("run/report.html").read_text()
    assert json.loads(Path("run/diffusers/graft.json").read_text())["pipeline"] == str(pipeline())
    unseen = find_file(f"{REFERENCE}/unseen_prompts.txt").read_text().splitlines()
    table = Path("run/samples").glob("*.npz")
    assert unseen and any(table)


@pytest.mark.slow
def test_it_follows_its_prompts() -> None:
    """Pictures follow prompts of the training, by the independent judge."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(pipeline())
    pipe.set_progress_bar_config(disable=True)
    texts = [caption.text() for caption in captions.split(0.15)[0][::10]]
    generator = torch.Generator().manual_seed(0)
    images = pipe(texts, num_inference_steps=20, guidance_scale=2.0, eta=1.0, generator=generator).images
    for image, text in zip(images, texts, strict=True):
        image.info["prompt"] = text
    right = judge.JudgeFeatures().right(images)
    for part, least in (("object", 0.3), ("colour", 0.8), ("background", 0.9)):
        assert sum(each[part] for each in right) > least * len(right)


def test_configs_name_what_ships() -> None:
    config = yaml.safe_load((CONFIGS / "domains/text_to_image.yaml").read_text())["model"]["init_args"]
    assert find_file(config["real"]).is_file() and find_file(config["weights"] + "/model_index.json").is_file()
