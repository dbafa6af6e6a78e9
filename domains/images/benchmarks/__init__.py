"""Benchmarks of prompts, scored by their authors' own programs in their own environments."""
