"""Inverse noise correction: a corrector learns the noise of real data, which a frozen flow is inverted to find."""

from graft.correct.command import correct
from graft.correct.data import InvertedNoiseData

__all__ = ["InvertedNoiseData", "correct"]
