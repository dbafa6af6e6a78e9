"""The files of a run, and every way to set one up from the command line."""

import base64
import csv
import json
import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from called import QUIET, REWARD, done, run
from rdkit import Chem
from safetensors.torch import load_file

from graft.core import progress
from graft.io.page import policy

ONE = [
    "--trainer.max_epochs",
    "1",
    "--data.evaluation.validation_draws",
    "0",
    "--data.evaluation.test_draws",
    "16",
]  # later flags win
TARGET = ["--model.objective", "Shaping", "--model.objective.target"]


@pytest.fixture(scope="module")
def summary(finished: Path) -> dict:
    return json.loads((finished / "summary.json").read_text(), parse_constant=pytest.fail)


def tuned(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "tuned.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_run_folder(finished: Path) -> None:
    files = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    names = ("round.json", "chunk_00000.safetensors", "scores_00001.json", "accepted.csv")
    names += ("accepted.safetensors", "tuned.safetensors")
    rounds = {f"rounds/{n}/{f}" for n in (0, 1) for f in names}
    samples = {f"samples/{name}.{kind}" for name in ("reference", "tuned") for kind in ("sdf", "png")}
    kept = {"config.yaml", "summary.json", "metrics.csv", "report.html", "tuned.safetensors", "checkpoints/last.ckpt"}
    kept |= {"hits.csv", "hits.sdf", "CARD.md"}
    assert rounds | samples | kept <= files
    assert files - rounds - samples - kept == {  # nothing else
        f"rounds/{n}/{f}" for n in (0, 1) for f in ("chunk_00001.safetensors", "scores_00000.json")
    }
    assert {path.stat().st_mode & 0o044 for path in finished.rglob("*")} == {0o044}  # others may read them


def test_terminal(finished: Path) -> None:
    out = (finished.parents[2] / "out.txt").read_text()
    assert "runs/molecule/1" in out and "report.html" in out
    assert re.search(r"^spread +[\d.]+ ± [\d.]+ +[\d.]+ ± [\d.]+$", out, re.M)
    assert re.search(r"^validity +[\d.]+ +[\d.]+$", out, re.M)


def test_config_repeats_the_run(finished: Path, folder: Path) -> None:
    """config.yaml repeats the run."""
    done("fit", "--config", finished / "config.yaml", "--run_dir", "again")
    assert same(tuned(folder / "again"), tuned(finished))


def test_summary(summary: dict) -> None:
    """The keys that scripts rely on."""
    shares = {"valid_connected", "atom_stability", "validity", "uniqueness", "novelty"}
    for side in ("reference", "tuned"):
        values = summary[side]
        assert {"reward", "reward_stderr", "reward_std", "n"} | shares <= values.keys()
        kinds = values["atom_types"]  # a share of each
        assert all(math.isfinite(value) for name, value in values.items() if name != "atom_types")
        assert sum(kinds.values()) == pytest.approx(1) and min(kinds.values()) >= 0
        assert all(0 <= values[share] <= 1 for share in shares)
        assert values["n"] == 32 and values["failed_rewards"] == 0
        assert values["reward_stderr"] == pytest.approx(values["reward_std"] / 32**0.5)
    assert (summary["level"], summary["steps"], summary["seed"]) == (0.125, 8, 0)
    assert "top 0.5" in summary["rule"]
    assert math.isfinite(summary["accepted_reward"]) and summary["seconds"] > 0
    assert {"graft", "python", "torch", "lightning"} <= summary["versions"].keys()
    gain = summary["tuned"]["reward"] - summary["reference"]["reward"]
    assert summary["gain"]["reward"] == pytest.approx(gain)
    assert summary["gain"]["in_reference_std"] == pytest.approx(gain / summary["reference"]["reward_std"])
    # over the samples whose number of atoms has accepted draws
    assert 0 < summary["matched_share"] <= 1 and summary["accepted_gain"] > 0
    if summary["matched_share"] == 1:
        assert summary["gain"]["of_accepted"] == pytest.approx(gain / summary["accepted_gain"])


def test_accounts_of_rounds(finished: Path, summary: dict) -> None:
    assert len(summary["rounds"]) == 2
    for number, account in enumerate(summary["rounds"]):
        assert (account["round"], account["draws"], account["reward_calls"]) == (number, 64, 64)
        assert account["denoiser_calls"] == 64 * 8
        assert account["acceptance_rate"] == account["accepted"] / 64
        # duplicates go first, then half of each bin
        assert 0 < account["accepted"] <= 32 + 2 and account["accepted"] <= 64 - account["duplicates"]
        assert 0 <= account["kl_nats"] < math.log(64) and account["failed_rewards"] == 0
        folder = finished / "rounds" / str(number)
        scores = [json.loads((folder / f"scores_0000{i}.json").read_text()) for i in (0, 1)]
        values = [value for part in scores for value in part["values"]]
        keys = [key for part in scores for key in part["keys"] if key]
        assert len(values) == 64 and account["reward"] == pytest.approx(sum(values) / 64)
        assert account["duplicates"] == len(keys) - len(set(keys))
        index = json.loads((folder / "round.json").read_text())["index"]
        assert len(set(index)) == account["accepted"]
        assert sum(values[i] for i in index) / len(index) > account["reward"]
        assert account["accepted_reward"] > account["reward"]
    last = summary["rounds"][-1]
    assert all(summary[key] == last[key] for key in ("acceptance_rate", "kl_nats", "accepted_reward"))
    assert summary["reward_calls"] == sum(account["reward_calls"] for account in summary["rounds"])
    assert summary["denoiser_calls"] == sum(account["denoiser_calls"] for account in summary["rounds"])
    assert (summary["evaluation_reward_calls"], summary["evaluation_denoiser_calls"]) == (64, 64 * 8)
    assert summary["rounds"][0]["reward"] != summary["rounds"][1]["reward"]  # other draws


def test_report_stands_alone(finished: Path, summary: dict) -> None:
    page = (finished / "report.html").read_text()
    assert page.count(policy()) == 1 and page.index(policy()) < page.index("<style>")
    assert not re.search(r"""(src|href)\s*=\s*['"]?\s*(https?:)?//""", page)
    assert not re.search(r"url\(\s*['\"]?https?:|@import|<link", page)
    pictures = re.findall(r"<img alt='samples of the (\w+)' src='data:image/png;base64,([^']+)'", page)
    assert [name for name, _ in pictures] == ["reference", "tuned"]
    for name, data in pictures:
        assert base64.b64decode(data) == (finished / "samples" / f"{name}.png").read_bytes()
        assert base64.b64decode(data).startswith(b"\x89PNG")
    assert page.count("<svg") == 2  # histogram and curves
    assert "<td>validity</td>" in page and f"<td>{summary['rule']}</td>" in page
    assert "graft fit --config domains/molecule.yaml" in page and "--data.draws 64" in page


def test_samples(finished: Path, summary: dict) -> None:
    for name in ("reference", "tuned"):
        mols = list(Chem.SDMolSupplier(str(finished / "samples" / f"{name}.sdf"), sanitize=False, removeHs=False))
        assert len(mols) == 32 and None not in mols
        assert all(mol.GetConformer().Is3D() for mol in mols)
        rewards = [float(mol.GetProp("reward")) for mol in mols]
        assert sum(rewards) / 32 == pytest.approx(summary[name]["reward"], rel=1e-4)
        valid = [mol.GetProp("valid") == "1" for mol in mols]
        assert sum(valid) / 32 == pytest.approx(summary[name]["validity"])


def test_metrics_file(finished: Path, summary: dict) -> None:
    with (finished / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rounds = [row for row in rows if row["rollout/reward"]]
    assert [int(row["step"]) for row in rounds] == [0, 4]
    for row, account in zip(rounds, summary["rounds"], strict=True):
        for name in ("reward", "accepted_reward", "acceptance_rate", "kl_nats"):
            assert float(row[f"rollout/{name}"]) == pytest.approx(account[name])
    assert [int(row["step"]) for row in rows if row["train/loss"]] == list(range(8))
    validations = [row for row in rows if row["validation/reward"]]
    assert [int(row["epoch"]) for row in validations] == [0, 1]
    tests = [row for row in rows if row["test/tuned/reward"]]
    assert len(tests) == 1 and float(tests[0]["test/tuned/reward"]) == pytest.approx(summary["tuned"]["reward"])


def test_weights_changed(finished: Path, reference: Path) -> None:
    """The saved network is the trained one, not the reference."""
    before, after = load_file(reference), tuned(finished)
    names = [name for name in after if name.startswith("backbone/") and after[name].is_floating_point()]
    assert names and any(not torch.equal(before[name], after[name]) for name in names)


@pytest.mark.parametrize(("seed", "equal"), [(0, True), (1, False)])
def test_seed(seed: int, equal: bool, mixture_run: Path, folder: Path, mixture_fit: list[str]) -> None:
    done("fit", *mixture_fit, "--seed_everything", seed)
    run = folder / "runs/mixture/1"
    assert same(tuned(run), tuned(mixture_run)) == equal
    for name in ("metrics.csv", "samples/tuned.csv"):
        assert ((run / name).read_bytes() == (mixture_run / name).read_bytes()) == equal
    assert json.loads((run / "summary.json").read_text())["seed"] == seed


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--data.source", "current", "--trainer.max_epochs", "2"], {}),
        (["--model.level", "0"], {"level": 0}),
        (["--model.level", "0.4"], {"level": 0.375}),  # the nearest step
        (["--model.tuning.ema_decay", "null"], {}),
        ([*TARGET, "transition"], {}),
        ([*TARGET, "trajectory"], {}),
        (["--data.replay_rounds", "2", "--trainer.max_epochs", "2"], {}),
        (["--data.accept", "TopFraction", "--data.accept.fraction", "0.25"], {"rule": "top 0.25 "}),
        (["--data.accept", "TopK", "--data.accept.keep", "1", "--data.accept.draws", "4"], {"rule": "top 1 of 4"}),
        (["--data.accept", "Preference"], {"rule": "winner of 2"}),
        (["--data.accept", "Threshold", "--data.accept.minimum", "1.2"], {"rule": "reward >= 1.2"}),
        (
            ["--data.accept", "ExponentialTilt", "--data.accept.temperature", "0.2"],
            {"rule": "tilt at temperature 0.2 (weights)"},
        ),
        (
            ["--data.accept", "ExponentialTilt", "--data.accept.temperature", "3", "--data.accept.reward_bound", "8"],
            {"rule": "bound 8"},
        ),
        (["--data.accept", "AcceptAll"], {"rule": "all"}),
        (["--data.accept.group_by", "global"], {"rule": "top 0.5"}),
        (["--data.reward.higher_is_better", "false"], {}),
        (["--model.process.init_args.eta", "0"], {}),
    ],
    ids=lambda value: " ".join(value).replace("--", "") if isinstance(value, list) else "",
)
def test_settings(
    flags: list[str], expected: dict, folder: Path, mixture_fit: list[str], mixture_reference: Path
) -> None:
    if "Threshold" in flags or "maximum" in str(flags):  # the accepted share is the reward's: any will do
        flags = [*flags, "--data.draws", "128"]
    done("fit", *mixture_fit, *ONE, *flags)
    run = folder / "runs/mixture/1"
    summary = json.loads((run / "summary.json").read_text())
    for key, value in expected.items():
        assert value in summary[key] if isinstance(value, str) else value == summary[key]
    account = summary["rounds"][-1]
    assert account["source"] == ("current" if "current" in flags else "reference")
    if (
        "AcceptAll" not in flags and "--data.accept.reward_bound" not in flags
    ):  # a bounded tilt accepts a chance handful
        better = account["accepted_reward"] - account["reward"]
        assert better < 0 if "false" in flags else better > 0
    assert not same(
        {name: tensor for name, tensor in tuned(run).items() if name.startswith("backbone/")},
        {name: tensor for name, tensor in load_file(mixture_reference).items() if name.startswith("backbone/")},
    )


def test_duplicates_are_not_accepted(folder: Path, small: list[str]) -> None:
    done("fit", *small, *ONE, "--data.accept.group_by", "global", "--data.accept.deduplicate", "true")
    summary = json.loads((folder / "runs/molecule/1/summary.json").read_text())
    assert "de-duplicated, then top" in summary["rule"]
    (account,) = summary["rounds"]
    assert account["accepted_reward"] > account["reward"]


def test_targets_differ(folder: Path, mixture_fit: list[str]) -> None:
    """The setting has an effect, and 'auto' takes the target that is right and of the least variance."""
    weights = {}
    for source in ("reference", "current"):
        for target in ("transition", "trajectory", "renoised", "auto"):
            if (source, target) == ("current", "trajectory"):
                continue
            flags = [*TARGET, target, "--data.source", source]
            done("fit", *mixture_fit, *ONE, *flags, "--run_dir", f"{source}_{target}")
            weights[source, target] = tuned(folder / f"{source}_{target}")
    for source, right in (("reference", "trajectory"), ("current", "renoised")):
        for target in ("transition", "trajectory", "renoised"):
            if (source, target) in weights:
                assert same(weights[source, "auto"], weights[source, target]) == (target == right)


def test_trajectory_of_a_deterministic_sampler_is_refused(folder: Path, mixture_fit: list[str]) -> None:
    """Before anything is drawn."""
    eta = ["--model.process.init_args.eta", "0"]
    assert "biased" in run("fit", *mixture_fit, *eta, *TARGET, "trajectory").message
    assert "biased" in run("fit", *mixture_fit, "--data.source", "current", *TARGET, "trajectory").message
    assert not list(folder.rglob("chunk_*"))


@pytest.mark.needs("peft")
def test_lora(finished: Path, folder: Path, small: list[str], reference: Path) -> None:
    done("fit", *small, *ONE, "--model.lora.rank", "4")
    run = folder / "runs/molecule/1"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["lora"]["rank"] == 4
    config = yaml.safe_load(done("fit", *small, "--model.lora", "{rank: 4, alpha: 8}", "--print_config").out)
    assert (config["model"]["init_args"]["lora"]["rank"], config["model"]["init_args"]["lora"]["alpha"]) == (4, 8)
    names = [name for name in tuned(run) if name.startswith("backbone/")]
    trained = [name for name in names if "lora_" in name]
    assert trained and sum(tuned(run)[name].numel() for name in names) < 0.5 * sum(
        tensor.numel() for name, tensor in load_file(reference).items() if name.startswith("backbone/")
    )
    sizes = [(each / "checkpoints/last.ckpt").stat().st_size for each in (run, finished)]
    assert sizes[0] < 0.7 * sizes[1]  # the adapter alone, and the state of its optimizer
    done("sample", "--weights", run, "-n", "5", "--out", "a.sdf")
    assert len(Chem.SDMolSupplier("a.sdf", sanitize=False)) == 5


def test_warm_start(mixture_run: Path, folder: Path, mixture_fit: list[str]) -> None:
    """--weights starts from a run's tuned weights; the reference stays."""
    for number, weights in enumerate((mixture_run, mixture_run / "tuned.safetensors"), 1):
        done("fit", *mixture_fit, *ONE, "--weights", weights)
        assert not same(tuned(folder / f"runs/mixture/{number}"), tuned(mixture_run))
    assert same(tuned(folder / "runs/mixture/1"), tuned(folder / "runs/mixture/2"))
    done("fit", *mixture_fit, *ONE)
    assert not same(tuned(folder / "runs/mixture/1"), tuned(folder / "runs/mixture/3"))


def test_progress_is_in_draws(folder: Path, mixture_fit: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "is_interactive", lambda: True)
    result = done("fit", *mixture_fit, *ONE, "--trainer.enable_progress_bar", "true")
    assert "round 1/1 sampling" in result.err and "64/64" in result.err and "draw/s" in result.err
    assert "Epoch 0" in result.out


def test_a_log_file_has_lines(folder: Path, mixture_fit: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No bar, but lines of each part of a round, of training steps, and of the comparison at the end."""
    monkeypatch.setattr("graft.core.progress.INTERVAL", 0)
    monkeypatch.setattr("graft.runs.progress.INTERVAL", 0)
    result = done("fit", *mixture_fit, *ONE, "--trainer.enable_progress_bar", "true")
    assert "\r" not in result.err + result.out and "Epoch 0" not in result.out
    lines = result.err.splitlines()
    assert any(re.fullmatch(r"graft: round 1/1 sampling: 64 of 64 draws in \d+ s", line) for line in lines)
    assert any(re.fullmatch(r"graft: round 1/1 sampling: 32 of 64 draws; about .* left", line) for line in lines)
    steps = [line for line in lines if line.startswith("graft: epoch 1/1: training step ")]
    assert [re.sub(r"loss [\d.e-]+$", "loss x", line) for line in steps] == [
        f"graft: epoch 1/1: training step {step} of 4, loss x" for step in range(1, 5)
    ]
    halves = ["--trainer.accumulate_grad_batches", 2]  # two batches are one step
    result = done("fit", *mixture_fit, *ONE, "--trainer.enable_progress_bar", "true", *halves)
    assert re.findall(r"training step (\d) of 4", result.err) == list("11223344")
    compared = [line for line in lines if line.startswith("graft: final comparison: batch ")]
    assert compared == ["graft: final comparison: batch 1 of 2", "graft: final comparison: batch 2 of 2"]


def test_no_validation_draws(folder: Path, mixture_fit: list[str]) -> None:
    done("fit", *mixture_fit, *ONE)
    header = (folder / "runs/mixture/1/metrics.csv").read_text().splitlines()[0]
    assert "validation/" not in header and "rollout/reward" in header


def test_best_of(finished: Path, reference: Path, folder: Path) -> None:
    """The best candidates by the run's reward are kept and counted."""
    result = done("sample", "--weights", finished, "--trust", "-n", "6", "--best_of", "4", "--out", "best.sdf")
    assert "6 objects in best.sdf, the best of 4 each: 24 reward calls, 192 denoiser calls, mean spread" in result.out
    best = [float(mol.GetProp("reward")) for mol in Chem.SDMolSupplier("best.sdf", sanitize=False)]
    done("sample", "--weights", finished, "--trust", "-n", "6", "--best_of", "1", "--out", "one.sdf")
    one = [float(mol.GetProp("reward")) for mol in Chem.SDMolSupplier("one.sdf", sanitize=False)]
    assert len(best) == len(one) == 6 and sum(best) > sum(one)
    done("sample", "--weights", finished, "-n", "6", "--out", "plain.sdf")
    assert [mol.GetNumAtoms() for mol in Chem.SDMolSupplier("best.sdf", sanitize=False)] == [
        mol.GetNumAtoms() for mol in Chem.SDMolSupplier("plain.sdf", sanitize=False)
    ]  # the same conditions
    assert "--best_of is 0" in run("sample", "--weights", finished, "--out", "a.sdf", "--best_of", "0").message
    assert "has no reward" in run("sample", "--weights", reference, "--out", "a.sdf", "--best_of", "2").message


def test_default_of_molecules(folder: Path, reference: Path) -> None:
    """Small rounds of the tuned model's own draws, compared with the reference's every second round."""
    sizes = ["--data.draws", "32", "--data.batch_size", "16", "--data.steps_per_round", "2", "--model.steps", "8"]
    rounds = ["--trainer.max_epochs", "4", "--trainer.check_val_every_n_epoch", "2", "--trainer.log_every_n_steps", "1"]
    samples = ["--data.evaluation.validation_draws", "16", "--data.evaluation.test_draws", "16"]
    reward = [*REWARD, "--data.accept.fraction", "0.5", "--model.weights", str(reference), *QUIET]
    done("fit", "--config", "domains/molecule.yaml", *sizes, *rounds, *samples, *reward)
    made = folder / "runs/molecule/1"
    content = json.loads((made / "summary.json").read_text(), parse_constant=pytest.fail)
    assert content["objective"].startswith("anchored P-GRAFT") and content["selective"]
    assert [account["source"] for account in content["rounds"]] == ["current"] * 4
    assert 0 < content["kl_nats"] and all(0 < a["accepted"] < 32 for a in content["rounds"])
    with (made / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows if row.get("validation/reward")] == ["1", "3"]
    assert any(row["train/stopped"] for row in rows)
