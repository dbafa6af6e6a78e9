"""Every shipped configuration runs; how they are found, merged and listed."""

import shutil
from pathlib import Path

import pytest
import yaml
from called import HALF, MOLECULE, QUIET, REWARD, SMALL, done, run

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
OTHER = [name for name in NAMES if "text_to_image" in name]  # tests/text_to_image runs them
ELSEWHERE = {"trainer/gpu.yaml", "trainer/slurm.yaml"}  # need machines that are not here
ELSEWHERE |= {"trainer/ddp.yaml", "trainer/fsdp.yaml"}  # run by test_processes.py

ONE = [
    "--trainer.max_epochs",
    "1",
    "--data.steps_per_round",
    "2",
    "--data.evaluation.test_draws",
    "16",
    "--model.steps",
    "6",
]


def settings(*args: object) -> dict:
    """Return the settings that the flags of a command resolve to."""
    return yaml.safe_load(done("fit", *args, "--print_config").out)


DEFAULTS = ("domains/molecule.yaml", "domains/layout.yaml", "domains/image.yaml", "domains/image_noise.yaml")
DOMAINS = [name for name in NAMES if name.startswith("domains/") and name not in OTHER]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[
                *([] if name in DEFAULTS else [pytest.mark.slow]),
                *([pytest.mark.needs("diffusers")] if "image" in name else []),
            ],
        )
        for name in DOMAINS
    ],
)
def test_domain(name: str, folder: Path) -> None:
    """Each domain has its own reference, reward and rule."""
    content = yaml.safe_load((CONFIGS / name).read_text())
    if isinstance(content["data"].get("source"), dict):
        short = [
            "--data.samples",
            "12",
            "--data.num_dequantizations",
            "1",
            "--data.num_certificate_draws",
            "2",
            "--data.steps_per_epoch",
            "2",
        ]
        short += ["--data.test_draws", "6", "--data.num_repeats", "1", "--data.baseline_steps", "[1]"]
        short += ["--data.train_batch_size", "8"]
        done(
            "correct",
            "--config",
            name,
            *short,
            "--trainer.max_epochs",
            "1",
            "--data.source.max_invalid_fraction",
            "0.9",
            *QUIET,
        )
        made = "tuned.safetensors"
    elif "class_path" in content["data"]:
        limits = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"]
        limits += ["--data.max_heavy_atoms", "4"] if "molecule" in name else []
        limits += few(folder) if "qm9" in name else []
        limits += ["--data.count", "64"] if "layout" in name else []
        done("pretrain", "--config", name, *limits, "--model.steps", "4", *QUIET)
        made = "reference.safetensors"
    else:
        own = ["--data.source", content["data"].get("source", "reference")]
        done("fit", "--config", name, *SMALL, *ONE, *own, *QUIET, *(few(folder)[2:] if "qm9" in name else []))
        made = "tuned.safetensors"
    assert (folder / "runs" / Path(name).stem / "1" / made).exists()


def few(folder: Path) -> list[str]:
    """Settings with molecules in place of QM9, which has to be downloaded; samples have few atoms, for speed."""
    path = folder / "some.smi"
    path.write_text("\n".join(["CCO", "CCN", "CC=O", "COC", "CCC", "C1CC1", "NC=O", "OCCO", "CCF", "CC#N"]))
    return ["--data.source", str(path), "--model.sizes", "5"]


OF_ANY = [  # the others: tests/layouts, tests/images
    name for name in NAMES if not name.startswith("domains/") and "layout" not in name and name not in OTHER
]


@pytest.mark.parametrize("name", OF_ANY)
def test_fragment(name: str, folder: Path, reference: Path) -> None:
    """Laid over a domain's configuration."""
    ode = ["--config", "process/molecule_ode.yaml"] if name.startswith("corrector/") else []
    merged = [*MOLECULE, *ode, "--config", name, "--model.weights", reference]
    given = settings(*merged)
    for path, value in _leaves(yaml.safe_load((CONFIGS / name).read_text())):
        found = given
        for key in path:
            found = found[key]
        assert found == value, path


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OF_ANY if name not in ELSEWHERE])
def test_run_with_a_fragment(name: str, folder: Path, reference: Path) -> None:
    ode = ["--config", "process/molecule_ode.yaml"] if name.startswith("corrector/") else []
    merged = [*MOLECULE, *ode, "--config", name, "--model.weights", reference]
    half = HALF if "window" in name else []  # a window leaves few of 64
    source = settings(*merged)["data"]["source"]
    done("fit", *merged, *SMALL, *ONE, *QUIET, *REWARD, *half, "--data.source", source)
    assert (folder / "runs/molecule/1/summary.json").exists()


def _leaves(value: object, *path: str) -> list:
    if not isinstance(value, dict):
        return [(path, value)]
    return [leaf for key, inner in value.items() for leaf in _leaves(inner, *path, key)]


def test_every_config_says_what_it_is_for() -> None:
    for name in NAMES:
        assert (CONFIGS / name).read_text().startswith("# "), name


def test_later_config_wins_and_flags_win_over_all(folder: Path) -> None:
    (folder / "a.yaml").write_text("data: {draws: 100, replay_rounds: 3}")
    (folder / "b.yaml").write_text("data: {draws: 200}")
    ab = settings(*MOLECULE, "--config", "a.yaml", "--config=b.yaml")["data"]
    assert (ab["draws"], ab["replay_rounds"]) == (200, 3)
    assert settings(*MOLECULE, "--config=b.yaml", "--config", "a.yaml")["data"]["draws"] == 100
    assert settings(*MOLECULE, "-c", "b.yaml", "--data.draws", "300")["data"]["draws"] == 300
    shipped = yaml.safe_load((CONFIGS / MOLECULE[-1]).read_text())
    assert ab["steps_per_round"] == shipped["data"]["steps_per_round"]


def test_own_configs_come_before_installed_ones(folder: Path) -> None:
    shipped = settings(*MOLECULE)
    own = folder / "configs" / "domains" / "molecule.yaml"
    own.parent.mkdir(parents=True)
    shutil.copy(CONFIGS / "domains/molecule.yaml", own)
    own.write_text(own.read_text().replace("level: 0.167", "level: 0.25"))
    assert (shipped["model"]["init_args"]["level"], settings(*MOLECULE)["model"]["init_args"]["level"]) == (0.167, 0.25)
    assert settings("--config", own)["model"]["init_args"]["level"] == 0.25  # as a path
    (folder / "domains").mkdir()
    (folder / "domains" / "molecule.yaml").write_text(own.read_text().replace("level: 0.25", "level: 0.5"))
    assert settings(*MOLECULE)["model"]["init_args"]["level"] == 0.5  # a path from here comes first of all


@pytest.mark.parametrize("args", [["--config", "molecul"], ["--config=molecul"], ["-c", "molecul"], []])
def test_what_there_is_is_listed(args: list[str], folder: Path) -> None:
    (folder / "configs").mkdir()
    (folder / "configs" / "mine.yaml").write_text("{}")
    message = run("fit", *args).message
    assert "mine.yaml" in message and all(name in message for name in NAMES)
    assert not args or "'molecul'" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [("data: [1, 2", "mine.yaml"), ("data: {drawz: 3}", "drawz"), ("- 3", "mine.yaml"), ("\0", "mine.yaml")],
    ids=["no YAML", "misspelt", "no mapping", "no text"],
)
def test_config_with_a_mistake(content: str, words: str, folder: Path) -> None:
    (folder / "mine.yaml").write_text(content)
    assert words in run("fit", *MOLECULE, "--config", "mine.yaml", *SMALL, *HALF).message


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--data.rewards", "Did you mean --data.reward?"),
        ("--trainer.max_epoch", "Did you mean --trainer.max_epochs?"),
        ("--model.levle", "Did you mean level?"),
        ("--model.fragmet", "Did you mean fragment?"),
        ("--data.accept.fractoin", "graft.accept.TopFraction has no setting fractoin. Did you mean fraction?"),
        ("--something.else", "there is no setting --something.else. The flag --help lists the settings."),
        (
            "--model.tunin.ema_decay",
            "there is no setting --model.tunin.ema_decay. Did you mean --model.tuning.ema_decay?",
        ),
        ("--model.optimizer.lrate", "graft.optimizers.FusedAdamW has no setting lrate."),
    ],
)
def test_a_misspelt_setting(flag: str, meant: str, folder: Path) -> None:
    assert meant in run("fit", *MOLECULE, flag, "3").message
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--data.draw", "--data.draws"),
        ("--run", "--run_dir"),
        ("--model.tuning.ema", "--model.tuning.ema_decay"),
        ("--model.init_args.tuning.ema", "--model.tuning.ema_decay"),
        ("--model.optimizer.weight", "weight_decay"),
        ("--data.accept.frac", "fraction"),
        ("--data.budget.max_c", "--data.budget.max_calls"),
    ],
)
def test_a_setting_needs_its_whole_name(flag: str, meant: str, folder: Path) -> None:
    """An abbreviation that is unique today may name another setting tomorrow."""
    for args in ([flag, "0.5"], [f"{flag}=0.5"]):
        assert f"Did you mean {meant}?" in run("fit", *MOLECULE, *args).message


@pytest.mark.parametrize("command", ["sample", "hits", "evaluate", "rate"])
def test_a_flag_needs_its_whole_name(command: str, folder: Path) -> None:
    assert run(command, "--see", "3").message == "graft: there is no setting --see. Did you mean --seed?"
    assert run(command, "-m", "3").message == "graft: there is no setting -m. The flag --help lists the settings."


def test_a_refused_command_leaves_no_folder(folder: Path) -> None:
    """The next run takes the number that the refused run would have had."""
    assert "no reward function" in run("fit", *MOLECULE, "--data.reward", "nothing.here").err
    assert not (folder / "runs/molecule/1").exists()


def test_run_is_named_after_the_first_config(folder: Path, small: list[str]) -> None:
    done("fit", *small, "--config", "accept/all.yaml", "--trainer.max_epochs", "1", "--data.evaluation.test_draws", "4")
    assert (folder / "runs/molecule/1/summary.json").exists()
