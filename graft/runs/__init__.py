"""Runs: their folders, and which of them goes on; checkpoints, metrics, and what stops a run between two steps."""

from graft.runs.folders import ELSEWHERE, choose, differing, flat, make, weights_file

__all__ = ["ELSEWHERE", "choose", "differing", "flat", "make", "weights_file"]
