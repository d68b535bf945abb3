"""The client that sends S3 requests: the one place that signs, retries and keeps deadlines."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from coatcheck.errors import CoatcheckError, DeadlineExceeded
from coatcheck.runtime.hashing import sha256_hex
from coatcheck.runtime.port import Runtime
from coatcheck.s3.credentials import (
    ChainCredentials,
    CredentialSource,
    ExplicitCredentials,
)
from coatcheck.s3.endpoint import Endpoint, resolve
from coatcheck.s3.errors import Again, Failure, failed_after_all, of_reply, of_wire
from coatcheck.s3.operations import Operation
from coatcheck.s3.profile import (
    discover_ca_bundle,
    discover_dualstack,
    discover_endpoint,
    discover_fips,
    discover_region,
    region_in_environment,
)
from coatcheck.s3.retries import RetryBudget, pause_seconds
from coatcheck.s3.sign import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Credentials,
    encode_path,
    encode_query,
    sign,
)
from coatcheck.settings import S3Settings
from coatcheck.wire.port import Request, Response, Wire, WireError, WireSettings

T = TypeVar("T")

DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class _Connection:
    """What settings, environment and profile have come down to."""

    wire: Wire
    region: str
    endpoint_url: str | None
    use_fips: bool
    use_dualstack: bool


class S3Client:
    """Sends operations to any bucket of one endpoint, with one identity.

    Construction does no I/O: region, endpoint and credentials are looked up at the first
    request, from arguments, then the environment, then the AWS profile. Share a client between
    tasks, threads and (on asyncio) loops freely; it survives a fork.
    """

    def __init__(
        self,
        settings: S3Settings,
        *,
        runtime: Runtime,
        make_wire: Callable[[WireSettings], Wire],
        credentials: CredentialSource | None = None,
    ) -> None:
        self.settings = settings
        self.runtime = runtime
        self._make_wire = make_wire
        self._credentials = credentials or _credential_source(settings)
        self._connection: _Connection | None = None
        self._budget = RetryBudget()
        self._clock_offset_seconds = 0.0

    @property
    def region(self) -> str | None:
        """The region that requests are signed for; None while only a profile may know. No I/O."""
        if self._connection is not None:
            return self._connection.region
        return self.settings.region or region_in_environment()

    async def send(self, bucket: str, operation: Operation[T]) -> T:
        """Send `operation` until it is done, cannot be done, or its time is up.

        One request if all goes well; at most `max_attempts` and, where the outcome of a
        conditional write must be found out, as many HeadObject again. Raises the errors of
        `coatcheck.errors`, with bucket, key, attempts and time in them; while there is time, a
        conditional write that may have been done all the same is not reported as failed before
        the server was asked. Cancelled, it drops the request at once; whether the server did it
        is then not known.
        """
        runtime = self.runtime
        started = runtime.monotonic()
        give_up_at = started + self.settings.request_timeout_seconds
        attempt = 0
        in_doubt = False
        mended: set[Again] = set()
        while True:
            attempt += 1
            credentials = await self._identify()
            result = await self._attempt(bucket, operation, credentials, give_up_at)
            if not isinstance(result, Failure):
                self._budget.refund()
                try:
                    return operation.parse(result)
                except CoatcheckError as error:
                    self._explained(error, bucket, operation, attempt, started)
                    raise
            failure = result
            left = give_up_at - runtime.monotonic()
            pause = self._pause_before_next(failure, attempt, left, mended)
            if failure.again is Again.WITH_NEW_CREDENTIALS:
                self._credentials.invalidate(credentials)
            if pause:
                await runtime.sleep(pause)
            # Once in doubt, always: a request that was given up may arrive later than the next.
            in_doubt = in_doubt or failure.unknown
            if in_doubt and operation.settle is not None:
                settled = await self._settle(bucket, operation.settle(), give_up_at)
                if settled is not None:
                    return settled
            if pause is None:
                raise self._explained(_final(failure, left), bucket, operation, attempt, started)

    async def _identify(self) -> Credentials:
        now = self._server_clock()
        credentials = self._credentials.current(now)
        if credentials is None:
            credentials = await self.runtime.offload(partial(self._credentials.load, now))
        return credentials

    def _server_clock(self) -> float:
        return self.runtime.wall_clock() + self._clock_offset_seconds

    async def _attempt(
        self, bucket: str, operation: Operation[T], credentials: Credentials, give_up_at: float
    ) -> Response | Failure:
        connection = self._connection or await self._connect()
        endpoint = resolve(
            bucket,
            region=connection.region,
            endpoint_url=connection.endpoint_url,
            addressing_style=self.settings.addressing_style,
            use_fips=connection.use_fips,
            use_dualstack=connection.use_dualstack,
        )
        payload_hash = operation.payload_hash
        if payload_hash is None:
            payload_hash = await _payload_hash(operation, endpoint.scheme, self.runtime)
        seconds = give_up_at - self.runtime.monotonic()
        request = self._request(operation, endpoint, credentials, payload_hash, seconds)
        try:
            response = await connection.wire.exchange(request)
        except WireError as error:
            return of_wire(error)
        if response.status in operation.accepts and not (
            operation.may_fail_with_200 and failed_after_all(response)
        ):
            return response
        return of_reply(response, self._server_clock())

    def _request(
        self,
        operation: Operation[T],
        endpoint: Endpoint,
        credentials: Credentials,
        payload_hash: str,
        seconds: float,
    ) -> Request:
        path = f"{endpoint.path_prefix}/{encode_path(operation.key)}"
        query = encode_query(operation.query) if operation.query else ""
        headers = sign(
            operation.method,
            endpoint.host,
            path,
            query,
            operation.headers,
            payload_hash=payload_hash,
            credentials=credentials,
            region=endpoint.signing_region,
            now=self._server_clock(),
        )
        url = f"{endpoint.scheme}://{endpoint.host}{path}"
        return Request(
            operation.method,
            f"{url}?{query}" if query else url,
            headers,
            # Rounded up to what libcurl counts in: an exchange must not end before its time is up.
            max(0.0, seconds) + 0.001,
            operation.reply_limit_bytes,
            operation.body,
            operation.into,
        )

    def _pause_before_next(
        self, failure: Failure, attempt: int, left: float, mended: set[Again]
    ) -> float | None:
        """Return how long to wait before the next attempt, or None if there is to be none."""
        if failure.again is Again.NEVER or attempt >= self.settings.max_attempts:
            return None
        if failure.again is Again.LATER:
            pause = pause_seconds(failure, attempt, self.runtime)
            return pause if pause < left and self._budget.draw() else None
        if failure.again in mended:
            return None
        mended.add(failure.again)
        if failure.again is Again.WITH_SERVER_TIME and failure.server_time is not None:
            self._clock_offset_seconds = failure.server_time - self.runtime.wall_clock()
        return 0.0

    async def _settle(
        self, bucket: str, question: Operation[T | None], give_up_at: float
    ) -> T | None:
        """Find out whether a write whose reply was lost has been done; None for "not, as far as
        we know".

        A role that may write but not read cannot ask: it sends again, and is told.
        """
        if self.runtime.monotonic() >= give_up_at:
            return None
        credentials = await self._identify()
        result = await self._attempt(bucket, question, credentials, give_up_at)
        if isinstance(result, Failure):
            return None
        try:
            return question.parse(result)
        except CoatcheckError:
            return None  # an answer that cannot be read settles nothing

    async def _connect(self) -> _Connection:
        self._connection = connection = await self.runtime.offload(self._look_up)
        return connection

    def _look_up(self) -> _Connection:
        settings = self.settings
        wire = self._make_wire(
            WireSettings(
                connect_timeout_seconds=settings.connect_timeout_seconds,
                stall_timeout_seconds=settings.stall_timeout_seconds,
                ca_bundle=settings.ca_bundle or discover_ca_bundle(settings.profile),
                proxy=settings.proxy,
            )
        )
        return _Connection(
            wire,
            settings.region or discover_region(settings.profile) or DEFAULT_REGION,
            settings.endpoint_url or discover_endpoint(settings.profile),
            discover_fips(settings.profile) if settings.use_fips is None else settings.use_fips,
            discover_dualstack(settings.profile)
            if settings.use_dualstack is None
            else settings.use_dualstack,
        )

    def _explained(
        self,
        error: CoatcheckError,
        bucket: str,
        operation: Operation[T],
        attempts: int,
        started: float,
    ) -> CoatcheckError:
        return error.having(
            operation=operation.name,
            bucket=bucket,
            key=operation.key or None,
            attempts=attempts,
            elapsed_seconds=self.runtime.monotonic() - started,
        )


def _final(failure: Failure, left: float) -> CoatcheckError:
    if left <= 0 and failure.error.transient:
        late = DeadlineExceeded(
            f"out of time: {failure.error.message}",
            remedy="Give it more time with request_timeout_seconds, or try again",
            diagnostics=failure.error.diagnostics,
        )
        late.__cause__ = failure.error
        return late
    return failure.error


async def _payload_hash(operation: Operation[T], scheme: str, runtime: Runtime) -> str:
    body = operation.body
    if not body:
        return EMPTY_SHA256
    if scheme == "https":
        # TLS already protects the body on its way; hashing it would be a second pass over it.
        return UNSIGNED_PAYLOAD
    return await sha256_hex(body, runtime)


def _credential_source(settings: S3Settings) -> CredentialSource:
    if settings.access_key_id is not None and settings.secret_access_key is not None:
        return ExplicitCredentials(
            Credentials(settings.access_key_id, settings.secret_access_key, settings.session_token)
        )
    return ChainCredentials(settings.profile)
