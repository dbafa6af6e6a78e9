"""Levels by evidence: how much of the reward each level decides, what survives a hand-over there, what it costs."""
