"""Inverse noise correction: a corrector that learns the noise of real data, recovered by inverting a frozen flow."""

from graft.correct.command import correct
from graft.correct.data import InvertedNoiseData

__all__ = ["InvertedNoiseData", "correct"]
