"""The examination: can the place be reached, and does it do what coatcheck relies on?"""

from collections.abc import Callable

from coatcheck.errors import (
    BucketNotFound,
    CoatcheckError,
    Forbidden,
    NotFound,
    TooLarge,
    Unavailable,
    Unsupported,
)
from coatcheck.objects.doctor.checks import CHECKS, Check
from coatcheck.objects.doctor.finding import Finding, Verdict
from coatcheck.objects.doctor.scratch import Scratch
from coatcheck.objects.doctor.traffic import Traffic
from coatcheck.objects.port import ObjectStore

CLEAN_UP_SECONDS = 10.0

CLOCK_WARNING_SECONDS = 300.0
"""S3 refuses signatures that are 15 minutes off; a third of that is worth a word."""

_KEYS_REFUSED = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)


async def examine(
    objects: ObjectStore, traffic: Traffic, report: Callable[[Finding], None]
) -> list[Finding]:
    """Try out all that coatcheck needs of `objects`, with scratch objects that are removed again.

    `traffic` is what the `ObservedWire` of the store writes to, or an empty one for a store
    without a wire. `report` gets each finding as soon as it is there; they are returned in the
    same order. About 25 requests. Where the place cannot be reached or stops answering, the
    findings end. Raises none of `coatcheck.errors`. Cancelled, it still removes its scratch
    objects, for CLEAN_UP_SECONDS at most.
    """
    examination = _Examination(objects, traffic, report)
    try:
        if await examination.reach():
            await examination.try_out()
    finally:
        await objects.runtime.finish(examination.scratch.clean_up, seconds=CLEAN_UP_SECONDS)
    examination.name_left_overs()
    return examination.findings


class _Examination:
    def __init__(
        self, objects: ObjectStore, traffic: Traffic, report: Callable[[Finding], None]
    ) -> None:
        self.findings: list[Finding] = []
        self.scratch = Scratch(objects, traffic)
        self._traffic = traffic
        self._report = report
        self._without: dict[str, str] = {}
        self._absent_is_hidden = False

    async def reach(self) -> bool:
        """Ask for an object that is not there: one question that takes every hurdle."""
        error = await self._ask()
        if self._traffic.requests:
            return self._judge_reply(error)
        if error is None:
            return True
        is_remote = self.scratch.objects.location.startswith("s3:")
        self._failed("settings" if is_remote else "folder", error)
        return False

    async def _ask(self) -> CoatcheckError | None:
        try:
            await self.scratch.get(self.scratch.absent_key)
        except BucketNotFound as error:
            return error
        except NotFound:
            return None
        except TooLarge:
            pass
        except CoatcheckError as error:
            return error
        return Unavailable(
            "asked for an object that is not there, the server sends one",
            remedy="Check the endpoint: this is no S3 server, or a proxy answers in its place",
        )

    def _judge_reply(self, error: CoatcheckError | None) -> bool:
        traffic = self._traffic
        self._found("settings", Verdict.OK, "region, endpoint and credentials are known")
        if error is not None and (
            not traffic.replies or error.transient or isinstance(error, Unsupported)
        ):
            self._failed("connection", error)
            return False
        milliseconds = max(1, round(traffic.first_reply_seconds * 1000))
        self._found("connection", Verdict.OK, f"{traffic.endpoint} answers in {milliseconds} ms")
        self._judge_encryption()
        self._judge_clock()
        if isinstance(error, Forbidden) and error.diagnostics.server_code not in _KEYS_REFUSED:
            # Who may not list is not told what is missing: what the keys are good for shows later.
            self._absent_is_hidden = True
            return True
        if isinstance(error, Forbidden):
            self._failed("credentials", error)
            return False
        if error is None or isinstance(error, BucketNotFound):
            self._found("credentials", Verdict.OK, "the server accepts them")
        if error is not None:
            self._failed("bucket", error)
            return False
        self._found("bucket", Verdict.OK, "it exists")
        return True

    def _judge_encryption(self) -> None:
        if self._traffic.is_encrypted:
            self._found("encryption", Verdict.OK, "https, with a certificate that is trusted")
        elif self._traffic.is_local:
            self._found("encryption", Verdict.OK, "plain http, which does not leave this machine")
        else:
            self._found(
                "encryption",
                Verdict.WARNING,
                "plain http: whoever is on the way can read the payloads",
                "Use an endpoint with https",
            )

    def _judge_clock(self) -> None:
        seconds = self._traffic.clock_difference_seconds
        if seconds is None:
            self._found("clock", Verdict.SKIPPED, "the server does not tell its time")
        elif abs(seconds) <= CLOCK_WARNING_SECONDS:
            self._found(
                "clock",
                Verdict.OK,
                f"no more than {max(2, round(abs(seconds)))} s off the server's",
            )
        else:
            way = "behind" if seconds > 0 else "ahead of"
            self._found(
                "clock",
                Verdict.WARNING,
                f"this machine's clock is {abs(seconds):.0f} s {way} the server's",
                "Set it: S3 refuses requests that are 15 minutes off",
            )

    async def try_out(self) -> None:
        """Run the checks that make sense, until the server stops answering."""
        for check in CHECKS:
            missing = [need for need in check.needs if need in self._without]
            if any(finding.check == check.name for finding in self.findings):
                continue
            if missing:
                self._found(check.name, Verdict.SKIPPED, self._without[missing[0]])
            elif not await self._try(check):
                return
            if check.name == "write":
                self._judge_role()

    async def _try(self, check: Check) -> bool:
        """Run one check; return whether to go on."""
        try:
            finding = await check.run(self.scratch)
        except Forbidden as error:
            self._without[check.name] = f"not tried: {check.name} is denied"
            self._found(check.name, Verdict.WARNING, check.denied, error.remedy)
        except CoatcheckError as error:
            self._without[check.name] = f"not tried: {check.name} does not work"
            self._failed(check.name, error, Verdict.PROBLEM if error.transient else check.failure)
            return not error.transient
        else:
            self._keep(finding)
        return True

    def _judge_role(self) -> None:
        """Say what only shows once something was written, or could not be."""
        may_write = "write" not in self._without
        if not may_write:
            self.scratch.written = ""
        if not self._absent_is_hidden:
            if not may_write:
                self._found("read", Verdict.OK, "allowed, as far as shows without an object")
            return
        if may_write:
            self._found("credentials", Verdict.OK, "the server accepts them")
            self._found("bucket", Verdict.OK, "it exists")
            return
        self._found(
            "credentials",
            Verdict.PROBLEM,
            "everything is denied: the keys are wrong, or their role may do nothing here",
            "Check keys and role. A role that only reads may be right all the same: without"
            " s3:ListBucket, S3 denies what is not there; try `coatcheck get` with a claim",
        )

    def name_left_overs(self) -> None:
        """Say where something is left, so that somebody else can remove it."""
        if not self.scratch.is_empty:
            self._found(
                "clean-up",
                Verdict.WARNING,
                f"scratch objects are left under {self.scratch.folder}",
                "Remove them with credentials that may delete",
            )

    def _failed(
        self, check: str, error: CoatcheckError, verdict: Verdict = Verdict.PROBLEM
    ) -> None:
        known = error.diagnostics
        details = [str(it) for it in (known.status, known.server_code, known.request_id) if it]
        told = f" ({', '.join(details)})" if details else ""
        self._found(check, verdict, f"{error.message}{told}", error.remedy)

    def _found(self, check: str, verdict: Verdict, meaning: str, remedy: str = "") -> None:
        self._keep(Finding(check, verdict, meaning, remedy))

    def _keep(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._report(finding)
