"""Alarms: statistics other than the reward must not fall while the reward rises.

After each round, statistics of the tuned model's validation draws are compared with those of as many draws of the
reference with the same noise. A statistic that is outside its tolerance by more than its statistical error raises an
alarm.
"""

from graft.evaluation.alarms.callback import AlarmCallback
from graft.evaluation.alarms.statistics import SampleSet, Statistic, statistics
from graft.evaluation.alarms.tolerances import Alarm, Alarms, check_tolerances

__all__ = ["Alarm", "AlarmCallback", "Alarms", "SampleSet", "Statistic", "check_tolerances", "statistics"]
