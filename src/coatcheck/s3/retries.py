"""When to send a request again: how long to pause, and when enough is enough."""

from coatcheck.runtime.port import Runtime
from coatcheck.s3.errors import Failure

FIRST_PAUSE_SECONDS = 0.1
FIRST_THROTTLED_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 20.0

BUCKET_TOKENS = 500.0
RETRY_COST = 5.0
SUCCESS_REFUND = 1.0


def pause_seconds(failure: Failure, attempt: int, runtime: Runtime) -> float:
    """Return how long to wait after the `attempt`-th attempt: "full jitter", Retry-After obeyed.

    The whole range from 0 is used, so that clients which failed together do not come back
    together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    throttled = failure.error.code == "throttled"
    first = FIRST_THROTTLED_PAUSE_SECONDS if throttled else FIRST_PAUSE_SECONDS
    doublings = min(attempt - 1, 10)  # enough for the longest pause, and never over a float
    ceiling = min(LONGEST_PAUSE_SECONDS, first * 2.0**doublings)
    return max(failure.retry_after_seconds, runtime.random() * ceiling)


class RetryBudget:
    """A bucket of tokens for one endpoint: retries draw on it, successes fill it.

    While a server fails everything, retries stop after the first hundred, and each call costs
    the server one request; the numbers are those of the AWS SDKs' standard mode
    (https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html).
    """

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens = BUCKET_TOKENS

    def draw(self) -> bool:
        """Take what one retry costs; False if there is not enough left."""
        if self._tokens < RETRY_COST:
            return False
        self._tokens -= RETRY_COST
        return True

    def refund(self) -> None:
        """Give back a little after a success."""
        if self._tokens < BUCKET_TOKENS:
            self._tokens = min(BUCKET_TOKENS, self._tokens + SUCCESS_REFUND)
