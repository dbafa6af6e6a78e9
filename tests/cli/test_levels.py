"""``graft levels`` and ``--model.level auto`` from the command line: what they write, that a choice is made once."""

import base64
import json
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from called import done, run
from safetensors.torch import load_file

LAST = ["--ckpt_path", "last"]
AUTO = ["--model.level", "auto", "--data.source", "current"]
FILES = {"levels.json", "levels.png"}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory, mixture_fit: list[str]) -> Path:
    """The folder of a finished run that chose its level."""
    folder = tmp_path_factory.mktemp("chosen")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = done("fit", *mixture_fit, *AUTO)
    (folder / "out.txt").write_text(result.out)
    return folder / "runs/mixture/1"


def content(path: Path) -> dict:
    return json.loads(path.read_text(), parse_constant=pytest.fail)


def summary(run: Path) -> dict:
    return {name: value for name, value in content(run / "summary.json").items() if name != "seconds"}


def test_levels(folder: Path, mixture_fit: list[str]) -> None:
    """The shipped configuration, mixture_fit: a table, the choice in a sentence, a picture."""
    out = done("levels", *mixture_fit).out
    run_dir = folder / "runs/mixture_levels/1"
    assert {path.name for path in run_dir.iterdir()} == {*FILES, "levels.yaml"}
    found = content(run_dir / "levels.json")
    assert [level["level"] for level in found["levels"]] == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75]
    assert [level["time"] for level in found["levels"]] == pytest.approx([i / 8 for i in range(7)])
    assert (found["draws"], found["failed_rewards"], found["origin"]["reward"]) == (64, 0, "spread")
    assert found["denoiser_calls"] == 64 * (8 + 6) + found["resampled"] * sum(range(1, 7))
    assert found["reward_calls"] == (64 + found["resampled"]) * 6 + 64
    for level in found["levels"][1:]:
        for name in ("reward_r2", "predicted_retention", "measured_retention", "score_gap"):
            assert level[name]["low"] <= level[name]["value"] <= level[name]["high"]
    assert found["reason"] in out and f"{found['draws']} draws of the reference" in out
    assert len(re.findall(r"^ *0\.\d+ .*\d$|^ *0\.\d+ .*⟵$", out, re.M)) == 6
    again = done("levels", *mixture_fit, "--trainer.accelerator", "cpu", "--run_dir", "again").out
    assert found["reason"] in again and content(folder / "again/levels.json") == found
    assert Path("again/levels.png").read_bytes() == (run_dir / "levels.png").read_bytes()


def test_levels_of_an_ode(folder: Path, mixture_fit: list[str]) -> None:
    out = done("levels", *mixture_fit, "--model.process.init_args.eta", "0").out
    found = content(folder / "runs/mixture_levels/1/levels.json")
    assert found["level"] == 0.75 and not found["stochastic"] and found["reward_calls"] == 0
    assert "by definition" in out


def test_settings(folder: Path, mixture_fit: list[str]) -> None:
    plan = [
        "--data.level_search.candidates",
        "[0.25, 0.5]",
        "--data.level_search.draws",
        "40",
        "--data.level_search.n_bootstrap",
        "10",
    ]
    done("levels", *mixture_fit, *plan)
    found = content(folder / "runs/mixture_levels/1/levels.json")
    assert [level["level"] for level in found["levels"]] == [0, 0.25, 0.5] and found["draws"] == 40


def test_auto(chosen: Path, mixture_fit: list[str], folder: Path) -> None:
    found, run_summary = content(chosen / "levels.json"), content(chosen / "summary.json")
    assert run_summary["level"] == found["level"] in {level["level"] for level in found["levels"]}
    account = {name: found[name] for name in ("level", "reason", "draws", "resampled", "failed_rewards")}
    assert account | {name: found[name] for name in ("denoiser_calls", "reward_calls")} == run_summary["levels"]
    out = (chosen.parents[2] / "out.txt").read_text()
    assert f"graft: {found['reason']}" in out
    page = (chosen / "report.html").read_text()
    (picture,) = re.findall(r"<img alt='levels compared' src='data:image/png;base64,([^']+)'", page)
    assert base64.b64decode(picture) == (chosen / "levels.png").read_bytes()
    assert not re.search(r"""(src|href)\s*=\s*['"]?\s*(https?:)?//""", page) and "<h2>Levels</h2>" in page
    # what graft levels says of the same settings is what was done
    done("levels", *mixture_fit, *AUTO, "--run_dir", "same")
    assert content(folder / "same/levels.json") == found


def test_level_goes_with_the_weights(chosen: Path, mixture_fit: list[str], folder: Path) -> None:
    """Its config has auto; sampling, testing and a run with that level as a number agree."""
    level = content(chosen / "summary.json")["level"]
    done("sample", "--weights", chosen, "-n", "5", "--out", "a.csv")
    done("sample", "--weights", chosen, "-n", "5", "--out", "b.csv", "--level", level)
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    done("test", *mixture_fit, *AUTO, "--weights", chosen)
    assert "no level has been chosen yet" in run("predict", *mixture_fit, *AUTO).message
    assert "no level has been chosen yet" in run("validate", *mixture_fit, *AUTO).message
    done("fit", *mixture_fit, *AUTO, "--model.level", level, "--run_dir", "fixed")
    ours, theirs = (load_file(path / "tuned.safetensors") for path in (folder / "fixed", chosen))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert "levels" not in content(folder / "fixed/summary.json")


def test_warm_start_chooses_for_itself(chosen: Path, mixture_fit: list[str], folder: Path) -> None:
    tiny = ["--trainer.max_epochs", "1", "--data.evaluation.test_draws", "4", "--data.evaluation.validation_draws", "0"]
    done("fit", *mixture_fit, *AUTO, *tiny, "--seed_everything", "1", "--weights", chosen, "--run_dir", "warm")
    assert content(folder / "warm/levels.json")["origin"]["seed"] == 1


@pytest.mark.parametrize(
    "when", ["first round", *(pytest.param(each, marks=pytest.mark.slow) for each in ("last round", "end"))]
)
def test_resume(when: str, chosen: Path, mixture_fit: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The level is that of the run's folder, which is not chosen again, and the weights are equal bit for bit."""
    import callbacks

    from graft.commands.levels import search

    args = ["fit", *mixture_fit, *AUTO]
    if when == "end":
        shutil.copytree(chosen, "runs/mixture/1")
        Path("runs/mixture/1/summary.json").unlink()
    else:
        stopped = [*args, "--trainer.callbacks", "callbacks.Killed"]
        handler = signal.getsignal(signal.SIGINT)
        with monkeypatch.context() as patch:

            def interrupt(self: object, trainer: object, *rest: object) -> None:
                if trainer.global_step == (2 if when == "first round" else 6):
                    raise KeyboardInterrupt

            patch.setattr(callbacks.Killed, "on_train_batch_end", interrupt)
            assert run(*stopped).status == 130
        signal.signal(signal.SIGINT, handler)
        args = stopped
    before = {name: Path("runs/mixture/1", name).stat().st_mtime_ns for name in FILES}

    def never(*_: object) -> None:
        raise AssertionError("the levels were compared again")

    monkeypatch.setattr(search, "search_levels", never)
    done(*args, *LAST)
    resumed = folder / "runs/mixture/1"
    assert {name: (resumed / name).stat().st_mtime_ns for name in FILES} == before
    ours, theirs = (load_file(path / "tuned.safetensors") for path in (resumed, chosen))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert summary(resumed) == summary(chosen)


def test_interrupted_comparison_starts_over(
    chosen: Path, mixture_fit: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graft.commands.levels import search

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(search, "reroll", interrupt)
        assert run("fit", *mixture_fit, *AUTO).status == 130
    signal.signal(signal.SIGINT, handler)
    resumed = folder / "runs/mixture/1"
    assert not FILES & {path.name for path in resumed.iterdir()}
    done("fit", *mixture_fit, *AUTO, *LAST)
    assert summary(resumed) == summary(chosen)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fit", "--model.level", "atuo"], "model.level: Expected float or 'auto'. Got value: atuo"),
        (["fit", *AUTO, "--model.weights", "null"], "give model.weights"),
        (["levels", "--model.weights", "null"], "give model.weights"),
        (["levels", "--weights", "runs/mixture/1"], "leave out --weights"),
        (["levels", "--ckpt_path", "last"], "leave out --ckpt_path"),
        (["levels", "--data.level_search.candidates", "[0.5, 1.5]"], "data.level_search.candidates"),
        (["levels", "--data.level_search.draws", "1"], "data.level_search.draws is 1"),
        (["levels", "--data.level_search.drawz", "100"], "drawz"),
        (["levels", "--model.steps", "1", "--model.level", "0"], "sampler of 1 steps"),
        (["levels", "--data.accept", "AcceptAll", "--data.accept.deduplicate", "false"], "accepts no gain in spread"),
        (["levels", "--data.reward.path", "tried.raises"], "failed for all 64 draws"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(args: list[str], words: str, mixture_fit: list[str], folder: Path) -> None:
    assert words in run(args[0], *mixture_fit, *args[1:]).message
    assert not list(folder.rglob("levels.*")) and not list(folder.rglob("summary.json"))


def test_pretrain_needs_a_level_of_0(folder: Path) -> None:
    for how in (["--model.level", "auto"], ["--model.upper_level", "0.5"]):
        message = run("pretrain", "--config", "domains/molecule_small_pretrain.yaml", *how).message
        assert "leave model.level at 0 and model.upper_level at 1" in message


@pytest.mark.parametrize("damaged", ["{", '{"levels": [{"level": 1}]}', "[]"])
def test_damaged_choice(damaged: str, chosen: Path, mixture_fit: list[str]) -> None:
    shutil.copytree(chosen, "runs/mixture/1")
    Path("runs/mixture/1/summary.json").unlink()
    Path("runs/mixture/1/levels.json").write_text(damaged)
    assert "levels.json is damaged" in run("fit", *mixture_fit, *AUTO, *LAST).message


def test_help() -> None:
    message = re.sub(r"\s+", " ", done("fit", "--config", "domains/molecule.yaml", "--help").out)
    assert "at which 0.8 of the accepted gain survives" in message and "--data.level_search.candidates" in message
    assert "One re-rolled" not in message and "fewer reward calls and denoiser calls than one round" in message


def test_levels_that_the_objective_refuses(folder: Path, mixture_fit: list[str]) -> None:
    """The sampler reverses the process up to level 0.3; anchored shaping needs that below the level."""
    eta = [f"--model.process.init_args.{name}" for name in ("eta", "eta_above")]
    given = [*mixture_fit, *AUTO, eta[0], "2", eta[1], "0.3", "--model.objective", "AnchoredShaping"]
    candidates = "--data.level_search.candidates"
    done("fit", *given, candidates, "[0.125, 0.25, 0.5]")
    found = content(folder / "runs/mixture/1/levels.json")
    assert [level["level"] for level in found["levels"]] == [0, 0.125, 0.25]  # what is never chosen is not measured
    assert (
        found["level"] in (0, 0.125, 0.25) and "; 0.5 left out, since AnchoredShaping does not take" in found["reason"]
    )
    done("levels", *given, candidates, "[0.125, 0.25, 0.5]", "--run_dir", "all")
    every = content(folder / "all/levels.json")
    assert [level["level"] for level in every["levels"]] == [0, 0.125, 0.25, 0.5] and every["reason"] == found["reason"]
    assert every["reward_calls"] > found["reward_calls"]
    message = run("fit", *given, candidates, "[0.5, 0.75]").message
    assert "smaller data.level_search.candidates than 0.5" in message and "eta_above" in message
    assert not (folder / "runs/mixture/2").exists()  # refused before anything is sampled
    wrong = ["--model.objective", "DiffusionNFT"]  # which needs AcceptAll: no matter of levels
    assert "AcceptAll" in run("fit", *mixture_fit, *AUTO, *wrong, "--data.source", "current").message
