"""A program that forks in the state named by its first argument; `test_fork` runs it.

Each child exchanges on both wires, with TLS and without. The parent does the same between forks,
and at the end tells how that went: {"bad": [exit codes of children], "alive": whether its own
exchanges under way ended well}.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

from coatcheck.runtime.blocking import BLOCKING
from coatcheck.wire.aio import AsyncioWire
from coatcheck.wire.blocking import BlockingWire
from coatcheck.wire.port import Request, Response, WireSettings

state, forks, plain_url, tls_url, ca_bundle = sys.argv[1:]
settings = WireSettings(ca_bundle=ca_bundle)
blocking, aio = BlockingWire(settings), AsyncioWire(settings)
# Since Python 3.12 a fork beside other threads warns; what it warns of is what is tested here.
warnings.filterwarnings("ignore", category=DeprecationWarning)

CHILDREN_AT_ONCE = 3
CHILD_SECONDS = 30
PROCESSES = 3


def get(url: str, path: str = "/") -> Request:
    return Request("GET", url + path, [], 20.0, 100)


async def exchange_everywhere(wire: AsyncioWire | BlockingWire) -> None:
    for url in plain_url, tls_url:
        response = await wire.exchange(get(url))
        assert response.body == b"ok", response


def work(number: int) -> None:
    """What each child does; TLS, which takes long, only in some."""
    wires = (blocking, aio) if number % 2 else (aio, blocking)
    for wire in wires:
        job = exchange_everywhere(wire) if number % 10 == 0 else _plain(wire)
        BLOCKING.run(job) if wire is blocking else asyncio.run(job)


async def _plain(wire: AsyncioWire | BlockingWire) -> None:
    assert (await wire.exchange(get(plain_url))).body == b"ok"


def child(number: int) -> None:
    """Work, and leave as children do: at once, or (some) by way of the interpreter's end."""
    signal.alarm(CHILD_SECONDS)  # a child that hangs dies of it
    work(number)
    if number % 10 == 5 and may_exit:
        sys.exit(0)
    os._exit(0)


may_exit = True
bad: list[int] = []
running: list[int] = []


def fork_one(number: int) -> None:
    while len(running) >= CHILDREN_AT_ONCE:
        reap()
    pid = os.fork()
    if pid == 0:
        try:
            child(number)
        except Exception:
            sys.excepthook(*sys.exc_info())
            os._exit(9)
    running.append(pid)


def reap() -> None:
    _, status = os.waitpid(running.pop(0), 0)
    if status:
        bad.append(os.waitstatus_to_exitcode(status))


def numbers() -> Iterator[int]:
    yield from range(int(forks))
    while running:
        reap()
    for number in range(PROCESSES):
        process = multiprocessing.get_context("fork").Process(target=work, args=(number,))
        process.start()
        process.join()
        bad.extend([process.exitcode or 0] if process.exitcode else [])


def before_any_io() -> bool:
    for number in numbers():
        fork_one(number)
    return True


def after_blocking_io() -> bool:
    BLOCKING.run(exchange_everywhere(blocking))
    for number in numbers():
        fork_one(number)
        if number % 25 == 0:
            BLOCKING.run(exchange_everywhere(blocking))
    BLOCKING.run(exchange_everywhere(blocking))
    return True


def after_async_io() -> bool:
    asyncio.run(exchange_everywhere(aio))
    for number in numbers():
        fork_one(number)
        if number % 25 == 0:
            asyncio.run(exchange_everywhere(aio))
    asyncio.run(exchange_everywhere(aio))
    return True


def amid_threads() -> bool:
    """One thread waits for the middle of a reply, one is as busy as can be; a third forks."""
    replies: list[Response] = []
    stop = threading.Event()
    turns = 0

    def wait() -> None:
        replies.append(BLOCKING.run(blocking.exchange(get(plain_url, "/stalled"))))

    def toil() -> None:
        nonlocal turns
        while not stop.is_set():
            BLOCKING.run(exchange_everywhere(blocking))
            turns += 1

    threads = [threading.Thread(target=wait), threading.Thread(target=toil)]
    for thread in threads:
        thread.start()
    for number in numbers():
        fork_one(number)
    stop.set()
    BLOCKING.run(blocking.exchange(get(plain_url, "/release")))
    for thread in threads:
        thread.join()
    return [reply.body for reply in replies] == [b"ok"] and turns > 0


def amid_a_loop() -> bool:
    """The fork happens in a coroutine, while others of its loop wait for replies."""

    async def go() -> bool:
        tasks = [asyncio.ensure_future(aio.exchange(get(plain_url, "/stalled"))) for _ in range(2)]
        await exchange_everywhere(aio)
        for number in numbers():
            fork_one(number)
            if number % 25 == 0:
                await exchange_everywhere(aio)
        await aio.exchange(get(plain_url, "/release"))
        return [reply.body for reply in await asyncio.gather(*tasks)] == [b"ok", b"ok"]

    # A child that unwinds its parent's loop closes what they share: that is asyncio's own limit.
    global may_exit
    may_exit = False
    return asyncio.run(go())


def amid_a_call() -> bool:
    """The thread that forks drives the call itself; some children unwind it, some try to go on."""

    async def wait() -> bytes:
        return (await blocking.exchange(get(plain_url, "/stalled"))).body

    async def fork() -> bytes:
        for number in numbers():
            await exchange_everywhere(blocking)
            pid = os.fork()
            if pid == 0:
                signal.alarm(CHILD_SECONDS)
                if number % 3 == 0:
                    sys.exit(0)
                if number % 3 == 1:
                    await go_on_with_the_parents_call()
                work(number)
                os._exit(0)
            running.append(pid)
            reap()
        return (await blocking.exchange(get(plain_url, "/release"))).body

    async def go_on_with_the_parents_call() -> None:
        try:
            await blocking.exchange(get(tls_url))
        except RuntimeError as error:
            sys.exit("forked" not in str(error))
        os._exit(7)

    return BLOCKING.run(BLOCKING.gather([wait, fork], limit=2)) == [b"ok", b"ok"]


STATES: dict[str, Callable[[], bool]] = {
    made.__name__: made
    for made in (
        before_any_io,
        after_blocking_io,
        after_async_io,
        amid_threads,
        amid_a_loop,
        amid_a_call,
    )
}

if __name__ == "__main__":
    alive = STATES[state]()
    print(json.dumps({"bad": bad, "alive": alive}))
