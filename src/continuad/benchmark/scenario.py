"""What is known about the task when an image is tested: task, domain and class scenario."""

from __future__ import annotations

from continuad.core.strategy import InfersTask, Strategy
from continuad.errors import ContinuadError
from continuad.models.registry import name_of

SCENARIOS = {
    "task": "the true task is given, for predictions where a strategy can use it and for thresholds",
    "domain": "the task is neither given nor needed",
    "class": "the task must be inferred",
}
"""After van de Ven and Tolias, "Three scenarios for continual learning", 2019."""


def left_out(scenario: str, strategy: type[Strategy]) -> str | None:
    """Why a kind of strategy takes no part in a scenario, or None when it does.

    Args:
        scenario: one of `SCENARIOS`, or "": every strategy in its own natural way.

    Raises:
        ContinuadError: there is no such scenario.
    """
    if scenario and scenario not in SCENARIOS:
        raise ContinuadError(f"--scenario {scenario} is not known; there are {', '.join(SCENARIOS)}")
    if scenario == "domain" and strategy.needs_task:
        return "it must be given the task, and the scenario domain does not give it"
    if scenario == "class" and not isinstance(strategy, InfersTask):
        return "it does not infer the task, as the scenario class asks"
    return None


def task_is_given(scenario: str, strategy: Strategy) -> bool:
    """Whether a strategy is given the true task when it is tested.

    Raises:
        ContinuadError: it takes no part in the scenario.
    """
    if reason := left_out(scenario, type(strategy)):
        raise ContinuadError(f"strategy {name_of(strategy)} takes no part in the scenario {scenario}: {reason}")
    return strategy.needs_task or scenario == "task"
