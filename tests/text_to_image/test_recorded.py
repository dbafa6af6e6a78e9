"""Pipelines without an adapter of their own: the recorded call repeats the pipeline's, or the pipeline is refused."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import families
import pytest
import tiny
import torch
import yaml
from diffusers import DiffusionPipeline
from typing_extensions import override

from domains.images import pretrained
from domains.images.text import Guidance, TextToImage
from domains.images.text.adapters import RecordedAdapter, StableDiffusion, guided
from domains.images.text.adapters.recorded_call import RecordedCall
from graft import GraftError, cli
from graft.core import seeding
from graft.core.state import Condition
from graft.network import LoRA
from graft.sampler import run_stages

ROOT = Path(__file__).parents[2]
QUICK = ("Z-Image", "Qwen-Image", "Kandinsky 2.2", "Stable Audio")


NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in families.FAMILIES]


def sampled(model: TextToImage, condition: Condition, seed: int) -> torch.Tensor:
    with model.policy.eval_weights():
        stages = model.policy.sampling_stages("reference")
        found = run_stages(stages, condition, model.policy.steps, generator=seeding.make_generator(seed)).state
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_family(name: str, folder: Path) -> None:
    """The row of the documents' table is true, and samples of a certified family are the pipeline's own."""
    family = families.FAMILIES[name]
    row, model = families.benchmark().tried(name, family, folder)
    assert row in (ROOT / "docs/guides/pipelines.md").read_text(encoding="utf-8").splitlines()
    if model is None:
        return
    prompt = model.prompts[1].text
    settings = ("dtype", "variant", "revision")
    left_out = {part: value for part, value in model._pipeline.loaded.items() if part not in settings}
    with pretrained.quiet():
        pipe: Any = DiffusionPipeline.from_pretrained(folder / name, **left_out)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = model._pipeline.pipe.scheduler
    call = model._pipeline.adapter.call_settings(pipe, model._settings)
    ours = sampled(model, {"prompt": torch.tensor([1])}, 7)
    ends = []
    step = pipe.scheduler.step
    pipe.scheduler.step = lambda *a, **k: ends.append(step(*a, **k)) or ends[-1]
    pictures = pipe(
        prompt=prompt,
        **call,
        num_inference_steps=model.policy.steps,
        generator=seeding.make_generator(7),
        output_type="pt",
    )[0]
    scale = float(ours.abs().max())
    torch.testing.assert_close(ours, ends[-1][0].float(), rtol=1e-4, atol=1e-4 * scale)
    decoded = model._pipeline.decode(ours)
    theirs = (torch.as_tensor(pictures).float().reshape(decoded.shape) * 255).clamp(0, 255)
    assert float((decoded - theirs).abs().max()) < 1.6  # rounding


def test_parts_of_a_batch(folder: Path) -> None:
    """Prompts of other lengths are other calls, and each sample keeps its place; the adapter gets gradients."""
    family = families.FAMILIES["Qwen-Image"]
    _, model = families.benchmark().tried("Qwen-Image", family, folder, lora=LoRA(2, 2, ["to_q", "to_v"]))
    assert model is not None
    network, process = model.policy.backbone, model.policy.process
    x = torch.randn(5, *process.shape, generator=torch.Generator().manual_seed(0))
    prompt = torch.tensor([0, 2, 1, 0, 2])
    time = torch.tensor([900.0, 700.0, 500.0, 300.0, 100.0])
    whole = network(x, time, {"prompt": prompt})
    for i in range(5):
        one = network(x[i : i + 1], time[i : i + 1], {"prompt": prompt[i : i + 1]})
        torch.testing.assert_close(one[0], whole[i], rtol=1e-4, atol=1e-4)
    whole.square().mean().backward()
    grads = [p.grad for name, p in network.named_parameters() if "lora_B" in name]
    assert grads and all(grad is not None and float(grad.abs().sum()) > 0 for grad in grads)


@pytest.mark.parametrize("kind", ["eps", "xl"])
def test_as_the_adapter_of_their_own(kind: str, pipelines: dict[str, Path]) -> None:
    """The recorded adapter and the shipped one are one network: guided, without guidance, and the prompt alone."""
    settings: dict[str, Any] = {"steps": 4, "guidance": Guidance(3.0, negative_prompt="blurry")}
    ours = TextToImage(str(pipelines[kind]), "prompts.txt", adapter=RecordedAdapter(), **settings)
    theirs = TextToImage(str(pipelines[kind]), "prompts.txt", **settings)
    x = torch.randn(3, *ours.policy.process.shape, generator=torch.Generator().manual_seed(0))
    time, prompt = torch.tensor([900.0, 500.5, 1.0]), torch.tensor([1, -1, 0])
    for condition in ({"prompt": prompt.clamp(min=0)}, {"prompt": prompt, "alone": prompt}):
        with torch.no_grad():
            found, expected = (each.policy.backbone(x, time, condition) for each in (ours, theirs))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert ours._pipeline.adapter.call_settings(ours._pipeline.pipe, ours._settings) == {
        "guidance_scale": 3.0,
        "negative_prompt": "blurry",
    }


def test_what_is_refused(pipelines: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that cannot be replayed, and a replay that differs from the call: one sentence each."""

    def refused(says: str, kind: str = "xl", scale: float = 4.0, **call: Any) -> None:
        with pytest.raises(GraftError, match=says) as found:
            TextToImage(
                str(pipelines[kind]), "prompts.txt", steps=4, guidance=Guidance(scale), adapter=RecordedAdapter(call)
            )
        assert "\n" not in str(found.value)

    refused("its guidance is not a weighted sum of the branches", scale=1000.0, guidance_rescale=0.7)
    refused("init_args.call has 'colour', which the call of StableDiffusionXLPipeline does not know", colour="red")
    refused("Pipeline cannot be tuned here: its own call fails", negative_prompt=3)
    refused("has a single branch; set it to 1", "flux", 4.0, height=32, width=32, true_cfg_scale=1.0)
    branches = RecordedCall.branches
    monkeypatch.setattr(RecordedCall, "branches", lambda *a, **k: [1.01 * each for each in branches(*a, **k)])
    refused(r"the latents after 2 steps differ from its own by \d", "eps")


def test_named_adapter(pipelines: dict[str, Path]) -> None:
    """An adapter of the user's own is a class."""

    class Loud(StableDiffusion):
        @override
        def call(self, network: Any, x: Any, time: Any, given: Any, guidance: float) -> torch.Tensor:
            return 2 * super().call(network, x, time, given, guidance)

    plain, loud = (
        TextToImage(str(pipelines["eps"]), "prompts.txt", steps=4, adapter=adapter) for adapter in (None, Loud())
    )
    x = torch.ones(1, 4, tiny.SIZE, tiny.SIZE)
    condition = {"prompt": torch.tensor([0])}
    with torch.no_grad():
        one, two = (each.policy.backbone(x, torch.tensor([10.0]), condition) for each in (plain, loud))
    torch.testing.assert_close(two, 2 * one)


@pytest.mark.parametrize(
    "rule", [guided.Guided(1.0, 4.0, 1), guided.Guided(-1.0, 5.0, 0), guided.Guided(-1.0, 4.0, 1, True)]
)
def test_guidance_is_found(rule: guided.Guided) -> None:
    """The rule is found from the outputs of the branches and of the steps alone."""
    torch.manual_seed(0)
    steps = []
    for _ in range(3):
        branches = [torch.randn(1, 4, 5), torch.randn(1, 4, 5)]
        steps.append((branches, rule.mix(branches)))
    found = guided.find(steps, 4.0, 1e-4)
    assert found == rule
    with pytest.raises(GraftError, match="not a weighted sum"):
        guided.find([(b, out + 0.1) for b, out in steps], 4.0, 1e-4)
    with pytest.raises(GraftError, match="the same with and without the prompt"):
        guided.find([([b[0], b[0]], rule.sign * b[0]) for b, _ in steps], 4.0, 1e-4)


def test_configuration(folder: Path) -> None:
    """The adapter and the other ways to begin are settings, on the command line too."""
    flags = [
        "--model.adapter",
        "domains.images.text.adapters.RecordedAdapter",
        "--model.adapter.call",
        "{num_frames: 1}",
    ]
    flags += ["--model.fused_lora.path", "style.safetensors", "--model.single_file_config", "configurations"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        assert cli.main(["fit", "--config", "domains/text_to_image.yaml", *flags, "--print_config"]) == 0
    found = yaml.safe_load(out.getvalue())["model"]["init_args"]
    assert found["adapter"]["class_path"].endswith(".RecordedAdapter")
    assert found["adapter"]["init_args"]["call"] == {"num_frames": 1}
    assert found["fused_lora"]["path"] == "style.safetensors" and found["single_file_config"] == "configurations"
