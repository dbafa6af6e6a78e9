"""Evaluation of a model by its samples: the reward, the metrics, confidence intervals and alarms."""

from graft.evaluation.evaluator import SampleEvaluator

__all__ = ["SampleEvaluator"]
