"""``graft predict``: sample a model into the run's folder."""

from graft import commands
from graft.cli.context import rank_zero_print, start_run
from graft.io.atomic import write_with


def run(args: list[str]) -> None:
    """Sample as many objects as ``data.evaluation.test_draws``, and write them."""
    cli, _, folder, _ = start_run("predict", args, "_predict")
    drawn = commands.sample_chunks(cli.model, cli.trainer, cli.datamodule.evaluation.test_draws, "predict")
    items = [item for part, _ in drawn for item in part]
    path = folder / f"samples{cli.model.file_suffix}"
    if cli.trainer.is_global_zero:
        write_with(path, lambda temporary: cli.model.write(items, temporary))
    rank_zero_print(cli, f"{len(items)} objects in {path}")
