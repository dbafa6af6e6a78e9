"""Inverse noise correction: a corrector learns the noise of real data, which a frozen flow is inverted to find."""

from graft.commands.correct.command import correct
from graft.commands.correct.data import InvertedNoiseData

__all__ = ["InvertedNoiseData", "correct"]
