"""``graft sample``: sample objects from the weights of a run into a file."""

import math
from pathlib import Path
from typing import Any

from graft import commands, report
from graft.cli.arguments import model_overrides
from graft.cli.flags import CommandParser
from graft.cli.weights import add_flags, check_output_suffix, load_run
from graft.commands.compare.best_of import best_of_n
from graft.core import limits
from graft.errors import GraftError
from graft.io.atomic import write_bytes, write_with
from graft.reward import score_objects


def run(args: list[str]) -> None:
    """Sample, and write the file."""
    parser = CommandParser(prog="graft sample", description="Sample objects from the weights of a run into a file.")
    add_flags(parser, 256)
    parser.add_argument(
        "--interpolate",
        type=float | None,
        metavar="W",
        help="Sample with the weights W * tuned + (1 - W) * reference: 0 is the reference, 1 the tuned model.",
    )
    parser.add_argument(
        "--best_of",
        type=int | None,
        metavar="N",
        help="For each object, sample N under the same condition and keep the one with the best reward.",
    )
    parser.add_argument(
        "--condition",
        type=str | None,
        metavar="FILE",
        help="File of the domain with the fixed part of every sample, such as some elements of a page.",
    )
    given, args = model_overrides(args)
    flags = parser.parse_args(args)
    limits.check("-n", flags.number, 1)
    limits.check("--interpolate", flags.interpolate)
    limits.check("--best_of", flags.best_of, 1)
    cli, out = load_run(flags, given, "--best_of could choose" if flags.best_of is not None else ""), Path(flags.out)
    check_output_suffix(cli.model, out, ".png")
    if flags.condition is not None:
        cli.model.load_condition(Path(flags.condition))
    if flags.interpolate is not None:
        cli.model.interpolate(flags.interpolate)
    rewards: list[float] | None = None
    cost = ""
    if flags.best_of is not None:
        best = best_of_n(cli.model, cli.trainer, cli.datamodule.reward, flags.number, flags.best_of)
        items, rewards = best.items, best.rewards
        cost = f", the best of {flags.best_of} each: {best.reward_calls} reward calls, "
        cost += f"{best.denoiser_calls} denoiser calls, {_scored(cli.datamodule.reward, rewards)}"
    else:
        items = [item for drawn, _ in commands.sample_chunks(cli.model, cli.trainer, flags.number) for item in drawn]
    if flags.postprocess:
        items = cli.model.postprocess(items)
        if rewards is not None:
            scores = score_objects(cli.datamodule.reward, items)
            rewards = scores.values
            cli.datamodule.reward.teardown()
            cost += f", {scores.reward_calls} reward calls more for what was cleaned"
    if out.suffix == ".png":
        picture = cli.model.render(items)
        if picture is None:
            raise GraftError(f"{type(cli.model).__name__} renders no pictures")
        write_bytes(out, picture)
    else:
        write_with(out, lambda path: cli.model.write(items, path, rewards))
    print(f"{len(items)} objects in {out}{cost}")


def _scored(reward: Any, rewards: list[float]) -> str:
    """Return the mean reward of objects and the number of failed rewards, in words."""
    right = [value for value in rewards if not math.isnan(value)]
    failed = f", {len(rewards) - len(right)} without a reward" if len(right) < len(rewards) else ""
    return f"mean {reward.name} {report.format_number(sum(right) / len(right) if right else math.nan)}{failed}"
