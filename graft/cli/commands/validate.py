"""``graft validate``: judge draws of a model."""

from graft import report
from graft.cli.parser import setup
from graft.cli.run import say, warm


def run(args: list[str]) -> None:
    """Draw and score."""
    cli, _ = setup("validate", args)
    warm(cli)
    cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    cli.datamodule.reward.close()
    for name, value in cli.model.judges["tuned"].summary().items():
        say(cli, f"{name.replace('_', ' '):<20} {report.number(value)}")
