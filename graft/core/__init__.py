"""Values and helpers that all other folders use: states, seeds, limits, ranks and threads."""
