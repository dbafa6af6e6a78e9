"""``graft correct``: invert the flow on data, train the corrector on the noise, and compare at equal cost."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import nn

from graft import commands
from graft.commands.correct import flops, show, train_longer
from graft.commands.correct.data import InvertedNoiseData
from graft.commands.correct.inverted_chunk import summarize_inversion
from graft.commands.correct.inverter import check_invertible
from graft.commands.correct.pareto import Frontier, measure_frontier, summarize_frontier
from graft.commands.run_report import class_path, reference_name
from graft.core import distributed, limits, seeding
from graft.core.state import size
from graft.errors import GraftError
from graft.io.atomic import write_text
from graft.io.fingerprint import fingerprint_hash
from graft.io.json_files import nulls_for_not_finite, write_json
from graft.module import GraftModule
from graft.network.corrector import GaussianCorrector
from graft.runs import interruption, loggers
from graft.version import versions


def correct(
    module: GraftModule,
    data: InvertedNoiseData,
    run_dir: "str | Path",
    trainer: Trainer,
    config: str = "",
    command: str = "",
    checkpoint: "str | Path | None" = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Run inverse noise correction and return the content of ``summary.json``.

    The run inverts the frozen flow on data, trains the corrector on the noise, and compares ways to sample at equal
    cost.

    Args:
        module: The model, with its reference's weights and a corrector.
        data: The domain's data, which are inverted.
        run_dir: Folder of the run.
        trainer: ``graft.trainer(epochs)``, or another trainer with its settings.
        config: Configuration as YAML, stored with the run and the weights; if empty, it is written from the objects.
        command: Command that repeats the run, for the report.
        checkpoint: Checkpoint to resume from: a file, or ``last`` for the run's own.
        overwrite: True to remove a run that is in the folder.

    Raises:
        GraftError: The settings do not fit, too many samples cannot be inverted, or the folder holds a run that is
            neither resumed nor overwritten.
    """
    if module.policy.reference_file is None:
        raise GraftError("model.weights is null; graft correct corrects a frozen flow. Give model.weights.")
    limits.check("trainer.max_epochs", trainer.max_epochs, 1)
    check_invertible(module)
    if isinstance(trainer.strategy, ModelParallelStrategy | FSDPStrategy):
        raise GraftError(
            "trainer.strategy shards the weights; it must not, since samples need different numbers of network calls. "
            "Use ddp."
        )
    with commands.open_run(module, data, run_dir, trainer, config, checkpoint, overwrite) as run:
        data.run_dir = run.folder
        commands.train(module, data, trainer, run.folder, run.checkpoint)
        with interruption.at_once(run.folder, "in the comparison at the end"):
            return _compare(module, data, trainer, run, command)


def _compare(
    module: GraftModule, data: InvertedNoiseData, trainer: Trainer, run: commands.OpenRun, command: str
) -> dict[str, Any]:
    """Compare the ways to sample, write the files and return the summary."""
    folder = run.folder
    module.save_weights(folder / "tuned.safetensors", run.config)
    commands.evaluate_both(module, data, trainer)
    cost = _cost(module, data, trainer)
    longer = _train_longer(module, data, cost, folder, trainer)

    def measure_within() -> Frontier:
        data.trainer = trainer
        with trainer.precision_plugin.tensor_init_context():  # noise has the precision of the samples
            return measure_frontier(module, data, cost, None if longer is None else longer[0])

    frontier = distributed.run_within(trainer, module, measure_within)
    summary: dict[str, Any] = nulls_for_not_finite(_summary(module, data, frontier))
    summary |= {
        "flops": cost,
        "trained_longer": None if longer is None else longer[1],
        "seconds": round(run.clock.seconds, 1),
    }
    if trainer.is_global_zero:
        _write(module, folder, summary, command, trainer)
    return summary


def _write(module: GraftModule, folder: Path, summary: dict[str, Any], command: str, trainer: Trainer) -> None:
    """Write the samples, the page, the card and ``summary.json``."""
    commands.write_samples(module, folder)
    pictures = {name: commands.render_samples(module, evaluator) for name, evaluator in module.evaluators.items()}
    show.write_report(
        folder / "report.html",
        summary,
        f"{type(module).__name__}: inverse noise correction",
        command,
        _losses(trainer),
        {name: png for name, png in pictures.items() if png is not None},
    )
    write_text(folder / "CARD.md", show.corrector_card(summary, class_path(module), reference_name(module), command))
    write_json(folder / "summary.json", summary)  # written last, since a run with this file is finished


def _cost(module: GraftModule, data: InvertedNoiseData, trainer: Trainer) -> dict[str, float]:
    """Return the floating-point operations of each part of the correction, by name.

    ``call`` and ``corrector_call``: A call of the flow's and of the corrector's network for one sample. ``inversion``:
    The inversion of the data, with the perturbed copies and the round trips. ``certificate``: The inversion of samples
    of known noise. ``training``: The training of the corrector, with the validation losses.
    """
    assert data.recovered is not None and module.policy.corrector is not None
    given = module.sample_conditions(8, seeding.make_generator(module.seed, "flops"))
    condition, noise = trainer.precision_plugin.convert_input((given, module.policy.process.prior(given)))
    call = flops.count_call(module.policy.process, module.policy.reference_forward, noise, condition)
    own = flops.count_call(module.policy.corrector.process, module.policy.backbone, noise, condition)
    epochs = trainer.max_epochs or 1
    fitted = isinstance(module.policy.corrector, GaussianCorrector)
    samples = 0 if fitted else epochs * data.steps_per_epoch * data.train_batch_size
    validated = 0 if fitted else epochs * size(data.examples(held_out=True).condition)
    return {
        "call": call,
        "corrector_call": own,
        "inversion": call * data.recovered.inverted.calls,
        "certificate": call * data.certificate.inverted.calls if data.certificate is not None else 0.0,
        "training": own * (flops.BACKWARD * samples + validated),
    }


def _train_longer(
    module: GraftModule, data: InvertedNoiseData, cost: dict[str, float], folder: Path, trainer: Trainer
) -> "tuple[nn.Module, dict[str, Any]] | None":
    """Return the flow after more training and the settings of that training.

    The training costs as much as the correction. Its data are all samples that are not held out, as a user would
    train. The result is None without this baseline and for several ranks.
    """
    if not data.train_longer_baseline or trainer.world_size > 1:
        return None
    chosen = data.chosen
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        batch = size(chosen.encoded(next(iter(chosen.batches())))[1])
    paid = cost["inversion"] + cost["certificate"] + cost["training"]
    steps = train_longer.steps_for_flops(paid, cost["call"], batch)
    if steps < 1:
        return None
    settings = {"steps": steps, "batch": batch, "learning_rate": data.longer_learning_rate}
    about = {**settings, "samples": fingerprint_hash(chosen.split.rest)}
    return train_longer.train_longer(module, chosen, about, folder, trainer), settings


def _summary(module: GraftModule, data: InvertedNoiseData, found: Frontier) -> dict[str, Any]:
    assert data.recovered is not None
    features = None
    if module.supports("features"):
        features = module.features(module.decode(data.recovered.data, data.recovered.condition))
    floor = found.floor[found.distance]
    reference, tuned = (commands.to_json(module.evaluators[w].summary()) for w in ("reference", "tuned"))
    return {
        "reference": reference,
        "tuned": tuned,
        "inversion": summarize_inversion(data.recovered, data.max_round_trip_error, data.certificate, features),
        "dequantize_std": data.noise_std(module),
        "distance": {
            "name": found.distance,
            "floor": sum(floor) / len(floor),
            "held_out": len(data.chosen.split.held_out),
            "n": found.n,
            "sets": len(floor),
            "floors": found.floor,
        },
        "frontier": [
            {
                "name": row.name,
                "solver": row.solver,
                "steps": row.steps,
                "warp": row.warp,
                "flops": row.flops,
                "distances": {
                    name: {
                        "mean": row.mean(name),
                        "stderr": row.error(name),
                        "each": each,
                    }
                    for name, each in row.distances.items()
                },
            }
            for row in found.rows
        ],
        "conclusion": summarize_frontier(found),
        "level": module.policy.handover_level,
        "steps": module.policy.steps,
        "solver": type(module.policy.solver).__name__,
        "evaluation_denoiser_calls": sum(evaluator.denoiser_calls for evaluator in module.evaluators.values()),
        "seed": module.seed,
        "versions": versions(),
    }


def _losses(trainer: Trainer) -> list[tuple[float, float, float]]:
    """Return (epoch from 1, mean training loss, held-out loss) of each epoch."""
    training: dict[int, list[float]] = {}
    held_out: dict[int, float] = {}
    for row in loggers.metrics_file(trainer).rows:
        if "epoch" not in row:
            continue
        epoch = int(row["epoch"])
        if "train/loss" in row:
            training.setdefault(epoch, []).append(float(row["train/loss"]))
        if "validation/loss" in row:
            held_out[epoch] = float(row["validation/loss"])
    return [(e + 1, sum(x) / len(x), held_out[e]) for e, x in sorted(training.items()) if e in held_out]
