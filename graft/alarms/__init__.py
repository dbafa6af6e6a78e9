"""Alarms: what is not the reward must not fall apart while the reward rises.

After each round, statistics of the tuned model's validation draws stand beside the reference's own on the same number
of draws with the same noise; one that leaves its band by more than its statistical error is an alarm.
"""

from graft.alarms.bands import Alarm, Alarms, judge
from graft.alarms.statistics import Draws, Statistic, statistics
from graft.alarms.watch import Watch

__all__ = ["Alarm", "Alarms", "Draws", "Statistic", "Watch", "judge", "statistics"]
