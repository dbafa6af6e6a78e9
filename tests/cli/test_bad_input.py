"""Bad input ends with one line and status 2, and loses nothing; a failed reward costs its sample."""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from called import MOLECULE, TOY, done, run
from safetensors.torch import save_file

from graft import GraftError
from graft.io.tensors import read_tensors, write_tensors

ONE = [
    "--trainer.max_epochs",
    "1",
    "--data.evaluation.validation_draws",
    "0",
    "--data.evaluation.test_draws",
    "8",
    "--data.draws",
    "32",
]
LAST = ["--ckpt_path", "last"]
FUNCTION = ["--data.reward", "graft.reward.FunctionReward", "--data.reward.path"]
NEWLY = "runs/mixture/1"


NETWORK = ["--model.backbone", "domains.mixture.Network"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model.levle", "0.3"], "levle"),
        (["--data.drawz", "3"], "--data.drawz"),
        (["--data.accept.fractio", "0.3"], "fractio"),
        (["--trainer.max_epoch", "3"], "--trainer.max_epoch"),  # no abbreviations
        (["--model.backbone.init_args.widht", "3"], "widht"),
        (["--model.process.init_args.etaa", "1"], "etaa"),
        (["stray"], "stray"),
        (["--data.draws", "many"], "data.draws: Expected int. Got value: many"),
        (["--model.level", "high"], "model.level: Expected float or 'auto'. Got value: high"),
        (["--data.source", "nowhere"], "nowhere"),
        (["--seed_everything", "x"], "seed_everything"),
        (["--model.level", "1"], "[0, 1)"),
        (["--model.level", "-0.1"], "[0, 1)"),
        (["--model.level", "0.99"], "nothing would be tuned"),
        (["--model.level", "nan"], "nan"),
        (["--model.steps", "0"], "model.steps is 0"),
        (["--data.draws", "0"], "data.draws is 0"),
        (["--data.batch_size", "0"], "data.batch_size is 0"),
        (["--data.train_batch_size", "-4"], "data.train_batch_size is -4"),
        (["--data.evaluation.validation_draws", "-1"], "data.evaluation.validation_draws is -1"),
        (["--data.evaluation.test_draws", "0"], "data.evaluation.test_draws is 0"),
        (["--trainer.max_epochs", "0"], "trainer.max_epochs is 0"),
        (["--trainer.max_epochs", "-1"], "trainer.max_epochs is -1"),
        (["--trainer.accelerator", "abacus"], "abacus"),
        (
            ["--data.accept", "TopK", "--data.accept.keep", "9", "--data.accept.draws", "8"],
            "accept.keep is 9; it must be",
        ),
        (["--data.accept", "TopK", "--data.accept.draws", "1000"], "needs 1000 draws"),
        (["--data.accept.fraction", "0"], "data.accept.fraction is 0"),
        (["--data.accept.fraction", "1.5"], "data.accept.fraction is 1.5"),
        (["--data.accept", "ExponentialTilt", "--data.accept.temperature", "0"], "data.accept.temperature is 0"),
        (["--data.accept", "ExponentialTilt"], "temperature"),  # missing
        (["--data.accept", "graft.accept.Nonsense"], "Nonsense"),
        (["--model.weights", "null"], "model.weights"),
        (["--model.weights", "nowhere.safetensors"], "'nowhere.safetensors'"),
        (["--model.weights", "null", *NETWORK, "--model.lora.rank", "4"], "model.lora"),
        pytest.param(
            ["--model.lora.rank", "4", "--model.lora.target_modules", "[nothing]"],
            "model.lora does not fit",
            marks=pytest.mark.needs("peft"),
        ),
        pytest.param(["--model.lora.rank", "0"], "model.lora does not fit", marks=pytest.mark.needs("peft")),
        (["--weights", "nowhere"], "'nowhere'"),
        ([*FUNCTION, "nowhere.f"], "'nowhere.f'"),
        ([*FUNCTION, "nowhere.f", "--data.reward.timeout", "null"], "'nowhere.f'"),
        ([*FUNCTION, "tried.nothing", "--data.reward.timeout", "null"], "'tried.nothing'"),
        (["--data.reward", "tried.nothing"], "'tried.nothing'"),
        (["--trainer.reload_dataloaders_every_n_epochs", "2"], "reload_dataloaders_every_n_epochs=1"),
        (["--run_dir", "/proc/nowhere"], "--run_dir"),
        (["--run_dir", "file/below"], "--run_dir"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_setting(flags: list[str], words: str, folder: Path, mixture_fit: list[str]) -> None:
    (folder / "file").write_text("")
    assert words in run("fit", *mixture_fit, *ONE, *flags).message
    assert not list(folder.rglob("summary.json"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fitt", *MOLECULE], "'fitt'"),
        (["--config", "domains/molecule.yaml"], "'--config'"),
        (["fit", "--config"], "--config needs a name"),
        (["fit", "--config", "domains/molecule_small_pretrain.yaml"], "graft pretrain"),
        (["pretrain", *MOLECULE], "graft fit"),
        (["fit", "--config", "accept/all.yaml"], "model"),
        (["pretrain", "--config", "domains/molecule_small_pretrain.yaml", "--model.level", "0.5"], "model.level"),
        (["pretrain", "--config", "domains/molecule_small_pretrain.yaml", "--data.source", "a.sdf"], "a.sdf"),
    ],
)
def test_command(args: list[str], words: str) -> None:
    assert words in run(*args).message


def test_traceback_by_the_environment(mixture_fit: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_TRACEBACK", "1")
    with pytest.raises(GraftError, match="nowhere"):
        run("fit", *mixture_fit, "--weights", "nowhere")
    with pytest.raises(Exception, match=r"model\.level is 2"):
        run("fit", *mixture_fit, "--model.level", "2")


def test_nothing_is_accepted(folder: Path, mixture_fit: list[str]) -> None:
    """The draws are kept, and used on resume."""
    strict = ["--data.accept", "Threshold", "--data.accept.minimum", "1000"]
    message = run("fit", *mixture_fit, *strict).message
    assert "reward >= 1000" in message and "none of 64" in message and "milder" in message
    there = {path: path.stat().st_mtime_ns for path in Path(NEWLY, "rounds/0").iterdir()}
    assert sum(path.suffix == ".safetensors" for path in there) == 2
    assert "none of 64" in run("fit", *mixture_fit, *strict, *LAST).message
    assert {path: path.stat().st_mtime_ns for path in Path(NEWLY, "rounds/0").iterdir()} == there


@pytest.mark.parametrize(("name", "why"), [("raises_for_some", "ZeroDivisionError"), ("nan_for_some", "nan")])
@pytest.mark.parametrize("timeout", ["20", "null"])
def test_reward_that_fails_for_some(name: str, why: str, timeout: str, mixture_fit: list[str]) -> None:
    """Costs the sample, is counted, is never 0."""
    done("fit", *mixture_fit, *ONE, *FUNCTION, f"tried.{name}", "--data.reward.timeout", timeout)
    summary = json.loads(Path(NEWLY, "summary.json").read_text())
    (account,) = summary["rounds"]
    assert 0 < account["failed_rewards"] < 32 and account["reward_calls"] == 32
    assert sum(account["failures"].values()) == account["failed_rewards"]
    assert all(why in reason for reason in account["failures"])
    scores = json.loads(Path(NEWLY, "rounds/0/scores_00000.json").read_text())
    index = json.loads(Path(NEWLY, "rounds/0/round.json").read_text())["index"]
    assert sum(value is None for value in scores["values"]) == account["failed_rewards"]
    assert index and all(scores["values"][i] is not None for i in index)
    assert account["reward"] == pytest.approx(
        sum(value for value in scores["values"] if value is not None) / (32 - account["failed_rewards"])
    )
    page = Path(NEWLY, "report.html").read_text()
    assert "Rewards that failed" in page and why in page


def test_reward_that_hangs(mixture_fit: list[str]) -> None:
    done("fit", *mixture_fit, *ONE, *FUNCTION, "tried.hangs_for_one", "--data.reward.timeout", "1.5")
    (account,) = json.loads(Path(NEWLY, "summary.json").read_text())["rounds"]
    assert account["failed_rewards"] == 1 and account["failures"] == {"no answer within 1.5 s": 1}


@pytest.mark.parametrize("timeout", ["20", "null"])
def test_reward_that_fails_for_all(timeout: str, mixture_fit: list[str]) -> None:
    message = run("fit", *mixture_fit, *ONE, *FUNCTION, "tried.raises", "--data.reward.timeout", timeout).message
    assert (
        "all 32 draws" in message
        and "the docking program is not installed" in message
        and f"{NEWLY}/rounds/0" in message
    )
    assert Path(NEWLY, "rounds/0/chunk_00000.safetensors").exists()


def test_repaired_reward_scores_again(folder: Path, mixture_fit: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw whose reward failed is scored again on resume."""
    import tried

    reward = [*FUNCTION, "tried.raises", "--data.reward.timeout", "null"]
    assert "all 32 draws" in run("fit", *mixture_fit, *ONE, *reward).message
    drawn = Path(NEWLY, "rounds/0/chunk_00000.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(tried, "raises", tried.spread)
    done("fit", *mixture_fit, *ONE, *reward, *LAST)
    assert Path(NEWLY, "rounds/0/chunk_00000.safetensors").stat().st_mtime_ns == drawn
    assert json.loads(Path(NEWLY, "summary.json").read_text())["rounds"][0]["failed_rewards"] == 0


@pytest.mark.parametrize("works", [32, 32 + 8])  # for the round; and for the reference's samples
def test_reward_that_fails_for_all_in_the_end(
    works: int, mixture_fit: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that came so far ends, with a dash where there is no number."""
    import tried

    monkeypatch.setattr(tried, "left", works)
    validation = ["--data.evaluation.validation_draws", "8"] if works == 32 else []
    reward = [*FUNCTION, "tried.works_for_a_while", "--data.reward.timeout", "null"]
    result = done("fit", *mixture_fit, *ONE, *validation, *reward)
    summary = json.loads(Path(NEWLY, "summary.json").read_text())
    assert summary["tuned"]["reward"] is None and summary["tuned"]["failed_rewards"] == 8
    assert (summary["reference"]["reward"] is None) == (works == 32)
    assert summary["gain"] == {"reward": None, "in_reference_std": None, "of_accepted": None}
    assert "–" in result.out and Path(NEWLY, "report.html").exists()


def test_reward_with_a_wrong_number_of_values(mixture_fit: list[str]) -> None:
    message = run("fit", *mixture_fit, *ONE, *FUNCTION, "tried.one_short", "--data.reward.batched", "true").message
    assert "all 32 draws" in message and "0 values for 1 object" in message
    assert Path(NEWLY, "rounds/0/chunk_00000.safetensors").exists()


def test_reward_in_the_current_folder(folder: Path, mixture_fit: list[str]) -> None:
    """A module in the current folder is found, in a worker and in this process."""
    (folder / "rewards_here.py").write_text("def norm(point):\n    return abs(point[0])\n")
    (folder / "own.py").write_text(
        "from graft.reward import Reward\n\n\nclass Own(Reward):\n    name = 'own'\n\n"
        "    def score(self, item):\n        return abs(item[0])\n"
    )
    rest = mixture_fit[mixture_fit.index("--data.reward") :][:6]
    without = [arg for arg in mixture_fit if not arg.startswith("--data.reward") and arg not in rest]
    assert "--data.reward" not in without
    for number, reward in enumerate((["rewards_here.norm"], ["own.Own"]), 1):
        done("fit", *without, *ONE, "--data.reward", *reward)
        summary = json.loads((folder / f"runs/mixture/{number}/summary.json").read_text())
        assert summary["tuned"]["reward"] > 0 and summary["tuned"]["failed_rewards"] == 0
    first, second = (json.loads((folder / f"runs/mixture/{n}/summary.json").read_text()) for n in (1, 2))
    assert first["tuned"]["reward"] == second["tuned"]["reward"]


# Files that are damaged, or those of others


@pytest.fixture
def interrupted(mixture_run: Path, folder: Path) -> Path:
    copy = folder / "runs" / "mixture" / "1"
    shutil.copytree(mixture_run, copy)
    (copy / "summary.json").unlink()
    return copy


class Code:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("taken over",)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def foreign(path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "global_step": 3}, path)


def lightning_s(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["graft"]
    torch.save(content, path)


def code(path: Path) -> None:
    torch.save({"graft": Code(), "state_dict": {}}, path)


def bare_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(Code()))


def text(path: Path) -> None:
    path.write_text("weights")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [truncate, foreign, lightning_s, code, bare_code, text, empty])
@pytest.mark.parametrize("how", ["last", "path"])
def test_checkpoint(spoil: Callable, how: str, interrupted: Path, mixture_fit: list[str], folder: Path) -> None:
    checkpoint = interrupted / "checkpoints" / "last.ckpt"
    spoil(checkpoint)
    message = run("fit", *mixture_fit, "--ckpt_path", "last" if how == "last" else checkpoint).message
    assert "last.ckpt" in message and "graft" in message.removeprefix("graft: ")
    assert not (folder / "taken over").exists()
    assert not (interrupted / "summary.json").exists()


def test_checkpoint_of_another_reference(interrupted: Path, mixture_fit: list[str], folder: Path) -> None:
    """The same path with other weights is refused by its hash."""
    weights = Path(mixture_fit[mixture_fit.index("--model.weights") + 1])
    mine = folder / "mine.safetensors"
    with_mine = [str(mine) if arg == str(weights) else arg for arg in mixture_fit]
    config = interrupted / "config.yaml"
    config.write_text(config.read_text().replace(str(weights), str(mine)))
    _changed(weights, mine)
    assert "reference" in run("fit", *with_mine, *LAST).message


def _changed(weights: Path, to: Path) -> None:
    tensors, about = read_tensors(weights)
    name = next(name for name in tensors if name.startswith("backbone/") and tensors[name].is_floating_point())
    write_tensors(to, {**tensors, name: tensors[name] + 1}, about)


@pytest.mark.parametrize("spoil", [truncate, foreign, bare_code, text, empty])
@pytest.mark.parametrize("flag", ["--weights", "--model.weights"])
def test_weights(spoil: Callable, flag: str, mixture_run: Path, folder: Path, mixture_fit: list[str]) -> None:
    path = folder / "damaged.safetensors"
    shutil.copy(mixture_run / "tuned.safetensors", path)
    spoil(path)
    message = run("fit", *mixture_fit, flag, path).message
    assert "damaged.safetensors" in message and not (folder / "taken over").exists()
    assert "damaged.safetensors" in run("sample", "--weights", path, "--out", "a.csv").message
    assert [path.name for path in folder.iterdir()] == ["damaged.safetensors"]  # not even a run's folder


def test_weights_of_another_network(
    mixture_run: Path, mixture_reference: Path, folder: Path, mixture_fit: list[str]
) -> None:
    save_file({"layer.weight": torch.ones(3, 3)}, folder / "other.safetensors")  # not graft's
    assert "other.safetensors" in run("fit", *mixture_fit, "--weights", "other.safetensors").message
    assert "do not say their network" in run("fit", *MOLECULE, "--model.weights", "other.safetensors").message
    model = yaml.safe_load(done("fit", *mixture_fit, "--print_config").out)["model"]["init_args"]
    own = [f"--model.{name}={json.dumps(model[name])}" for name in ("backbone", "process")]
    assert "does not fit the network" in run("fit", *mixture_fit, *own, "--model.weights", "other.safetensors").message
    assert "not a reference" in run("fit", *mixture_fit, "--model.weights", mixture_run / "tuned.safetensors").message
    message = run("fit", *mixture_fit, "--model.backbone.init_args.width", "24").message
    assert "does not fit the network" in message and "reference.safetensors" in message
    _changed(mixture_reference, folder / "changed.safetensors")
    message = run("fit", *mixture_fit, "--weights", mixture_run, "--model.weights", "changed.safetensors").message
    assert "another reference" in message and "sha256" in message
    (folder / "t.pt").write_bytes(pickle.dumps(Code()))
    assert "t.pt" in run("fit", *mixture_fit, "--model.weights", "t.pt").message
    torch.save({"a": Code()}, folder / "u.pt")
    assert "u.pt" in run("fit", *mixture_fit, "--model.weights", "u.pt").message
    assert not (folder / "taken over").exists() and not (folder / "runs").exists()


@pytest.mark.needs("peft")
def test_weights_of_a_whole_network_for_an_adapter(mixture_run: Path, mixture_fit: list[str]) -> None:
    message = run("fit", *mixture_fit, "--model.lora.rank", "2", "--weights", mixture_run).message
    assert "does not fit the network" in message


@pytest.mark.parametrize("what", ["rounds/1/chunk_00000.safetensors", "rounds/0/round.json", "config.yaml"])
def test_damaged_run(what: str, interrupted: Path, mixture_fit: list[str]) -> None:
    """A damaged file is named when the run resumes from before it."""
    if "rounds/1" in what:
        shutil.rmtree(interrupted / "checkpoints")  # from the start, with what is drawn already
    (interrupted / what).write_text("{")
    assert Path(what).name in run("fit", *mixture_fit, *LAST).message


def test_damaged_scores_are_named(interrupted: Path, mixture_fit: list[str]) -> None:
    shutil.rmtree(interrupted / "checkpoints")
    (interrupted / "rounds/0/scores_00001.json").write_text('{"values": [1')
    assert "scores_00001.json" in run("fit", *mixture_fit, *LAST).message
    (interrupted / "rounds/0/scores_00001.json").unlink()  # what the message asks for
    done("fit", *mixture_fit, *LAST)


def test_two_domains_with_one_key(folder: Path) -> None:
    """A domain whose objects have no key cannot be de-duplicated, and the message states that."""
    shutil.copytree(TOY / "domains", folder / "domains")
    quiet = ["--trainer.enable_progress_bar", "false"]
    done("pretrain", "--config", "domains/mixture/pretrain.yaml", "--trainer.max_epochs", "1", *quiet)
    weights = ["--model.weights", "runs/pretrain/1/reference.safetensors", *quiet]
    message = run(
        "fit", "--config", "domains/mixture/mixture.yaml", *weights, "--data.accept.deduplicate", "true"
    ).message
    assert "has no key" in message
    assert "renders no pictures" in run("sample", "--weights", "runs/pretrain/1", "-n", "2", "--out", "a.png").message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(folder: Path, mixture_fit: list[str]) -> None:
    (folder / "closed").mkdir(mode=0o555)
    assert "--run_dir" in run("fit", *mixture_fit, "--run_dir", "closed/run").message


def test_disk_that_fills_up(folder: Path, mixture_fit: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up in the second chunk: the first chunk is kept, and the run resumes after it."""
    import errno

    real = save_file

    def full(plain: dict, path: Path, about: dict) -> None:
        if "00001" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(plain, path, about)

    monkeypatch.setattr("graft.io.tensors.save_file", full)
    message = run("fit", *mixture_fit).message
    assert "No space left on device" in message and "chunk_00001" in message
    assert [path.name for path in Path(NEWLY, "rounds/0").iterdir()] == ["chunk_00000.safetensors"]
    monkeypatch.setattr("graft.io.tensors.save_file", real)
    done("fit", *mixture_fit, *LAST)


# A reward that fails too often


def outage(counts: str) -> list[str]:
    return [*FUNCTION, f"tried.{counts}", "--data.reward.timeout", "null"]


def test_failure_budget(folder: Path, mixture_fit: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """If the reward fails in the second round, the weights of the first stay; failed samples are scored again."""
    import tried

    validation = ["--data.evaluation.validation_draws", "0"]
    mixture_fit = [*mixture_fit, *validation, *outage("works_for_a_while"), "--data.budget.max_failures", "0.5"]
    monkeypatch.setattr(tried, "left", 10**6)
    done("fit", *mixture_fit, "--run_dir", "whole")
    monkeypatch.setattr(tried, "left", 64 + 30)
    message = run("fit", *mixture_fit).message
    assert "failed for 34 of 64 draws (34 times: ConnectionError: no answer from the service)" in message
    assert "more than data.budget.max_failures 0.5 allows" in message and "--ckpt_path last" in message
    assert Path(NEWLY, "rounds/0/tuned.safetensors").exists() and Path(NEWLY, "checkpoints/last.ckpt").exists()
    assert not Path(NEWLY, "rounds/1/round.json").exists() and not Path(NEWLY, "summary.json").exists()
    kept = [json.loads(path.read_text()) for path in sorted(Path(NEWLY, "rounds/1").glob("scores_*.json"))]
    assert [len(each["again"]) for each in kept] == [2, 32] and not any(0.0 in each["values"] for each in kept)
    monkeypatch.setattr(tried, "left", 34 + 64)  # of this round, and for the comparison
    done("fit", *mixture_fit, *LAST)
    ours, theirs = (json.loads(Path(at, "summary.json").read_text())["rounds"] for at in (NEWLY, "whole"))
    calls = ours[1].pop("reward_calls"), ours[1].pop("reward_calls_by_term")
    assert calls == (98, {"works_for_a_while": 98})  # the 34 that failed were scored again
    assert theirs[1].pop("reward_calls") == 64 and theirs[1].pop("reward_calls_by_term")
    assert ours == theirs


def test_failure_budget_as_a_count(mixture_fit: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The count is of the whole run, and the remaining samples are not scored."""
    import tried

    fail = [*outage("raises_for_some"), "--data.budget.max_failures"]
    done("fit", *mixture_fit, *ONE, *fail, "null")
    (account,) = json.loads(Path(NEWLY, "summary.json").read_text())["rounds"]
    failed = account["failed_rewards"]
    message = run("fit", *mixture_fit, *ONE, *fail, str(failed - 1)).message
    assert f"failed for {failed} of 32 draws" in message and f"data.budget.max_failures {failed - 1} allows" in message
    monkeypatch.setattr(tried, "left", 3)
    message = run("fit", *mixture_fit, *outage("works_for_a_while"), "--data.budget.max_failures", "3").message
    assert "failed for 29 of 32 draws" in message  # the second chunk is not scored
    assert "max_failures is -1" in run("fit", *mixture_fit, *ONE, "--data.budget.max_failures", "-1").message


def test_cached_reward(small: list[str]) -> None:
    """Each molecule is scored once by its SMILES; the accounts count the calls."""
    at = small.index("--data.reward")
    rest = small[:at] + small[at + 6 :]
    cached = ["--data.reward", "graft.reward.CachedReward", "--data.reward.key", "rdkit.Chem.MolToSmiles"]
    cached += ["--data.reward.path", "scores.sqlite", "--data.reward.reward", "domains.molecules.rewards.LogP"]
    cached += ["--data.draws", "128", "--data.budget.max_failures", "128"]  # few molecules of the tiny model are valid
    done("fit", *rest, *ONE, *cached)
    done("fit", *rest, *ONE, *cached)
    first, second = (json.loads(Path(f"runs/molecule/{n}/summary.json").read_text()) for n in (1, 2))
    assert 0 < first["reward_calls"] <= 128
    assert second["reward_calls"] <= second["rounds"][0]["failed_rewards"]  # what failed is not remembered
    assert first["rounds"][0]["reward"] == second["rounds"][0]["reward"] and first["tuned"] == second["tuned"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {draws: 64, window: 1, draws: 32}", "mine.yaml has the key data.draws twice, in line 1"),
        ("data:\n  draws: 64\ndata.draws: 32", "mine.yaml has the key data.draws twice, in lines 2 and 3"),
        ("data: {accept: &a [*a]}", "contains itself"),
        ("a: &a [x, x]\n" + "\n".join(f"b{i}: &b{i} [*a, *a, *a, *a]" for i in range(400)), "aliases"),
    ],
)
def test_yaml_of_two_minds(text: str, words: str, folder: Path, mixture_fit: list[str]) -> None:
    (folder / "mine.yaml").write_text(text)
    assert words in run("fit", *mixture_fit, "--config", "mine.yaml").message
    assert words in run("compare", *mixture_fit, "--methods", "mine.yaml", "--seeds", "0").message
    assert words in run("fit", *mixture_fit, "--config", "mine.yaml", "--help").message


def test_inline_yaml_of_two_minds(mixture_run: Path, mixture_fit: list[str]) -> None:
    accept = "{class_path: graft.accept.TopFraction, init_args: {fraction: 0.5, fraction: 0.1}}"
    assert "fraction twice" in run("fit", *mixture_fit, "--data.accept", accept).message
    twice = "{a: 1, a: 2}"
    assert (
        "the key a twice"
        in run("sample", "--weights", mixture_run, "--out", "a.csv", "--model.backbone", twice).message
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import sys\nsys.exit(7)", "odd_reward ends the program when it is imported: SystemExit: 7"),
        ("raise SystemExit(0)", "odd_reward ends the program when it is imported"),
        ("import os\nos._exit(0)", "odd_reward ends the program when it is imported: SystemExit: os._exit(0)"),
        ("raise KeyboardInterrupt", "odd_reward fails when it is imported: KeyboardInterrupt"),
        ("x = 1\nimport nosuchpackage", "No module named 'nosuchpackage' ("),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("how", ["class_path", "path", "key"])
def test_reward_modules_that_fail(
    body: str, words: str, how: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class, a function in this process and the reward of a cache are checked before anything else is done."""
    shutil.copytree(TOY / "domains", folder / "domains")
    (folder / "odd_reward.py").write_text(body + "\nclass Odd: pass\ndef odd(item): return 1.0\n")
    monkeypatch.delitem(sys.modules, "odd_reward", raising=False)
    reward = {
        "class_path": "{class_path: odd_reward.Odd, init_args: {x: 1}}",
        "path": "{class_path: graft.reward.FunctionReward, init_args: {path: odd_reward.odd, timeout: null}}",
        "key": "{class_path: CachedReward, init_args: {reward: domains.mixture.Rightmost, key: odd_reward.odd}}",
    }[how]
    (folder / "mine.yaml").write_text(f"data:\n  reward: {reward}\n")
    message = run("fit", "--config", "domains/mixture/mixture.yaml", "--config", "mine.yaml").message
    assert words in message and f"{folder / 'odd_reward.py'}, line" in message and "no reward function" not in message
    assert not (folder / "runs").exists()
