"""Work on what a listing yields, side by side, while it is being listed."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from coatcheck.runtime.mutex import Mutex
from coatcheck.runtime.port import Runtime, T

FILES_SIDE_BY_SIDE = 16


async def for_each(
    items: AsyncGenerator[T, None],
    work: Callable[[T], Awaitable[None]],
    runtime: Runtime,
    *,
    limit: int = FILES_SIDE_BY_SIDE,
) -> None:
    """Await `work` on each of `items`, at most `limit` at once, begun in their order.

    An item is taken when somebody is free to work on it, so no more than `limit` are held. The
    first failure cancels the rest and is raised.
    """
    taking = Mutex(runtime)

    async def take_and_work() -> None:
        while True:
            async with taking:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            await work(item)

    async with aclosing(items):
        await runtime.gather([take_and_work] * limit, limit=limit)
