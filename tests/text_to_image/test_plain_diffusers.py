"""The README's lines for plain diffusers give graft's pictures, for any folder of the pipeline."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from diffusers import StableDiffusionPipeline

from domains import images
from domains.images.text import Guidance, TextToImage
from graft.core import seeding
from graft.network import LoRA
from graft.sampler import run_stages

README = Path(images.__file__).with_name("text") / "README.md"


def folders(kind: str, pipelines: dict[str, Path], folder: Path) -> tuple[Path, dict[str, Any]]:
    """A pipeline's folder of the kind, and the settings that it takes."""
    pipe = StableDiffusionPipeline.from_pretrained(pipelines["eps"])
    pipe.set_progress_bar_config(disable=True)
    if kind == "fp16 variant":
        pipe.to(torch.float16).save_pretrained(folder / "pipe", variant="fp16")
        return folder / "pipe", {"variant": "fp16"}
    if kind == "half precision":
        pipe.to(torch.float16).save_pretrained(folder / "pipe")
        return folder / "pipe", {}
    if kind == "both":  # other weights without the variant
        shutil.copytree(pipelines["v"], folder / "pipe")
        shutil.copytree(pipelines["eps"] / "scheduler", folder / "pipe" / "scheduler", dirs_exist_ok=True)
        for part, name in (
            ("unet", "diffusion_pytorch_model"),
            ("vae", "diffusion_pytorch_model"),
            ("text_encoder", "model"),
        ):
            tensors = pipelines["eps"] / part / f"{name}.safetensors"
            (folder / "pipe" / part / f"{name}.fp16.safetensors").write_bytes(tensors.read_bytes())
        return folder / "pipe", {"variant": "fp16"}
    tiny.stable_diffusion_3(third=True).save_pretrained(folder / "pipe")
    return folder / "pipe", {"skip_components": ["text_encoder_3", "tokenizer_3"]} if kind == "SD 3 without T5" else {}


def lines(run_folder: Path, prompt: str) -> dict[str, Any]:
    """Names after the README's lines were run on a run's folder, with graft's noise and for latents."""
    (text,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for old, new in (
        ('"runs/text_to_image/1/diffusers"', repr(str(run_folder))),
        ('"a red ball"', repr(prompt)),
        ("callback_on_step_end", 'generator=generator, output_type="latent", callback_on_step_end'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    names: dict[str, Any] = {"generator": seeding.make_generator(7)}
    sys.modules.pop("handover", None)
    try:
        exec(compile(text, "README.md", "exec"), names)
    finally:
        sys.path.remove(str(run_folder))
    return names


KINDS = ["fp16 variant", "half precision", "both", "SD 3 without T5"]


@pytest.mark.parametrize("kind", KINDS)
def test_lines(kind: str, pipelines: dict[str, Path], folder: Path) -> None:
    path, settings = folders(kind, pipelines, folder)
    torch.manual_seed(0)
    model = TextToImage(
        str(path),
        "prompts.txt",
        steps=4,
        level=0.5,
        guidance=Guidance(3.0),
        lora=LoRA(2, 2, ["to_q", "to_v"]),
        **settings,
    )
    for name, parameter in model.policy.backbone.named_parameters():
        if "lora_B" in name:  # 0 before it is trained
            torch.nn.init.normal_(parameter)
    condition = {"prompt": torch.tensor([1])}
    with model.policy.eval_weights():
        state = run_stages(
            model.policy.sampling_stages("tuned"), condition, 4, generator=seeding.make_generator(7)
        ).state
        reference = run_stages(
            model.policy.sampling_stages("reference"), condition, 4, generator=seeding.make_generator(7)
        ).state
    model.export(folder / "run")
    found = lines(folder / "run" / "diffusers", model.prompts[1].text)
    scale = float(state.abs().max())
    torch.testing.assert_close(found["image"][None], state, rtol=1e-5, atol=1e-5 * scale)
    assert float((found["image"][None] - reference).abs().max()) > 1e-3 * scale  # the adapter does something
    assert found["pipe"].dtype == torch.float32
    if kind == "SD 3 without T5":
        assert found["pipe"].text_encoder_3 is None and (path / "text_encoder_3").is_dir()
    about = json.loads((folder / "run/diffusers/graft.json").read_text())
    assert about["load"]["variant"] == settings.get("variant") and about["load"]["dtype"] == "float32"


def test_t5_matters(pipelines: dict[str, Path], folder: Path) -> None:
    """The pictures of SD 3 with and without its third text encoder differ, so a dropped one must stay dropped."""
    path, _ = folders("SD 3 with T5", pipelines, folder)
    states = []
    for without in ([], ["text_encoder_3", "tokenizer_3"]):
        model = TextToImage(str(path), "prompts.txt", steps=4, skip_components=without)
        with model.policy.eval_weights():
            condition = {"prompt": torch.tensor([0])}
            states.append(
                run_stages(
                    model.policy.sampling_stages("reference"), condition, 4, generator=seeding.make_generator(7)
                ).state
            )
    assert float((states[0] - states[1]).abs().max()) > 1e-3 * float(states[0].abs().max())


def test_lines_in_half_precision(pipelines: dict[str, Path], folder: Path) -> None:
    """graft keeps latents in single precision, diffusers does not: near, and in the run's own type."""
    lora = LoRA(2, 2, ["to_q", "to_v"])
    model = TextToImage(str(pipelines["eps"]), "prompts.txt", steps=4, level=0.5, dtype="bfloat16", lora=lora)
    condition = {"prompt": torch.tensor([1])}
    with model.policy.eval_weights():
        state = run_stages(
            model.policy.sampling_stages("tuned"), condition, 4, generator=seeding.make_generator(7)
        ).state
    model.export(folder / "run")
    found = lines(folder / "run" / "diffusers", model.prompts[1].text)
    assert found["pipe"].dtype == torch.bfloat16
    assert float((found["image"][None].float() - state).norm() / state.norm()) < 0.1
