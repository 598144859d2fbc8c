"""How long a server that is away is waited for, and what is not waited for at all."""

import pytest

from stgrpo.errors import RequestRefused, ServerError
from stgrpo.sampling import open as opening


def failing(times: int, error: Exception, calls: list[int]):
    def work():
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "there"

    return work


def test_a_server_is_tried_until_it_is_back(monkeypatch):
    monkeypatch.setattr(opening, "_BETWEEN", 0.05)
    calls = []
    assert opening._patiently(failing(3, ServerError("away"), calls), 5.0) == "there" and len(calls) == 4


def test_its_own_message_is_raised_when_the_time_is_up(monkeypatch):
    monkeypatch.setattr(opening, "_BETWEEN", 0.1)
    calls = []
    with pytest.raises(ServerError, match="^away$"):
        opening._patiently(failing(99, ServerError("away"), calls), 0.35)
    assert 2 <= len(calls) <= 4


@pytest.mark.parametrize("error", [RequestRefused("wrong"), KeyboardInterrupt(), ValueError("ours")])
def test_what_waiting_does_not_mend_is_not_waited_for(error):
    calls = []
    with pytest.raises(type(error)):
        opening._patiently(failing(1, error, calls), 600.0)
    assert len(calls) == 1


def test_without_time_there_is_one_attempt():
    calls = []
    with pytest.raises(ServerError):
        opening._patiently(failing(1, ServerError("away"), calls), 0.0)
    assert len(calls) == 1
