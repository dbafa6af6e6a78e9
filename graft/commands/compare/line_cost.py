"""The cost of training of a line of the comparison, read from the files of its run."""

from pathlib import Path
from typing import Any

from graft.commands.compare import cost_callback
from graft.commands.compare.cells import Cell
from graft.commands.levels import results
from graft.io.json_files import read_json


def training_cost(cell: Cell, run: "Path | None", chosen: "results.Analysis | None") -> dict[str, Any]:
    """Return the cost of training by name; for an earlier round, the cost up to that round.

    Args:
        cell: Line of the comparison.
        run: Folder of its run; None for a line without training.
        chosen: Analysis that chose the level, if one did.

    Raises:
        GraftError: A file of the run is damaged.
    """
    rounds, steps, evaluations = list[dict[str, Any]](), 0, 0
    if run is not None:
        done = round_count(cell, run)
        summary = read_json(run / "summary.json", f"remove {run}, and it is trained again")
        rounds = summary["rounds"][:done]
        last = cost_callback.read_training_costs(run)[done - 1]
        steps, evaluations = last["optimizer_steps"], last["network_evaluations"]
    return {
        "rounds": len(rounds),
        "training_reward_calls": sum(each["reward_calls"] for each in rounds),
        "rollout_denoiser_calls": sum(each["denoiser_calls"] for each in rounds),
        "optimizer_steps": steps,
        "training_network_evaluations": evaluations,
        "level_reward_calls": chosen.reward_calls if chosen is not None else 0,
        "level_denoiser_calls": chosen.denoiser_calls if chosen is not None else 0,
    }


def training_seconds(cell: Cell, run: "Path | None") -> float:
    """Return the seconds of training up to the round that a line uses; 0 without training."""
    return 0.0 if run is None else float(cost_callback.read_training_costs(run)[round_count(cell, run) - 1]["seconds"])


def position(cell: Cell, run: "Path | None") -> float:
    """Return the place of a line on its path: its number of rounds, or the number of its method."""
    if cell.method.path and cell.method.name != "graft_early":
        return cell.method.value
    return 0.0 if run is None else float(round_count(cell, run))


def round_count(cell: Cell, run: Path) -> int:
    """Return the number of rounds of a run that a line uses."""
    if cell.rounds is not None:
        return cell.rounds
    return int(cell.method.value) if cell.method.name == "graft_early" else len(cost_callback.read_training_costs(run))
