"""graft compare: every method once, equal counts, the same rows after an interruption, and refusals."""

import csv
import json
import math
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from called import QUIET, TOY, done, run

import graft
from graft.commands import sample_chunks
from graft.commands.compare import cost_callback
from graft.commands.compare.methods import METHODS
from graft.domain.distance import frechet, paired_mmd
from graft.io.checksum import checksum
from graft.io.page import policy
from graft.io.tensors import read_tensors

ALL = ",".join(METHODS)
TRAINED = (
    "graft",
    "pgraft@0.25",
    "all@0.25",
    "rwr",
    "ddpo@0.25",
    "nft@0.25",
    "anchored@0.25",
    "mine@0.25",
    "shared_prefix",
)
MINE = "data: {accept: {class_path: graft.accept.TopK, init_args: {keep: 2, draws: 8}}}"
FEW = ["--data.draws", "128", "--data.evaluation.test_draws", "64", "--data.steps_per_round", "4"]
TIMES = ("training_seconds", "inference_seconds")


def rows(folder: "str | Path") -> list[dict[str, str]]:
    with Path(folder, "compare.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def line(folder: "str | Path", name: str, seed: int = 0) -> dict[str, str]:
    return next(row for row in rows(folder) if (row["line"], row["seed"]) == (name, str(seed)))


def untimed(folder: "str | Path") -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if name not in TIMES} for row in rows(folder)]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy domain, a reference of it and a comparison of all methods."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(TOY / "domains", folder / "domains")
    (folder / "mine.yaml").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done("pretrain", "--config", "domains/mixture/pretrain.yaml", *QUIET, "--run_dir", "pretrained")
        result = done("compare", *toy(folder), "--methods", f"{ALL},mine.yaml", "--seeds", "0,1", "--run_dir", "all")
    (folder / "out.txt").write_text(result.out)
    return folder


def toy(folder: Path) -> list[str]:
    weights = ["--model.weights", str(folder / "pretrained/reference.safetensors")]
    return ["--config", str(folder / "domains/mixture/mixture.yaml"), *weights, *FEW, *QUIET]


@pytest.fixture
def there(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(work)
    return work


def test_a_row_for_every_method_and_seed(there: Path) -> None:
    names = [name.partition("@")[0].partition(":")[0] for name in (row["line"] for row in rows("all"))]
    assert names == 2 * [*METHODS, "mine"]
    assert [row["seed"] for row in rows("all")] == 14 * ["0"] + 14 * ["1"]
    assert all(math.isfinite(float(row["reward"])) for row in rows("all"))
    assert not [name for name in rows("all")[0] if "mmd" in name or "diversity" in name]  # no features: left out


def test_equal_counts(there: Path) -> None:
    """2 rounds of 128 draws, 8 steps of the sampler, 4 of the optimizer; each sort apart."""
    for row in rows("all"):
        trained = row["line"] in TRAINED or row["line"] in ("switch@0.25", "interpolation:0.5")
        early, free = row["line"] == "graft_early:1", row["line"] in ("reference", "best_of:4")
        assert trained + early + free == 1
        share = 1 if trained else 0.5 if early else 0
        assert float(row["training_reward_calls"]) == share * 256
        shared = 4 * 7 / 8 if row["line"] == "shared_prefix" else 0  # eight samples share four of the eight steps
        assert float(row["rollout_denoiser_calls"]) == share * 256 * (8 - shared)
        assert float(row["optimizer_steps"]) == share * 8
        each = 4 if row["line"] == "best_of:4" else 1
        assert float(row["inference_denoiser_calls"]) == each * 64 * 8
        assert float(row["inference_reward_calls"]) == (each * 64 if each > 1 else 0)
        # 64 examples a step: the network alone; 4 or 3 transitions of new and old; new and old; new and drawing
        factor = {"ddpo@0.25": 8, "shared_prefix": 6, "nft@0.25": 2, "anchored@0.25": 2}.get(row["line"], 1)
        assert float(row["training_network_evaluations"]) == share * 8 * 64 * factor
    assert line("all", "ddpo@0.25")["rounds"] == "4" and line("all", "graft")["rounds"] == "2"  # smaller ones


def test_only_what_differs_is_trained(there: Path) -> None:
    """Three methods draw with the one GRAFT run of a seed, which is a run like any other."""
    assert len(list(Path("all/runs").iterdir())) == 2 * len(TRAINED)
    assert {line("all", name)["run"] for name in ("switch@0.25", "interpolation:0.5", "graft_early:1", "graft")} == {
        "graft_seed0"
    }
    summary = json.loads(Path("all/runs/pgraft_0.25_seed1/summary.json").read_text())
    row = line("all", "pgraft@0.25", 1)
    assert float(row["reward"]) == summary["tuned"]["reward"]  # the same samples
    assert float(row["gain"]) == pytest.approx(summary["gain"]["reward"], rel=1e-6)
    assert float(line("all", "reference", 1)["reward"]) == summary["reference"]["reward"]


def test_files(there: Path) -> None:
    content = json.loads(Path("all/compare.json").read_text(), parse_constant=pytest.fail)
    assert content["budget"] == {"reward_calls": 256, "denoiser_calls": 2048, "optimizer_steps": 8}
    about = content["accepted_distribution"]
    assert about["draws"] == 256 and 60 <= about["count"] <= 68 and content["baseline"] == "reference"
    assert len(content["rows"]) == 28 and content["command"].startswith("graft compare --config")
    reward = content["lines"]["graft"]["columns"]["reward"]
    pair = [float(line("all", "graft", seed)["reward"]) for seed in (0, 1)]
    assert reward["mean"] == pytest.approx(sum(pair) / 2) and reward["n"] == 2
    assert reward["half"] == pytest.approx(12.7062 * abs(pair[0] - pair[1]) / 2, rel=1e-4)
    gaps = [pair[seed] - float(line("all", "reference", seed)["reward"]) for seed in (0, 1)]
    assert content["lines"]["graft"]["columns"]["difference"]["mean"] == pytest.approx(sum(gaps) / 2)
    assert Path("all/compare.png").read_bytes().startswith(b"\x89PNG")
    page = Path("all/compare.html").read_text()
    assert policy() in page
    own = ("http-equiv", "http://www.w3.org", "http://purl.org", "http://creativecommons.org", "https://matplotlib.org")
    rest = page
    for name in own:  # the policy, and the names of the picture's formats
        rest = rest.replace(name, "")
    assert "<svg" in page and "graft compare" in page and "http" not in rest
    out = Path("out.txt").read_text()
    assert "graft: 3 of 28: pgraft@0.25, seed 0: trains" in out and "compare.html" in out


def drawn(run: "str | Path", name: str, **changes: float) -> list[float]:
    """Rewards of the test samples, by hand."""
    module, _, trainer = graft.load(
        *("domains/mixture/mixture.yaml", *toy(Path.cwd())[2:]), *(f"--model.{k}={v}" for k, v in changes.items())
    )
    if name:
        module.load_weights(Path(run, name))
    items = [item for part, _ in sample_chunks(module, trainer, 64, "test", chunk=64) for item in part]
    return [item[0] for item in items]


def test_switch_by_hand(there: Path) -> None:
    values = drawn("all/runs/graft_seed0", "tuned.safetensors", level=0.25)
    assert float(line("all", "switch@0.25")["reward"]) == pytest.approx(sum(values) / 64, rel=1e-12)
    values = drawn("all/runs/graft_seed0", "rounds/0/tuned.safetensors", level=0)
    assert float(line("all", "graft_early:1")["reward"]) == pytest.approx(sum(values) / 64, rel=1e-12)


def test_interpolation_by_hand(there: Path) -> None:
    module, _, trainer = graft.load(*("domains/mixture/mixture.yaml", *toy(there)[2:]), "--model.level=0")
    tuned, reference = (
        read_tensors(path)[0] for path in ("all/runs/graft_seed0/tuned.safetensors", "pretrained/reference.safetensors")
    )
    with torch.no_grad():
        for name, parameter in module.policy.backbone.named_parameters():
            parameter.copy_((tuned[f"backbone/{name}"] + reference[f"backbone/{name}"]) / 2)
    values = [item[0] for part, _ in sample_chunks(module, trainer, 64, "test", chunk=64) for item in part]
    assert float(line("all", "interpolation:0.5")["reward"]) == pytest.approx(sum(values) / 64, rel=1e-6)


def test_best_of_by_hand(there: Path) -> None:
    """Four candidates for each condition of all ranks are sampled in one batch."""
    from graft.core.datatypes import SampleRequest
    from graft.core.seeding import make_generator

    module, _, _ = graft.load("domains/mixture/mixture.yaml", *toy(there)[2:])
    label = module.sample_conditions(64, make_generator(0, "condition", "test", 0))["label"]
    state = module.predict_step(SampleRequest({"label": label.repeat_interleave(4)}, ("test", 0), "reference")).state
    best = state[:, 0].reshape(64, 4).max(1).values
    assert float(line("all", "best_of:4")["reward"]) == pytest.approx(float(best.double().mean()), rel=1e-6)


@pytest.mark.parametrize("stop", ["after the first run", pytest.param("in the second run", marks=pytest.mark.slow)])
def test_a_stopped_comparison_goes_on(stop: str, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed comparison has the same rows and keeps the finished ones."""
    from graft import commands
    from graft.commands.compare import run as comparing

    args = ["compare", *toy(there), "--methods", "pgraft,graft,best_of", "--seeds", "0"]
    stopped = tmp_path / "stopped"
    handler = signal.getsignal(signal.SIGINT)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if stop == "after the first run":
            original = comparing.Comparison._row

            def row(self: object, *args: object) -> object:
                return interrupted() if self.rows else original(self, *args)  # type: ignore[attr-defined]

            patch.setattr(comparing.Comparison, "_row", row)
        else:
            step = cost_callback.TrainingCostCallback.on_train_epoch_end

            def epoch(self: cost_callback.TrainingCostCallback, trainer: object, module: object) -> None:
                step(self, trainer, module)
                if "graft_seed0" in str(self.folder) and len(self.rounds) == 2:
                    interrupted()

            patch.setattr(cost_callback.TrainingCostCallback, "on_train_epoch_end", epoch)
        result = run(*args, "--run_dir", stopped)
    signal.signal(signal.SIGINT, handler)
    assert result.status == 130 and "--run_dir" in result.err
    first = (stopped / "compare.csv").read_bytes()
    assert len(rows(stopped)) == 1
    weights = stopped / "runs/pgraft_0.25_seed0/tuned.safetensors"
    before = weights.stat().st_mtime_ns
    result = done(*args, "--run_dir", stopped)
    assert "1 of 3 are there" in result.out
    assert (stopped / "compare.csv").read_bytes().startswith(first) and weights.stat().st_mtime_ns == before
    whole = [
        row for row in untimed("all") if row["line"] in ("pgraft@0.25", "graft", "best_of:4") and row["seed"] == "0"
    ]
    assert untimed(stopped) == whole[1::-1] + whole[2:]  # in the given order
    for name in ("graft_seed0", "pgraft_0.25_seed0"):
        tensors = [checksum(read_tensors(Path(f, "runs", name, "tuned.safetensors"))[0]) for f in ("all", stopped)]
        assert tensors[0] == tensors[1]
    finished = (stopped / "compare.csv").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(commands, "fit", interrupted)
        done(*args, "--run_dir", stopped)  # nothing to do
    assert (stopped / "compare.csv").read_bytes() == finished
    message = run(*args, "--data.accept.fraction", "0.5", "--run_dir", stopped).message
    assert "settings.data.accept.init_args.fraction=0.25, now it is 0.5" in message
    assert "target_draws=0, now it is 64" in run(*args, "--target_draws", "64", "--run_dir", stopped).message


def test_a_comparison_is_widened(there: Path, tmp_path: Path) -> None:
    """More seeds and methods are added to the table; a method with changed settings is refused."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("model: {optimizer: {init_args: {lr: 0.01}}}")
    args = ["compare", *toy(there), "--run_dir", str(tmp_path / "w")]
    done(*args, "--methods", f"reference,{mine}", "--seeds", "0")
    result = done(*args, "--methods", "best_of,reference", "--seeds", "0,1")
    assert "1 of 4 are there" in result.out
    assert {(row["line"], row["seed"]) for row in rows(tmp_path / "w")} == {
        *[("reference", "0"), ("mine@0.25", "0"), ("reference", "1"), ("best_of:4", "0"), ("best_of:4", "1")]
    }
    shown = json.loads((tmp_path / "w/compare.json").read_text())["rows"]
    assert [(row["line"], row["seed"]) for row in shown] == [
        *[("best_of:4", 0), ("best_of:4", 1), ("reference", 0), ("reference", 1)]
    ]
    mine.write_text("model: {optimizer: {init_args: {lr: 0.02}}}")
    assert "compare.methods.mine.content" in run(*args, "--methods", str(mine), "--seeds", "0").message


def test_paths_of_runs(there: Path, tmp_path: Path) -> None:
    """Earlier rounds are evaluated with their own weights and costs, and are points of the frontier only."""
    result = done(
        "compare",
        *toy(there),
        "--methods",
        "graft,reference,ddpo,interpolation:0.5,best_of:2",
        "--seeds",
        "0",
        "--path",
        "2",
        "--run_dir",
        str(tmp_path / "p"),
    )
    found = {row["line"]: row for row in rows(tmp_path / "p")}
    splits = int(found["ddpo@0.25"]["rounds"])
    names = ["graft round 1", "graft", "reference", f"ddpo@0.25 round {splits // 2}", "ddpo@0.25"]
    assert list(found) == [*names, "interpolation:0.5", "best_of:2"]
    assert [found[name]["path"] for name in found] == [
        *["graft", "graft", "reference", "ddpo@0.25", "ddpo@0.25", "interpolation", "best_of"]
    ]
    early, last = found["graft round 1"], found["graft"]
    assert float(early["reward"]) != float(last["reward"])
    for name in ("training_reward_calls", "optimizer_steps", "rollout_denoiser_calls", "position"):
        assert float(early[name]) == float(last[name]) / 2 > 0
    whole = line("all", "graft_early:1")  # the same weights in another comparison
    assert float(early["reward"]) == float(whole["reward"])
    content = json.loads((tmp_path / "p/compare.json").read_text())
    assert list(content["frontier"]) == ["graft", "ddpo@0.25", "interpolation", "best_of"]
    assert list(content["methods"]) == ["graft", "reference", "ddpo@0.25", "interpolation:0.5", "best_of:2"]
    page = (tmp_path / "p/compare.html").read_text()
    assert "<h2>Frontier</h2>" in page and (tmp_path / "p/frontier.png").stat().st_size > 0
    assert "graft round 1 " not in result.out.split("accepted distribution")[-1].split("path")[0]


def test_contrast_scales(there: Path, tmp_path: Path) -> None:
    """Anchored shaping with a number has that contrast scale; with 1 it is the same run as without."""
    folder = tmp_path / "scales"
    methods = "anchored,anchored:1,anchored:3"
    done("compare", *toy(there), "--methods", methods, "--seeds", "0", "--run_dir", str(folder))
    labels = ["anchored@0.25", "anchored:1@0.25", "anchored:3@0.25"]
    plain, one, three = (untimed(folder)[labels.index(name)] for name in labels)
    assert [row["line"] for row in rows(folder)] == labels
    assert plain["reward"] == one["reward"] != three["reward"]
    config = yaml.safe_load((folder / "runs" / three["run"] / "config.yaml").read_text())
    assert config["model"]["init_args"]["objective"]["init_args"]["contrast_scale"] == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--methods", "pgraft,grafd"], "no method 'grafd'; a method is one of reference, graft, pgraft, switch"),
        (["--methods", ""], "--methods is empty"),
        (["--methods", "nowhere.yaml"], "'nowhere.yaml'"),
        (["--methods", "domains/nft.yaml"], "Rename the file"),
        (["--methods", "graft,graft"], "the method graft is given twice"),
        (["--methods", "graft:3"], "takes no number"),
        (["--methods", "best_of:0"], "a whole number of at least 1"),
        (["--methods", "best_of:x"], "a whole number of at least 1"),
        (["--methods", "interpolation:nan"], "a finite number"),
        (["--methods", "graft_early:2"], "must be below 2"),
        (["--methods", "graft_early", "--trainer.max_epochs", "1"], "Raise trainer.max_epochs"),
        (["--methods", "ddpo:3"], "it must divide 4"),
        (["--methods", "rwr:-1"], "data.accept.temperature is -1"),
        (["--methods", "anchored:0"], "model.objective.contrast_scale is 0"),
        (["--methods", "more.yaml"], "more@0.25 takes 512 reward calls"),
        (["--seeds", ""], "--seeds is empty"),
        (["--seeds", "0,x"], "'x'"),
        (["--seeds", "0,0"], "the seed 0 is given twice"),
        (["--seeds", "-1"], "of at least 0"),
        (["--levels", "0,1"], "'1'; a level must be"),
        (["--levels", "0,high"], "'high'; a level must be"),
        (["--levels", "0.99"], "nothing would be tuned"),
        (["--levels", "0"], "pgraft at level 0 is graft"),
        (["--baseline", "nft"], "--baseline is 'nft'"),
        (["--target_draws", "-1"], "--target_draws is -1"),
        (["--path", "0"], "--path is 0"),
        (
            ["--methods", "ddpo", "--model.process.init_args.eta", "0"],
            "ddpo@0.25: PolicyGradient needs steps that draw",
        ),
        (["--methods", "nft", "--model.process.init_args.eta", "0"], "nft@0.25: DiffusionNFT noises"),
        (["--model.weights", "null"], "model.weights"),
        (["--weights", "all/runs/graft_seed0"], "leave out --weights"),
        (["--ckpt_path", "last"], "leave out --ckpt_path"),
        (["--data.storage.reuse_runs", "[all/runs/graft_seed0]"], "Remove data.storage.reuse_runs"),
        (["--data.reward", "nowhere.f"], "nowhere.f"),
        (["--run_dir", "all/runs/graft_seed0"], "must be empty"),
        (["--trainer.devices", "2"], "a comparison must have one"),
        (["--seeds"], "--seeds needs a value"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(flags: list[str], words: str, there: Path) -> None:
    """Faults are refused at the start, before anything is sampled."""
    (there / "more.yaml").write_text("data: {draws: 256}")
    (there / "domains/nft.yaml").write_text("{}")
    args = [*toy(there), "--methods", "pgraft", "--seeds", "0"]
    assert words in run("compare", *args, *flags).message
    assert not list(there.glob("runs/compare-*/*"))


def test_a_configuration_is_needed(there: Path) -> None:
    assert "graft compare --config NAME" in run("compare", "--methods", "graft", "--seeds", "0").message
    out = done("compare", "--help").out
    assert "--methods LIST" in out and all(f"  {name}" in out for name in METHODS)


@pytest.mark.slow
def test_auto(there: Path, tmp_path: Path) -> None:
    """The level is chosen once for a seed, and what that took is counted apart."""
    levels = ["--levels", "0.125,auto", "--data.level_search.candidates", "[0.125, 0.5]"]
    args = [*toy(there), *levels, "--methods", "pgraft,switch,graft", "--seeds", "0", "--run_dir", tmp_path / "a"]
    done("compare", *args)
    chosen = json.loads((tmp_path / "a/levels/0/levels.json").read_text())
    for name in ("pgraft@auto", "switch@auto"):
        row = line(tmp_path / "a", name)
        assert float(row["u"]) == chosen["level"] and int(row["level_reward_calls"]) == chosen["reward_calls"] > 0
    assert [row["level_reward_calls"] for row in rows(tmp_path / "a") if row["level"] != "auto"] == ["0", "0", "0"]


def test_molecules(small: list[str], folder: Path) -> None:
    """Metrics, diversity and the distance to the accepted distribution with its floor, by hand."""
    args = [*small, "--data.accept.deduplicate", "true", "--target_draws", "128", "--run_dir", "a"]
    done("compare", *args, "--methods", "pgraft,reference,best_of:2", "--seeds", "0", "--path", "2")
    row = line("a", "pgraft@0.167")
    assert all(0 <= float(row[name]) <= 1 for name in ("validity", "uniqueness", "novelty", "valid_connected"))
    assert float(row["internal_diversity"]) > 0 and "atom_types" not in row
    content = json.loads(Path("a/compare.json").read_text(), parse_constant=pytest.fail)
    about = content["accepted_distribution"]
    assert about["draws"] == about["drift_draws"] == 128 and about["internal_diversity"] > 0
    assert len({row["frechet_floor"] for row in rows("a")}) == 1  # the halves of all rows
    assert all(float(row["drift"]) >= 0 and float(row["drift_floor"]) > 0 for row in rows("a"))
    assert content["frontier"]["pgraft@0.167"]["drift"] is not None

    module, _, trainer = graft.load(small[1], *small[2:])
    module.load_weights(Path("a/runs", row["run"], "tuned.safetensors"))
    items = [item for part, _ in sample_chunks(module, trainer, 32, "test", chunk=32) for item in part]
    distribution, groups = [], []
    for number in (0, 1):
        tensors, _ = read_tensors(f"a/accepted/rounds/{number}/accepted.safetensors")
        state = {name: tensors[f"state/{name}"] for name in ("x", "h")}
        distribution += module.decode(state, {"mask": tensors["condition/mask"]})
        groups.append(tensors["condition/mask"].sum(1).long())
    from graft.commands.compare.accepted_distribution import SEED
    from graft.commands.compare.matched import match
    from graft.core.seeding import make_generator
    from graft.dataloaders.sampling import SampleRequests
    from graft.dataloaders.sampling import groups as conditions

    assert content["accepted_distribution"]["count"] == len(distribution)
    theirs = conditions(SampleRequests(module, 32, 32, ("test",), "reference"))
    matched = match(torch.cat(groups), theirs, make_generator(SEED, "halves"))
    assert int(row["distance_n"]) == len(matched.half) and float(row["distance_share"]) == pytest.approx(matched.share)
    real, tuned = module.features(distribution).double(), module.features(items).double()[matched.tuned]
    half, other = real[matched.half], real[matched.other]
    assert float(row["frechet"]) == pytest.approx(frechet(half, tuned, matched.weight), rel=1e-6)
    assert float(row["frechet_floor"]) == pytest.approx(frechet(half, other, matched.weight), rel=1e-6)
    assert float(row["mmd"]) == pytest.approx(paired_mmd(half, tuned, weight=matched.weight), rel=1e-6)
