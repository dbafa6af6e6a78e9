"""The domain in graft: networks, latents, conditions, and the commands on a tiny model."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL, UNet2DModel
from PIL import Image

import graft
from domains.images import Images
from domains.images.autoencoder import Autoencoder
from domains.images.backbone import PatchUNet, UNet
from domains.images.data import ImageData
from domains.images.features import Pixels
from domains.images.keys import PerceptualHash
from graft import commands
from graft.cli import IGNORED_WARNINGS as QUIETED
from graft.cli import main
from graft.core.state import take
from graft.process import BetaSchedule, CosineSchedule, Gaussian, LinearSchedule

TINY = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 8),
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "add_attention": False,
}
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]


def config(classes: "int | None" = None, channels: int = 1) -> dict:
    given = {**TINY, "in_channels": channels, "out_channels": channels, "num_class_embeds": classes, "time_scale": 1000}
    network = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    return {
        "model": {
            "class_path": "domains.images.Images",
            "init_args": {
                "classes": classes,
                "backbone": {"class_path": "domains.images.backbone.UNet", "init_args": network},
                "process": {
                    "class_path": "graft.process.Gaussian",
                    "init_args": {
                        "schedule": {"class_path": "graft.process.CosineSchedule"},
                        "prediction_type": "v",
                        "shape": [channels, 8, 8],
                    },
                },
                "steps": 4,
            },
        },
        "trainer": {"accelerator": "cpu"},
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pictures_of(folder: Path, classes: int, count: int = 8) -> None:
    """Colour pictures in a folder for each class, 12 x 10 pixels, of the class's colour."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / "data" / f"class {label}").mkdir(parents=True)
        for i in range(count):
            array = rng.integers(0, 100, (10, 12, 3), np.uint8)
            array[..., label] += 120
            Image.fromarray(array).save(folder / "data" / f"class {label}" / f"{i}.png")


def refused(*args: str, capsys: pytest.CaptureFixture) -> str:
    capsys.readouterr()
    assert main(list(args)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("graft: "), lines
    return lines[0]


def test_the_network_is_diffusers_own(tmp_path: Path) -> None:
    """Same parameters, same outputs; a folder of its own kind of weights is read."""
    torch.manual_seed(0)
    theirs = UNet2DModel(**TINY, num_class_embeds=3).eval()
    theirs.save_pretrained(tmp_path)
    ours = UNet(**TINY, num_class_embeds=3)
    weights = str(tmp_path / "diffusion_pytorch_model.safetensors")
    module = Images(ours, Gaussian(BetaSchedule(), "eps", [1, 8, 8]), weights=weights, classes=3, steps=4)
    x, t, label = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 700.0]), torch.tensor([0, 2])
    with torch.no_grad(), module.policy.eval_weights():
        assert torch.equal(module.policy.backbone(x, t, {"label": label}), theirs(x, t, label).sample)
        fast = UNet(**TINY, time_scale=1000).eval()
        again = UNet2DModel(**TINY).eval()
        again.load_state_dict(fast.state_dict())
        assert torch.equal(fast(x, t / 1000, {"label": label}), again(x, t / 1000 * 1000).sample)


def test_network_of_patches() -> None:
    """It is a UNet of the patches, each value of which is a channel; no pixel changes its place."""
    torch.manual_seed(0)
    shape = {name: value for name, value in TINY.items() if name not in ("sample_size", "in_channels", "out_channels")}
    network = PatchUNet(2, 16, 3, num_class_embeds=3, **shape).eval()
    assert network.unet.config.sample_size == 8 and network.unet.config.in_channels == 12
    x, t, condition = torch.randn(2, 3, 16, 16), torch.tensor([0.2, 0.9]), {"label": torch.tensor([0, 2])}
    patches = torch.stack([x[:, :, i::2, j::2] for i in range(2) for j in range(2)], 2).flatten(1, 2)
    with torch.no_grad():
        found, wanted = network(x, t, condition), network.unet(patches, t, condition).unflatten(1, (3, 4))
    for place, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert torch.equal(found[:, :, i::2, j::2], wanted[:, :, place])
    process = Images(network, classes=3).policy.process
    assert isinstance(process, Gaussian) and process.shape == (3, 16, 16)
    with pytest.raises(graft.GraftError, match="patch_size is 3; it must divide sample_size, which is 16"):
        PatchUNet(3, 16, **shape)


def test_conditions_and_groups() -> None:
    module = Images(UNet(**TINY, num_class_embeds=3), Gaussian(CosineSchedule(), "v", [1, 8, 8]), classes=3)
    module.dataset_statistics["labels"] = torch.tensor([1, 0, 3])
    drawn = module.sample_conditions(4000, torch.Generator().manual_seed(0))
    often = module.group(drawn).bincount(minlength=3) / 4000
    assert often[1] == 0 and abs(float(often[2]) - 0.75) < 4 * (0.75 * 0.25 / 4000) ** 0.5
    images = module.decode(torch.zeros(3, 1, 8, 8), take(drawn, slice(3)))
    assert [image.info["label"] for image in images] == drawn["label"][:3].tolist()
    plain = Images(UNet(**TINY), Gaussian(CosineSchedule(), "v", [1, 8, 8]), keys=PerceptualHash())
    assert plain.sample_conditions(2, torch.Generator())["row"].shape == (2,)
    assert plain.decode(torch.zeros(1, 1, 8, 8), {"row": torch.zeros(1)})[0].info == {}
    assert plain.key(images[0]) == plain.key(images[1])


def test_default_process_has_the_size_of_the_network() -> None:
    process = Images(UNet(**{**TINY, "sample_size": 16})).policy.process
    assert isinstance(process, Gaussian) and process.shape == (TINY["in_channels"], 16, 16)
    assert process.prediction_type == "v" and isinstance(process.schedule, CosineSchedule)
    with pytest.raises(graft.GraftError, match=r"sample_size and in_channels.*give model\.process"):
        Images(torch.nn.Linear(2, 2))
    with pytest.raises(graft.GraftError, match="the model has no network"):
        Images()


@pytest.mark.parametrize(("shape", "words"), [([2, 8, 8], "not 2"), ([8, 8], "height, width")])
def test_shapes_that_are_no_pictures(shape: list[int], words: str) -> None:
    with pytest.raises(graft.GraftError, match=words):
        Images(UNet(**TINY), Gaussian(CosineSchedule(), "v", shape))


def test_latents(tmp_path: Path, folder: Path) -> None:
    """An autoencoder's latents are the state; pictures are what diffusers decodes of them."""
    torch.manual_seed(0)
    network = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=2,
        scaling_factor=0.5,
        shift_factor=0.25,
    ).eval()
    network.save_pretrained(tmp_path / "vae")
    autoencoder = Autoencoder(str(tmp_path / "vae"), batch_size=2)
    pixels = torch.rand(5, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        clean = network.encode(pixels).latent_dist.mode()
        assert torch.allclose(autoencoder.encode(pixels), (clean - 0.25) * 0.5, atol=1e-6)
        back = network.decode(clean).sample
    assert torch.allclose(autoencoder.decode(autoencoder.encode(pixels)), back, atol=1e-5)
    net = {**TINY, "in_channels": 2, "out_channels": 2}
    module = Images(
        UNet(**net), Gaussian(LinearSchedule(), "velocity", [2, 8, 8], eta=0), autoencoder=autoencoder, steps=2
    )
    assert not [name for name in module.state_dict() if "decoder" in name or "encoder" in name]
    pictures_of(folder, 2)
    data = ImageData("data", size=16, batch_size=8)
    for message in QUIETED:
        warnings.filterwarnings("ignore", message)
    summary = commands.pretrain(module, data, "run", graft.trainer(1, enable_progress_bar=False), draws=8)
    assert summary["reference"]["n"] == 8
    with Image.open("run/samples/reference.png") as sheet:
        assert sheet.size[0] > 0
    assert np.load("run/samples/reference.npz")["images"].shape == (8, 16, 16, 3)
    with pytest.raises(graft.GraftError, match="holds no autoencoder"):
        Autoencoder(str(tmp_path / "data"))


def test_from_a_folder_to_a_tuned_model(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """Pictures of two classes and sizes, one broken, through every command."""
    pictures_of(folder, 2)
    (folder / "data/class 1/broken.png").write_bytes(b"no picture")
    given = config(classes=2, channels=3)
    data = {"class_path": "domains.images.data.ImageData", "init_args": {"source": "data", "size": 8, "batch_size": 8}}
    (folder / "pretrain.yaml").write_text(yaml.safe_dump(given | {"data": data}))
    assert main(["pretrain", "--config", "pretrain.yaml", *QUIET, "--trainer.max_epochs=2", "--run_dir", "ref"]) == 0
    assert (folder / "ref/invalid_records.csv").read_text().splitlines()[1].startswith("class 1/broken.png,")
    summary = json.loads((folder / "ref/summary.json").read_text())
    assert summary["invalid"] == 1 and summary["reference"]["coverage_floor"] is not None
    given["model"]["init_args"] |= {"weights": "ref/reference.safetensors", "level": 0.25}
    sizes = {"draws": 32, "batch_size": 16, "steps_per_round": 2}
    sizes |= {"evaluation": {"validation_draws": 8, "test_draws": 16}}
    reward = {"class_path": "domains.images.rewards.Brightness"}
    (folder / "fit.yaml").write_text(yaml.safe_dump(given | {"data": {"reward": reward, **sizes}}))
    assert main(["fit", "--config", "fit.yaml", *QUIET, "--run_dir", "run"]) == 0
    summary = json.loads((folder / "run/summary.json").read_text())
    assert summary["tuned"]["n"] == 16 and summary["reference"]["reward_std"] > 0
    for side in ("reference", "tuned"):
        with np.load(folder / f"run/samples/{side}.npz") as arrays:
            assert arrays["images"].shape == (16, 8, 8, 3) and set(arrays["labels"]) <= {0, 1}
            assert arrays["reward"].mean() == pytest.approx(summary[side]["reward"])
        with Image.open(folder / f"run/samples/{side}.png") as sheet:
            assert sheet.format == "PNG"
    assert (folder / "run/report.html").read_text().count("data:image/png") == 3  # both sides, and the hits
    assert main(["sample", "--weights", "run", "-n", "6", "--out", "drawn"]) == 0
    assert len(list((folder / "drawn").glob("*.png"))) == 6
    assert main(["sample", "--weights", "run", "-n", "6", "--out", "drawn.png"]) == 0
    # scores of people are a source: the folder that graft wrote, with a column of ratings
    rows = (folder / "drawn/index.csv").read_text().splitlines()
    rated = [f"{row},{i}" for i, row in enumerate(rows[1:])]
    (folder / "drawn/rated.csv").write_text("\n".join([f"{rows[0]},rating", *rated]))
    source = [
        "--data.source.path=drawn/rated.csv",
        "--data.source.score_column=rating",
        "--data.reward.class_path=domains.images.rewards.Brightness",
    ]
    assert main(["fit", "--config", "fit.yaml", *source, *QUIET, "--run_dir", "rated"]) == 0
    assert json.loads((folder / "rated/summary.json").read_text())["rounds"][0]["draws"] == 6
    # the known keys are those of the training pictures
    module, _, _ = graft.load("fit.yaml")
    found = ImageData("data", size=8, channels=3).train_set
    images = module.decode(found.pixels / 127.5 - 1, {"label": found.labels})
    assert bool(module.in_training_set([module.key(image) for image in images]).all())
    assert not bool(module.in_training_set(["other"]).any())


def test_data_that_do_not_fit_the_model(folder: Path, capsys: pytest.CaptureFixture) -> None:
    pictures_of(folder, 2)
    (folder / "a.yaml").write_text(yaml.safe_dump(config()))
    (folder / "b.yaml").write_text(yaml.safe_dump(config(classes=1, channels=3)))
    image = ["--data=domains.images.data.ImageData", "--data.source=data", *QUIET]
    first = ["pretrain", "--config", "a.yaml", *image]
    assert "3x10x12 and the process's states 1x8x8" in refused(*first, capsys=capsys)
    message = refused("pretrain", "--config", "b.yaml", *image, "--data.size=8", capsys=capsys)
    assert "model.classes is 1, but 'data' has label 1" in message
    (folder / "data/class 0/0.png").write_bytes(b"broken")
    assert "1 of 16 records" in refused(*first, "--data.max_invalid_fraction=0.01", capsys=capsys)
    Image.new("L", (5, 5)).save(folder / "data/class 0/0.png")
    assert "give data.size" in refused(*first, capsys=capsys)
    assert "give data.channels" in refused(*first, "--data.size=8", capsys=capsys)
    flat = folder / "flat"
    flat.mkdir()
    Image.new("L", (8, 8)).save(flat / "a.png")
    Image.new("L", (8, 8)).save(flat / "b.png")
    given = yaml.safe_dump(config(classes=2))
    (folder / "c.yaml").write_text(given)
    message = refused("pretrain", "--config", "c.yaml", *image[:1], "--data.source=flat", *QUIET, capsys=capsys)
    assert "have no labels" in message


def test_real_pictures_may_be_others_than_those_trained_on(folder: Path) -> None:
    pictures_of(folder, 2)
    net = UNet(**{**TINY, "in_channels": 3, "out_channels": 3})
    process = Gaussian(CosineSchedule(), "v", [3, 10, 12])
    module = Images(net, process, real="data", num_real_images=10, features=Pixels(2))
    assert module.dataset_statistics["images"].shape == (10, 3, 10, 12)
    assert "nearest_floor" in module.metrics()
    assert "nearest_floor" not in Images(UNet(**TINY), Gaussian(CosineSchedule(), "v", [1, 8, 8])).metrics()
