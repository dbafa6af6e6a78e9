"""Several processes have the result of one: accepted draws, weights and files."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import broken
import pytest
import torch
from called import HERE, REWARD, TOY, Result, done, run
from safetensors.torch import load_file
from tracked import FIT, TRACKER, tracked

from graft.errors import GraftError
from graft.runs.checkpoint import read_checkpoint as checkpoint_of
from graft.runs.sharding import INDEX, check_index

DOUBLE = ["--trainer.precision", "64-true"]  # sums of another order show in the last places only
TWO = ["--config", "trainer/ddp.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
SHARDED = ["--config", "trainer/fsdp.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
PARTS = ["--trainer.strategy.save_distributed_checkpoint", "true"]
LORA = ["--model.lora.rank", "2", "--model.lora.target_modules", "all-linear"]
NODES = [*TWO, "--trainer.devices", "1", "--trainer.num_nodes", "2"]
UNEVEN = ["--data.draws", "72", "--data.batch_size", "24", "--data.accept.fraction", "0.3"]  # 3 requests, 21 or so kept
OF_ARGS = [*DOUBLE, *UNEVEN, "--data.steps_per_round", "10"]
PATHS = os.pathsep.join(filter(None, (str(HERE), str(TOY), os.environ.get("PYTHONPATH"))))  # of other processes
Pair = Callable[..., list[Result]]
NFT = [
    *["--model.objective", "DiffusionNFT", "--model.objective.decay_increment", "0.3", "--data.source", "current"],
    *["--data.replay_rounds", "1", "--data.accept", "AcceptAll", "--data.accept.deduplicate", "false"],
]
KILLED = ["--trainer.callbacks", "callbacks.Killed"]


@pytest.fixture(scope="module")
def args(mixture_fit: list[str]) -> list[str]:
    return ["fit", *mixture_fit, *OF_ARGS]


@pytest.fixture(scope="module")
def one(args: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("one")
    done(*args, "--run_dir", folder)
    return folder


def start(*args: object, command: "tuple[str, ...]" = ("-m", "graft"), **environment: str) -> "subprocess.Popen[str]":
    """A process that may start others."""
    return subprocess.Popen(
        [sys.executable, *command, *map(str, args)],
        env={**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output(process: "subprocess.Popen[str]", status: int = 0) -> str:
    message, _ = process.communicate(timeout=240)
    assert process.returncode == status, message
    return message


@pytest.fixture(scope="module")
def pair() -> "Iterator[Pair]":
    """Run a command as one of two processes, however they are started; return the output of each."""
    waiting = [
        subprocess.Popen(
            [sys.executable, HERE / "waiting.py"],
            env={
                **os.environ,
                "PYTHONPATH": PATHS,
                **{"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": "0"},
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]

    def both(*args: object) -> "list[Result]":
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port()}
        request = {"folder": os.getcwd(), "environment": where, "args": [str(arg) for arg in args]}
        for process in waiting:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        return [Result(*json.loads(process.stdout.readline())) for process in waiting]

    yield both
    for process in waiting:
        with process:
            process.stdin.close()


def port() -> str:
    """One that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def same(ours: Path, theirs: Path, most: float = 1e-9) -> None:
    """Two runs accepted the same bit for bit, and learned the same but for the order of sums."""
    rounds = sorted(path.relative_to(theirs) for path in theirs.glob("rounds/*/accepted.*"))
    assert rounds == sorted(path.relative_to(ours) for path in ours.glob("rounds/*/accepted.*")) and len(rounds) == 4
    for path in rounds:
        if path.suffix == ".csv" and (most <= 1e-9 or path.parts[1] == "0"):
            assert (ours / path).read_bytes() == (theirs / path).read_bytes()
        elif path.suffix == ".csv":  # which were accepted, whatever the last place of their rewards
            lines = ((run / path).read_text().splitlines() for run in (ours, theirs))
            first, second = ([line.partition(",")[0] for line in each] for each in lines)
            assert first == second and first[0] == "draw"
        else:
            # what was drawn with weights that differ in the last place differs there, too
            alike(load_file(ours / path), load_file(theirs / path), 0.0 if path.parts[1] == "0" else most)
    alike(load_file(ours / "tuned.safetensors"), load_file(theirs / "tuned.safetensors"), most)
    ours_summary, theirs_summary = (json.loads((run / "summary.json").read_text()) for run in (ours, theirs))
    for side in ("reference", "tuned"):
        found, wanted = flat(ours_summary[side]), flat(theirs_summary[side])
        assert found == pytest.approx(wanted, rel=1e-6, nan_ok=True)
    assert {k: ours_summary[k] for k in ("reward_calls", "denoiser_calls")} == {
        k: theirs_summary[k] for k in ("reward_calls", "denoiser_calls")
    }


def flat(values: "dict[str, Any]") -> "dict[str, float]":
    """A metric of several parts has one number for each."""
    out: dict[str, float] = {}
    for name, value in values.items():
        out |= {f"{name}/{part}": v for part, v in value.items()} if isinstance(value, dict) else {name: value}
    return out


def alike(ours: "dict[str, torch.Tensor]", theirs: "dict[str, torch.Tensor]", most: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert tensor.dtype == ours[name].dtype and tensor.shape == ours[name].shape
        assert float((ours[name].double() - tensor.double()).abs().max()) <= most, name


def test_two_processes(args: list[str], one: Path, folder: Path) -> None:
    """With an uneven number of requests and accepted samples, no rank waits for ever, and nothing is lost."""
    message = output(start(*args, *TWO, "--run_dir", "two"))
    same(folder / "two", one)
    assert message.count("graft: run in two") == 1 and "Warning" not in message, message
    tensors = load_file(folder / "two" / "tuned.safetensors").values()
    assert any(tensor.dtype == torch.float64 for tensor in tensors)


@pytest.mark.slow
def test_two_processes_of_a_discrete_field(small: list[str], folder: Path, pair: Pair) -> None:
    """Atom types are noised as classes and positions with Gaussian noise; every rank gets its samples' noise."""
    args = ["fit", *small, *OF_ARGS]
    field = "--model.process.init_args.fields.h"
    discrete = [field, "graft.process.UniformCategorical", f"{field}.shape", "[8, 10]"]
    discrete += [f"{field}.projection", "graft.process.MaskProjection", "--trainer.max_epochs", "2"]
    done(*args, *discrete, "--run_dir", "one")
    for result in pair(*args, *discrete, *TWO, "--run_dir", "two"):
        assert result.status == 0, result.err
    same(folder / "two", folder / "one")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["torchrun", "lightning"])
def test_two_nodes(how: str, args: list[str], one: Path, folder: Path) -> None:
    """Two nodes of one process each, as a cluster starts them."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port()}
    started = []
    for rank in "01":
        if how == "torchrun":
            run = ("-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", "--node_rank", rank)
            run += ("--master_addr", where["MASTER_ADDR"], "--master_port", where["MASTER_PORT"], "-m", "graft")
            started.append(start(*args, *NODES, "--run_dir", "two", command=run))
        else:
            started.append(start(*args, *NODES, "--run_dir", "two", **where, NODE_RANK=rank))
    for process in started:
        output(process)
    same(folder / "two", one)


def test_rewards_of_one_process_fail(mixture_fit: list[str], folder: Path, pair: Pair) -> None:
    """Failed rewards are counted, and both processes learn from the rewards of the other."""
    failing = [*REWARD, "--data.reward.path", "tried.fails_in_another_process"]
    for result in pair("fit", *mixture_fit, *failing, *TWO, "--trainer.max_epochs", "1", "--run_dir", "two"):
        assert result.status == 0, result.err
    with (folder / "two" / "metrics.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["rollout/failed_rewards"]) == 32  # of 64
    with (folder / "two" / "rounds" / "0" / "accepted.csv").open(newline="") as file:
        accepted = [int(row["draw"]) for row in csv.DictReader(file)]
    assert accepted and max(accepted) < 32  # the first process's
    summary = json.loads((folder / "two" / "summary.json").read_text())
    assert summary["tuned"]["n"] == 32 and summary["tuned"]["failed_rewards"] == 0  # one request, of the first process


@pytest.mark.slow
def test_molecules_of_files(small: list[str], folder: Path, pair: Pair) -> None:
    """The first process embeds them, and the other one finds the conformers; both refuse a file of little use."""
    rows = "".join(f"{'C' * (1 + i % 7)}{end},{i}\n" for i, end in enumerate("ON" * 8))
    (folder / "assay.csv").write_text(f"smiles,score\n{rows}nonsense,3\n")
    given = ["fit", *small, "--data.source.path", "assay.csv", "--data.source.score_column", "score", *TWO]
    for result in pair(*given, "--trainer.max_epochs", "1", "--run_dir", "two"):
        assert result.status == 0, result.err
    scored = json.loads((folder / "two" / "summary.json").read_text())["scored_set"]
    assert (scored["objects"], scored["replicates"]) == (14, 2) and scored["invalid_by_reason"] == {"no SMILES": 1}
    for result in pair(*given, "--data.source.max_invalid_fraction", "0.01", "--run_dir", "none"):
        assert result.status == 2 and "1 of 17 records" in result.err, result.err


def test_all_rewards_fail(mixture_fit: list[str], folder: Path, pair: Pair) -> None:
    """Every process ends, with the sentence."""
    failing = [*REWARD, "--data.reward.path", "tried.raises"]
    for result in pair("fit", *mixture_fit, *failing, *TWO, "--run_dir", "two"):
        assert result.status == 2 and "docking program is not installed" in result.err, result.err


@pytest.mark.parametrize(("before", "after"), [("one", "two"), pytest.param("two", "one", marks=pytest.mark.slow)])
def test_goes_on_with_another_number(
    before: str, after: str, args: list[str], one: Path, folder: Path, pair: Pair
) -> None:
    """Nothing is repeated or lost if two processes finish the round of one, or one that of two."""
    how = {"one": [], "two": TWO}
    killed = start(*args, *KILLED, *how[before], "--run_dir", "run", TRIED_KILL="training", TRIED_STEP="16")
    killed.communicate(timeout=240)
    assert killed.returncode in (-signal.SIGKILL, -signal.SIGTERM) and not (folder / "run/summary.json").exists()
    drawn = {path: path.stat().st_mtime_ns for path in (folder / "run/rounds").rglob("*_0000*")}
    assert drawn
    again = [*args, *KILLED, *how[after], "--run_dir", "run", "--ckpt_path", "last"]
    for result in pair(*again) if after == "two" else [run(*again)]:
        assert result.status == 0, result.err
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn
    same(folder / "run", one)


@pytest.mark.slow
def test_one_process_gets_a_signal(args: list[str], one: Path, folder: Path) -> None:
    """Both finish the step, and one process resumes from there."""
    request = start(*args, *KILLED, *TWO, "--run_dir", "run", TRIED_KILL="signal", TRIED_STEP="16")
    message = output(request, status=143)
    assert message.count("graft: interrupted after step 16") == 1 and "Traceback" not in message, message
    assert torch.load(folder / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 16
    done(*args, *KILLED, "--run_dir", "run", "--ckpt_path", "last")
    same(folder / "run", one)


@pytest.mark.parametrize(
    "how", ["one file", pytest.param("a folder", marks=[pytest.mark.slow, pytest.mark.needs("peft")])]
)
def test_sharded(how: str, mixture_fit: list[str], folder: Path) -> None:
    """FSDP2 on two processes, stopped and resumed, has the result of one process, to float32's precision.

    A checkpoint in one file, here of an objective that keeps weights of its own, is gone on with by one process; one in
    parts, here of an adapter, by two.
    """
    method = LORA if how == "a folder" else NFT
    uneven = UNEVEN if how == "a folder" else UNEVEN[:-2]  # it learns from all draws
    settings = ["fit", *mixture_fit, *uneven, *KILLED, "--data.steps_per_round", "10", *method]
    done(*settings, "--run_dir", "one")
    two = [*settings, *SHARDED, *(PARTS if how == "a folder" else []), "--run_dir", "two"]
    killed = start(*two, TRIED_KILL="training", TRIED_STEP="16")
    message, _ = killed.communicate(timeout=240)
    checkpoint = folder / "two" / "checkpoints" / "last.ckpt"
    assert killed.returncode in (-signal.SIGKILL, -signal.SIGTERM), message
    assert checkpoint.is_dir() == (how == "a folder") and checkpoint.exists()
    last = ["--run_dir", "two", "--ckpt_path", "last"]
    if how == "a folder":
        assert {path.name for path in checkpoint.parent.iterdir()} == {"last.ckpt"}
        changed = folder / "changed.ckpt"
        shutil.copytree(checkpoint, changed)
        part = max(changed.glob("*.distcp"))
        part.write_bytes(part.read_bytes()[:-1] + b"x")
        with pytest.raises(GraftError, match=r"distcp is missing or was changed"):
            checkpoint_of(changed)
        output(start(*two, "--ckpt_path", "last"))
    else:
        done(*settings, *last)
    same(folder / "two", folder / "one", 1e-5)


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "torch.load", "torch.distributed.checkpoint.state_dict.os"]
)
def test_sharded_index_that_would_run_code(name: str, folder: Path) -> None:
    package, _, function = name.rpartition(".")
    (folder / INDEX).write_bytes(f"c{package}\n{function}\n(S'touch ran'\ntR.".encode())
    with pytest.raises(GraftError, match="tampered"):
        check_index(folder)
    assert not (folder / "ran").exists()


def test_networks_that_cannot_be_sharded(mixture_fit: list[str], folder: Path) -> None:
    message = run(
        "fit", *mixture_fit, "--trainer.strategy", "fsdp", "--trainer.accelerator", "cpu", "--trainer.devices", "1"
    )
    assert message.status == 2 and "FSDP" in message.err


def test_a_batch_that_cannot_be_shared(args: list[str], folder: Path, pair: Pair) -> None:
    for result in pair(*args, *TWO, "--data.train_batch_size", "15", "--run_dir", "two"):
        assert result.status == 2 and "be a multiple of 2" in result.err
    assert not (folder / "two/rounds").exists()


# What is not finite on one rank ends all


PLANE_FIT = ["fit", "--config", "plane.yaml", "--data.reward", "broken.Right", "--data.draws", "48"]
PLANE_FIT += ["--data.batch_size", "24", "--data.train_batch_size", "8", "--data.steps_per_round", "4"]
PLANE_FIT += [
    "--data.evaluation.validation_draws",
    "24",
    "--data.evaluation.test_draws",
    "24",
    "--trainer.max_epochs",
    "1",
]
PLANE_FIT += ["--data.evaluation.alarms", "null", "--run_dir", "run"]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a fit of a small domain, whose configuration and reference are in a folder."""
    folder = tmp_path_factory.mktemp("plane")
    (folder / "plane.yaml").write_text(broken.PLANE)
    pretrain = ["pretrain", "--config", folder / "plane.yaml", "--data", "broken.Points", "--trainer.max_epochs", "1"]
    done(*pretrain, "--run_dir", folder / "pretrained")
    args = [str(folder / "plane.yaml") if arg == "plane.yaml" else arg for arg in PLANE_FIT]
    return [*args, "--model.weights", str(folder / "pretrained" / "reference.safetensors")]


NETWORK = "--model.backbone"
ON_ONE_RANK = {
    "loss": ([NETWORK, "broken.NotANumber", f"{NETWORK}.at", "3", *TWO], "the loss of step 3 is nan: lower"),
    "loss without a gradient": (["--model", "broken.AuxiliaryLoss", *TWO], "the loss of step 3 is nan: lower"),
    "loss of a part": (
        [NETWORK, "broken.NotANumber", f"{NETWORK}.at", "5", "--trainer.accumulate_grad_batches", "2", *TWO],
        "the loss of step 3 is nan: lower",
    ),
    "loss, sharded": (
        [NETWORK, "broken.NotANumber", f"{NETWORK}.at", "3", *SHARDED],
        "the loss of step 3 is nan: lower",
    ),
    "samples": ([NETWORK, "broken.Overflows", *TWO], "samples are not finite from level 0.25 on"),
    "samples, sharded": (
        [NETWORK, "broken.Overflows", *SHARDED],
        "samples are not finite from level 0.25 on",
    ),
}


@pytest.mark.parametrize("case", ON_ONE_RANK)
def test_not_finite_on_one_rank(case: str, plane: list[str], folder: Path, pair: Pair) -> None:
    """Every process ends, with the sentence; nothing is written."""
    args, sentence = ON_ONE_RANK[case]
    rank = [f"{NETWORK}.rank", "1"] if NETWORK in args else []
    for result in pair(*plane, *args, *rank):
        assert result.status == 2 and sentence in result.err, result.err
    assert not [*(folder / "run").rglob("*.ckpt"), *(folder / "run").rglob("tuned.safetensors")]


def test_domain_without_super(plane: list[str], folder: Path, pair: Pair) -> None:
    """A domain that overrides every hook is sharded, averaged and saved like another."""
    args = [*plane, "--model", "broken.Deaf", "--model.tuning.ema_decay", "0.5"]
    done(*args, "--run_dir", "one")
    for result in pair(*args, *SHARDED):
        assert result.status == 0, result.err
    alike(load_file("run/tuned.safetensors"), load_file("one/tuned.safetensors"), 1e-5)
    assert checkpoint_of(folder / "run/checkpoints/last.ckpt")["graft"]["reference"]


def test_loggers_and_callbacks_of_the_user(toy: Path, pair: Pair) -> None:
    """The first process alone gives a logger anything, also one that does not see to that itself."""
    monitors = [
        {"class_path": "LearningRateMonitor", "init_args": {"logging_interval": "step"}},
        {"class_path": "EarlyStopping", "init_args": {"monitor": "rollout/reward", "mode": "max"}},
        {"class_path": "ModelCheckpoint", "init_args": {"monitor": "validation/reward", "filename": "best"}},
    ]
    Path("callbacks.yaml").write_text(json.dumps({"trainer": {"callbacks": monitors}}))
    for result in pair("fit", *FIT, *TRACKER, "--config", "callbacks.yaml", *TWO, "--run_dir", "two"):
        assert result.status == 0, result.err
    found = tracked()
    assert len({each["pid"] for kind in found.values() for each in kind}) == 1
    assert len(found["hyperparameters"]) == 1
    with Path("two/metrics.csv").open(newline="") as file:
        rows = [{name for name, value in row.items() if value} - {"step"} for row in csv.DictReader(file)]
    assert [{*each["values"]} for each in found["metrics"]] == rows and any("lr-FusedAdamW" in row for row in rows)
    assert {path.name for path in Path("two/checkpoints").glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}
