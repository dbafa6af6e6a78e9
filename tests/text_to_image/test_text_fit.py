"""``graft fit`` end to end on tiny pipelines, and plain diffusers that repeats its samples."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel

from graft import cli
from graft.commands.rate import RatedRound
from graft.core import seeding
from graft.io.tensors import read_tensors
from graft.rating.scale import find_scale
from graft.sampler import run_stages

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = [
    *["--config", "text_to_image/sd2.yaml", "--config", "text_to_image/compressibility.yaml"],
    *["--model.dtype", "float32", "--model.steps", "4", "--model.level", "0.5", "--model.num_images_per_prompt", "4"],
    *["--model.optimizer.lr", "0.05", "--model.lr_scheduler", "null", "--model.guidance.guidance_scale", "3"],
    *["--data.accept.draws", "4", "--data.draws", "12", "--data.batch_size", "6", "--data.train_batch_size", "4"],
    *["--data.steps_per_round", "4", "--data.evaluation.validation_draws", "0", "--data.evaluation.test_draws", "4"],
    *["--trainer.accumulate_grad_batches", "1", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"],
    *["--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"],
]


def called(*args: object) -> tuple[int, str]:
    """Return (status, output) of ``graft ARGS``."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            status = cli.main([str(arg) for arg in args])
        except SystemExit as error:  # --print_config's
            status = int(error.code or 0)
    return status, out.getvalue()


def fitted(pipeline: Path, folder: Path, *flags: object) -> Path:
    status, out = called("fit", *SMALL, "--model.weights", pipeline, "--run_dir", folder / "run", *flags)
    assert status == 0, out
    return folder / "run"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, pipelines: dict[str, Path]) -> dict[str, Path]:
    """A finished run of each kind: eps, drawn with noise; a deterministic flow."""
    found: dict[str, Path] = {}
    for kind, eta in (("eps", "1"), ("sd3", "0")):
        folder = tmp_path_factory.mktemp(kind)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            (folder / "prompts.txt").write_text("a red ball\na blue cube\na dog\n")
            found[kind] = fitted(pipelines[kind], folder, "--model.eta", eta)
    return found


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_run(kind: str, runs: dict[str, Path], pipelines: dict[str, Path]) -> None:
    summary = json.loads((runs[kind] / "summary.json").read_text())
    assert summary["objective"] == "P-GRAFT" and summary["level"] == 0.5 and "within each condition" in summary["rule"]
    (account,) = summary["rounds"]
    assert (account["draws"], account["accepted"], account["matched_share"]) == (
        12,
        6,
        1.0,
    )  # two of four of each prompt
    assert summary["denoiser_calls"] == 12 * 4 and account["failed_rewards"] == 0
    tensors, about = read_tensors(runs[kind] / "tuned.safetensors")
    assert {name.split(".")[-2] for name in tensors} <= {"default"}
    assert Path(about["reference"]["path"]).name == pipelines[kind].name
    chunk, _ = read_tensors(runs[kind] / "rounds/0/chunk_00000.safetensors")
    assert {name: tuple(t.shape) for name, t in chunk.items()} == {
        "state": (6, 4, 8, 8),
        "step/2": (6, 4, 8, 8),
        "condition/prompt": (6,),
    }
    with np.load(runs[kind] / "samples/tuned.npz") as stored:
        assert stored["images"].shape == (4, 16, 16, 3) and set(stored["prompts"]) <= {
            "a red ball",
            "a blue cube",
            "a dog",
        }
    assert (runs[kind] / "samples/tuned.png").read_bytes().startswith(b"\x89PNG")


def test_ratings_of_pictures(runs: dict[str, Path], pipelines: dict[str, Path], folder: Path) -> None:
    """graft rate writes the rated draws with their prompts and states, and graft fit learns from them."""
    run = Path(shutil.copytree(runs["eps"], folder / "rated"))
    (folder / "prompts.txt").write_text("a red ball\na blue cube\na dog\n")
    module, _, _ = _loaded(run)
    rated = RatedRound(module, run, 1, find_scale("keep", "--scale"))
    for place in range(8):
        rated.ratings.rate(rated.name(place), place % 2)
    status, out = called("rate", run, "--write_only", "--trust", "--out", folder / "pictures")
    assert status == 0 and "8 ratings (4 drop, 4 keep)" in out, out
    with open(folder / "pictures/index.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chunk, _ = read_tensors(run / "rounds/0/chunk_00000.safetensors")
    wanted = [["a red ball", "a blue cube", "a dog"][i] for i in chunk["condition/prompt"].tolist()]
    assert [row["prompt"] for row in rows][:6] == wanted
    path = run / "ratings/round_1.safetensors"
    tensors, _ = read_tensors(path)
    assert torch.equal(tensors["step/2"][:6], chunk["step/2"])  # the draws' own states at the level
    source = ["--data.source.path", path, "--data.source.score_column", "rating", "--data.reward", "null"]
    accept = ["--data.accept", "graft.accept.Threshold", "--data.accept.minimum", "1"]
    tuned = fitted(pipelines["eps"], folder, "--model.eta", "1", *source, *accept)
    (account,) = json.loads((tuned / "summary.json").read_text())["rounds"]
    assert (account["draws"], account["accepted"], account["reward_calls"]) == (8, 4, 0)


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_plain_diffusers_repeats_the_samples(kind: str, runs: dict[str, Path]) -> None:
    """With the adapter in diffusers' format and the hand-over as a callback; neither alone is enough."""
    folder = runs[kind] / "diffusers"
    about = json.loads((folder / "graft.json").read_text())
    model, _, _ = _loaded(runs[kind])
    prompts = [0, 1, 2]
    with model.policy.eval_weights():
        condition = {"prompt": torch.tensor(prompts)}
        ours = run_stages(
            model.policy.sampling_stages("tuned"), condition, model.policy.steps, generator=seeding.make_generator(7)
        ).state
        reference = run_stages(
            model.policy.sampling_stages("reference"),
            condition,
            model.policy.steps,
            generator=seeding.make_generator(7),
        ).state

    spec = importlib.util.spec_from_file_location("exported_handover", folder / "handover.py")
    assert spec is not None and spec.loader is not None
    exported = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(exported)
    missing = {"text_encoder_3": None, "tokenizer_3": None} if kind == "sd3" else {}
    scheduler = DDIMScheduler if kind == "eps" else FlowMatchEulerDiscreteScheduler

    pipe = DiffusionPipeline.from_pretrained(about["pipeline"], **missing)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = scheduler.from_pretrained(folder / "scheduler")
    pipe.load_lora_weights(folder, adapter_name="graft")
    texts = [model.prompts[i].text for i in prompts]

    def theirs(level: float) -> torch.Tensor:
        return pipe(
            texts,
            **about["call"],
            generator=seeding.make_generator(7),
            callback_on_step_end=exported.handover(pipe, level),
            output_type="latent",
        ).images

    scale = float(ours.abs().max())
    for _ in range(2):  # it leaves the pipeline as it was
        torch.testing.assert_close(theirs(about["level"]), ours, rtol=1e-5, atol=1e-5 * scale)
    apart = float((ours - reference).abs().max()) / scale
    assert apart > 1e-2  # the adapter does something
    assert float((theirs(0.0) - ours).abs().max()) / scale > 1e-3  # and so does the hand-over


def _loaded(folder: Path) -> tuple[Any, Any, Any]:
    model, data, trainer = cli.load(_written((folder / "config.yaml").read_text()))
    model.load_weights(folder / "tuned.safetensors")
    return model, data, trainer


def _written(config: str) -> str:
    content = yaml.safe_load(config)
    for key in ("run_dir", "ckpt_path", "weights"):
        content.pop(key, None)
    Path("again.yaml").write_text(yaml.safe_dump(content))
    return "again.yaml"


def test_sample(runs: dict[str, Path], folder: Path) -> None:
    """From the run's folder into a folder of pictures with their prompts."""
    status, out = called("sample", "--weights", runs["sd3"], "--trust", "-n", "4", "--out", "pictures", "--seed", "3")
    assert status == 0, out
    with open(folder / "pictures" / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and {row["prompt"] for row in rows} == {"a red ball", "a blue cube on a table", "a dog"}
    assert sorted(path.name for path in (folder / "pictures").glob("*.png")) == [row["file"] for row in rows]


def test_another_pipeline_is_refused(runs: dict[str, Path], pipelines: dict[str, Path]) -> None:
    flags = ["--data.source", "reference", "--weights", runs["eps"], "--model.weights", pipelines["v"]]
    status, out = called("test", *SMALL, *flags)
    assert status == 2 and "was tuned from another reference" in out


@pytest.mark.parametrize("train", ["guided", "conditional"])
def test_v_prediction(train: str, pipelines: dict[str, Path], folder: Path) -> None:
    """At level 0, GRAFT, in both ways to train with guidance, with an average of the adapter's weights."""
    flags = [
        "--model.level",
        "0",
        "--model.guidance.train",
        train,
        "--model.guidance.prompt_dropout",
        "0.5",
        "--model.tuning.ema_decay",
        "0.5",
    ]
    found = fitted(pipelines["v"], folder, *flags)
    summary = json.loads((found / "summary.json").read_text())
    assert summary["objective"] == "GRAFT"
    assert (found / "diffusers/pytorch_lora_weights.safetensors").exists()


@pytest.mark.slow
def test_ddpo(pipelines: dict[str, Path], folder: Path) -> None:
    flags = ["--config", "text_to_image/ddpo.yaml", "--data.draws", "12", "--data.steps_per_round", "2"]
    common = [flag for flag in SMALL if flag not in ("--data.accept.draws",)]
    at = common.index("12") - 1
    common = common[: at - 1] + common[at:]  # without the value of the flag that All does not have
    out = folder / "run"
    status, message = called(
        "fit", *common, *flags, "--trainer.max_epochs", "1", "--model.weights", pipelines["v"], "--run_dir", out
    )
    assert status == 0, message
    assert json.loads((out / "summary.json").read_text())["objective"] == "policy gradient (DDPO)"


@pytest.mark.slow
def test_whole_network(pipelines: dict[str, Path], folder: Path) -> None:
    """Without LoRA the network itself is exported, and the hand-over is to the reference's network."""
    found = fitted(pipelines["eps"], folder, "--model.lora", "null", "--model.optimizer.lr", "0.01", "--model.eta", "0")
    about = json.loads((found / "diffusers/graft.json").read_text())
    assert about["lora"] is False
    model, _, _ = _loaded(found)
    with model.policy.eval_weights():
        condition = {"prompt": torch.tensor([0, 1])}
        ours = run_stages(
            model.policy.sampling_stages("tuned"), condition, model.policy.steps, generator=seeding.make_generator(7)
        ).state
    pipe = DiffusionPipeline.from_pretrained(about["pipeline"])
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_pretrained(found / "diffusers/scheduler")
    reference, pipe.unet = pipe.unet, UNet2DConditionModel.from_pretrained(found / "diffusers/unet")
    from domains.images.text.handover import handover

    theirs = pipe(
        [model.prompts[i].text for i in (0, 1)],
        **about["call"],
        generator=seeding.make_generator(7),
        callback_on_step_end=handover(pipe, about["level"], reference=reference),
        output_type="latent",
    ).images
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5 * float(ours.abs().max()))
    assert pipe.unet is not reference


OVERLAYS = sorted(path.name for path in (CONFIGS / "text_to_image").glob("*.yaml") if path.name != "sd2.yaml")


@pytest.mark.parametrize("name", OVERLAYS)
def test_configurations_parse(name: str, folder: Path) -> None:
    """Laid over each configuration that its first line names; some weights are not here, so nothing is built."""
    first = (CONFIGS / "text_to_image" / name).read_text().splitlines()[0]
    bases = [base for base in ("text_to_image/sd2.yaml", "domains/text_to_image.yaml") if base in first]
    assert bases
    for base in bases:
        _check_overlay(base, name)


def _check_overlay(base: str, name: str) -> None:
    status, out = called("fit", "--config", base, "--config", f"text_to_image/{name}", "--print_config")
    assert status == 0, out
    given, wanted = yaml.safe_load(out), yaml.safe_load((CONFIGS / "text_to_image" / name).read_text())
    for path, value in _leaves(wanted):
        found = given
        for key in path:
            found = found[key]
        assert found == value, path


def _leaves(value: Any, *path: str) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, dict):
        return [(path, value)]
    return [leaf for key, inner in value.items() for leaf in _leaves(inner, *path, key)]


def test_no_weights_to_be_had(folder: Path) -> None:
    """The configuration of SD v2 as it ships, without a connection: one sentence."""
    status, out = called("fit", "--config", "text_to_image/sd2.yaml", "--trainer.accelerator", "cpu")
    assert status == 2 and len(out.strip().splitlines()) == 1
    assert "'stabilityai/stable-diffusion-2-base' is no folder here, and cannot be had from the hub" in out
