"""What every reasoning must hold to."""

import re
from collections.abc import Callable

import pytest

AIMS = re.compile(r"Next, \S+ must (go on (top of \S+|a table)|go aside|be free of \S+)|\S+ must go aside first|So .*")


@pytest.fixture(scope="session")
def check_reasoning() -> Callable[[str, str, str], None]:
    """Call it with a reasoning, the observation it is about and the action it leads to."""
    return _check_reasoning


def _check_reasoning(reasoning: str, observation: str, action: str) -> None:
    """Every sentence is a line of the observation or an aim, and the action names nothing that was not said."""
    lines = set(observation.splitlines())
    for sentence in reasoning.removesuffix(".").split(". "):
        assert sentence in lines or AIMS.fullmatch(sentence), (sentence, observation)
    assert set(re.findall("[a-z]+[0-9]+", action)) <= set(re.findall("[a-z]+[0-9]+", reasoning)), (reasoning, action)
