"""Signals end what runs, once, and never what clears up."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from demo.interruption import Interrupted, Interruption


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    """It leaves signals ignored, for good; here the tests after it want them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Interruption() as entered:
            yield entered
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_what_runs_and_the_second_does_nothing(
    interruption: Interruption, number: signal.Signals
) -> None:
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), number)
    os.kill(os.getpid(), signal.SIGINT)
    assert interruption.number == number


def test_a_held_off_signal_is_raised_by_the_check(interruption: Interruption) -> None:
    interruption.hold()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted):
        interruption.check()


def test_after_a_check_without_a_signal_the_next_one_raises(interruption: Interruption) -> None:
    interruption.hold()
    interruption.check()
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_cancels_what_runs_on_the_loop_and_lets_it_clear_up(
    interruption: Interruption,
) -> None:
    steps: list[str] = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0)
            steps.append("cleared up")

    with pytest.raises(asyncio.CancelledError):
        interruption.run(main)
    assert steps == ["cleared up"]


def test_a_signal_held_off_on_the_loop_ends_the_run_after_it(interruption: Interruption) -> None:
    steps: list[str] = []

    async def main() -> None:
        interruption.hold()
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)
        steps.append("finished")

    with pytest.raises(Interrupted):
        interruption.run(main)
    assert steps == ["finished"]
