"""The tasks of the Celery benchmark, and the process that sends its chord."""

import json
import os
import sys
import time

from celery import Celery, chord

app = Celery("benchmark")
app.conf.update(json.loads(os.environ.get("BENCHMARK_CELERY_SETTINGS", "{}")))

PART_SECONDS = 0.1
"""How long a part of the chord works: polling for a chord costs by the time that it takes."""


def part(number: int) -> int:
    time.sleep(PART_SECONDS)
    return number


def total(numbers: list[int]) -> int:
    return sum(numbers)


app.task(part, name="benchmarks.part")
app.task(total, name="benchmarks.total")


def send(size: int) -> None:
    """Run the chord to its end; the few requests that ask for the body's result count too.

    With `propagate`, the client would ask for every part's state as well, on either side.
    """
    parts = [app.signature("benchmarks.part", (number,)) for number in range(size)]
    sent = chord(parts, app.signature("benchmarks.total")).apply_async()
    value = sent.get(timeout=800, interval=5, propagate=False)
    assert value == sum(range(size)), value


if __name__ == "__main__":
    send(int(sys.argv[1]))
