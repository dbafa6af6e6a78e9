"""``graft predict``: draw from a model into the run's folder."""

from graft import commands, files
from graft.cli.run import begun, say


def run(args: list[str]) -> None:
    """Draw as many as the comparison's."""
    cli, _, folder, _ = begun("predict", args, "_predict")
    drawn = commands.sample(cli.model, cli.trainer, cli.datamodule.test_draws, "predict")
    items = [item for part, _ in drawn for item in part]
    path = folder / f"samples{cli.model.suffix}"
    if cli.trainer.is_global_zero:
        files.written(path, lambda temporary: cli.model.write(items, temporary))
    say(cli, f"{len(items)} objects in {path}")
