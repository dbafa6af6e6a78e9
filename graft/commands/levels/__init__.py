"""Comparison of levels: the reward that each level decides, the gain that survives a hand-over there, and the cost."""
