"""What an evaluation found, whatever it evaluated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pandas import Series

from peace.reporting.record import Metric
from peace.tracking.tell import Tracked


@dataclass(frozen=True)
class Scored:
    """What a record and a tracked run are made of.

    Attributes:
        metrics: By name.
        counts: How many models, runs and queries stand behind them.
        zoo: The hash of the zoo.
        brief: What is printed.
        notes: What else the record says.
        each: The scores of single queries, for metrics that are means of them.
        tell: Tells a tracked run what is more than metrics.
    """

    metrics: dict[str, Metric]
    counts: dict[str, int]
    zoo: str
    brief: str
    notes: Mapping[str, Any] = field(default_factory=dict)
    each: Mapping[str, Series] = field(default_factory=dict)
    tell: Callable[[Tracked], None] = lambda tracked: None
