"""Alarms: what is not the reward must not fall apart while the reward rises.

After each round, statistics of the tuned model's validation draws stand beside the reference's own on the same number
of draws with the same noise; one that leaves its band by more than its statistical error is an alarm.
"""

from graft.alarms.callback import AlarmCallback
from graft.alarms.statistics import SampleSet, Statistic, statistics
from graft.alarms.tolerances import Alarm, Alarms, check_tolerances

__all__ = ["Alarm", "AlarmCallback", "Alarms", "SampleSet", "Statistic", "check_tolerances", "statistics"]
