"""What cannot be a pipeline, prompts or a scheduler is refused in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny

from domains.images.text import Guidance, TextToImage
from domains.images.text.process import solver
from graft import GraftError


def refused(weights: object, says: str, prompts: str = "prompts.txt", **settings: Any) -> None:
    with pytest.raises(GraftError, match=says) as told:
        TextToImage(str(weights), prompts, **{"steps": 8, **settings})
    assert "\n" not in str(told.value)


def changed(source: Path, target: Path, name: str, **values: Any) -> Path:
    """A copy of a pipeline with one of its JSON files changed."""
    shutil.copytree(source, target)
    path = target / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return target


def test_no_pipeline(folder: Path, pipelines: dict[str, Path]) -> None:
    (folder / "empty").mkdir()
    refused("empty", "is no diffusers pipeline: it has no model_index.json")
    refused("./nowhere", "there is no folder of a diffusers pipeline at './nowhere'")
    refused("prompts.txt", "there is no folder of a diffusers pipeline")
    refused("nobody/no-such-model", "cannot be had from the hub")
    refused(pipelines["eps"] / "unet", "it has no model_index.json")
    other = changed(pipelines["eps"], folder / "other", "model_index.json", _class_name="KandinskyPipeline")
    refused(other, "is a KandinskyPipeline, but what can be tuned is StableDiffusionPipeline")
    (folder / "empty" / "model_index.json").write_text("{")
    refused("empty", "model_index.json is damaged")


def test_missing_component(folder: Path, pipelines: dict[str, Path]) -> None:
    for part in ("vae", "tokenizer", "text_encoder", "unet"):
        copy = shutil.copytree(pipelines["eps"], folder / part)
        shutil.rmtree(copy / part)
        refused(copy, f"lacks its component '{part}'")
    null = changed(pipelines["sd3"], folder / "null", "model_index.json", text_encoder_2=[None, None])
    refused(null, "lacks its component 'text_encoder_2'")


def test_damaged_weights(folder: Path, pipelines: dict[str, Path]) -> None:
    copy = shutil.copytree(pipelines["eps"], folder / "copy")
    for file in (copy / "unet").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:1000])
    refused(copy, "cannot be loaded as a diffusers pipeline")


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("LCMScheduler", {}, "LCMScheduler cannot be mapped to alpha and sigma: only tables of betas"),
        ("EDMEulerScheduler", {}, "EDMEulerScheduler cannot be mapped"),
        ("DDIMScheduler", {"clip_sample": True}, "clip_sample is set"),
        ("DDPMScheduler", {"thresholding": True, "clip_sample": False}, "thresholding is set"),
        ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}, "stochastic_sampling is set"),
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, "invert_sigmas is set"),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, "is set"),
    ],
)
def test_scheduler_that_cannot_be_mapped(kind: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(GraftError, match=says):
        solver(getattr(diffusers, kind)(**given))


def test_scheduler_of_a_pipeline_that_cannot_be_mapped(folder: Path, pipelines: dict[str, Path]) -> None:
    other = shutil.copytree(pipelines["eps"], folder / "other")
    diffusers.LCMScheduler().save_pretrained(other / "scheduler")
    index = json.loads((other / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "LCMScheduler"]
    (other / "model_index.json").write_text(json.dumps(index))
    refused(other, "the pipeline's LCMScheduler cannot be mapped to alpha and sigma")
    refused(pipelines["eps"], "which DDIMScheduler does not know", scheduler={"spacing": "trailing"})


def test_settings(pipelines: dict[str, Path]) -> None:
    path = pipelines["eps"]
    refused(path, "model.height is 17 pixels", height=17)
    refused(path, "model.dtype is 'half'", dtype="half")
    refused(path, "lost to rounding: use model.lora", dtype="bfloat16")
    refused(path, "model.steps is 0", steps=0)
    refused(path, "images_per_prompt", images_per_prompt=0)
    for given, says in ((0.5, "is 0.5, but it is at least 1"), (float("nan"), "is nan")):
        with pytest.raises(GraftError, match=says):
            Guidance(given)


def test_prompts(folder: Path, pipelines: dict[str, Path]) -> None:
    path = pipelines["eps"]
    for name, text, says in (
        ("empty.txt", "\n \n", "there are no prompts in"),
        ("empty.csv", "prompt\n", "there are no prompts in"),
        ("wrong.csv", "sentence,id\na dog,1\n", "no column 'prompt' or 'caption' or 'text'.*are: sentence, id"),
        ("wrong.jsonl", '{"sentence": "a dog"}\n', "no column 'prompt'"),
        ("broken.jsonl", '{"prompt": "a dog"}\n{"prompt":\n', "line 2 of .* is no JSON"),
        ("broken.json", "[", "is no JSON"),
        ("number.json", "3", "holds int, not a list"),
        ("numbers.json", "[3]", "has a prompt that is int"),
        ("prompts.parquet", "x", "are read from .txt, .csv"),
    ):
        (folder / name).write_text(text)
        refused(path, says, name)
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00\xd8")
    refused(path, "is no text", "binary.txt")
    refused(path, "there is no file 'nowhere.txt'", "nowhere.txt")
    refused(path, "no column 'title'", "prompts.json", **{"prompt_column": "title"}) if (
        (folder / "prompts.json").write_text('[{"prompt": "a dog"}]')
    ) else None


def test_tiny_is_loaded_from_files(pipelines: dict[str, Path]) -> None:
    """What the other tests load is on disk, as a user has it."""
    for kind in tiny.KINDS:
        assert (pipelines[kind] / "model_index.json").exists()
        assert list(pipelines[kind].glob("*/*.safetensors"))
