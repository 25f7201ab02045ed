"""A function that got ready in a process of its own."""

import os
import signal

import pytest

from scripts.project import UserError
from scripts.registry.ahead import Ahead

ready = []


def get_ready():
    ready.append(os.getpid())


def divide(number, by):
    if by == 0:
        raise UserError("by is 0; expected another number")
    return number / by, os.getpid(), ready[-1:]


def test_it_works_in_a_process_that_got_ready():
    """Started ahead, the function runs in another process, which had got ready by then; its result comes back."""
    ahead = Ahead("publish", get_ready, divide)
    ahead.start()
    result, where, got_ready = ahead(6, 3)
    assert result == 2
    assert where != os.getpid() and got_ready == [where]


def test_without_a_start_it_works_here():
    """Not started, the function is called here, and nothing gets ready."""
    assert Ahead("publish", get_ready, divide)(6, 3) == (2, os.getpid(), [])


def test_a_users_mistake_comes_back():
    """What the function says in a UserError is raised here, in the same words."""
    ahead = Ahead("publish", get_ready, divide)
    ahead.start()
    with pytest.raises(UserError, match="by is 0; expected another number"):
        ahead(6, 0)


def test_a_kill_is_told():
    """A process that is killed ends in one sentence, before or while it works."""
    ahead = Ahead("publish", lambda: os.kill(os.getpid(), signal.SIGKILL), divide)
    ahead.start()
    with pytest.raises(
        UserError, match=r"publish was killed \(exit code -9\); expected it to end by itself: run again"
    ):
        ahead(6, 3)
