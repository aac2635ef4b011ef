"""Where the steps of a sampler go."""

from brenier.schedules.planning import CRITERIA, plan, predict
from brenier.schedules.schedule import Schedule

__all__ = ["CRITERIA", "Schedule", "plan", "predict"]
