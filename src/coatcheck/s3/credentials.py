"""Where keys come from, and how long they are good.

Nothing here does I/O, or imports botocore, before `load` is called; that blocks, so the client
runs it where it holds up nobody.
"""

import bisect
import copy
import logging
import math
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from coatcheck.errors import CoatcheckError, ConfigError, Forbidden, Unavailable
from coatcheck.s3.profile import SETTINGS_REMEDY, harmless_reason
from coatcheck.s3.sign import Credentials

if TYPE_CHECKING:
    from botocore.credentials import RefreshableCredentials

_log = logging.getLogger(__name__)

_RENEW_BEFORE_EXPIRY_SECONDS = 600.0
"""Ten minutes leave room for clocks that differ, for a transfer that runs long on the keys it was
signed with, and for a token service that is down for a while. botocore insists from here on too,
and instance roles publish new keys five minutes before the old ones end."""

_RENEW_AFTER_SHARE = 0.75
"""Keys that live less than 40 minutes are renewed after this share of their life instead, or keys
of five minutes would be fetched for every request."""

_RETRY_RENEWAL_AFTER_SHARE = 0.25
"""A renewal that failed is tried again after this share of the life that the old keys have left."""

_LONGEST_LIFE_SECONDS = 7 * 86_400
"""Keys that live longer are fetched again after this time; AWS's longest sessions last 36 hours."""

_NO_CREDENTIALS_REMEDY = (
    "Pass the keys as arguments; or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or name a "
    "profile (AWS_PROFILE); or give the machine, container or pod a role"
)


class CredentialSource(Protocol):
    """Gives keys that are good now. One source may serve many threads and event loops.

    The client's way with it: `source.current(now) or load(now)`, the latter where blocking is
    allowed; and after an ExpiredToken, `invalidate` and once more. `now` is in seconds since 1970
    by the server's clock, as for `sign`.
    """

    def current(self, now: float) -> Credentials | None:
        """Return the keys at once, or None if they must be loaded or renewed first. No I/O."""
        ...

    def load(self, now: float) -> Credentials:
        """Load or renew the keys, and return them. Blocks: files, processes, network."""
        ...

    def invalidate(self, refused: Credentials) -> None:
        """Forget the keys `refused`, if they are still the ones in use; `load` then fetches anew.

        Saying which ones keeps a late reply to an old request from discarding new keys.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExplicitCredentials:
    """Keys given by the caller. They never change, so they are never renewed."""

    credentials: Credentials

    def current(self, now: float) -> Credentials:
        """Return the keys."""
        return self.credentials

    def load(self, now: float) -> Credentials:
        """Return the keys."""
        return self.credentials

    def invalidate(self, refused: Credentials) -> None:
        """Do nothing: there is nowhere to get other keys from."""


@dataclass(frozen=True, slots=True)
class _Held:
    """Keys with their dates, in seconds since 1970; infinity for keys without an end."""

    credentials: Credentials
    renew_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Failure:
    error: CoatcheckError
    ended_at: float


class ChainCredentials:
    """Keys from wherever AWS programs look for them.

    The environment first (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), read
    without botocore; then botocore's whole chain: profiles, SSO, processes, web identity,
    container and instance roles. A `profile` given here passes over the keys in the environment,
    as it does in botocore; AWS_PROFILE does not.

    Keys that expire are renewed ten minutes before, or after three quarters of a shorter life; if
    that fails while they are still good, they stay in use and renewal is tried again later.
    However many threads ask at once, one fetches and the others take its result or its failure.
    """

    def __init__(self, profile: str | None = None) -> None:
        self._profile = profile
        self._held: _Held | None = None
        self._failure: _Failure | None = None
        self._locks: dict[int, threading.Lock] = {}

    def __repr__(self) -> str:
        return f"ChainCredentials(profile={self._profile!r})"

    def __reduce__(self) -> tuple[object, ...]:
        # What crosses a process border is where to look, never the keys.
        return (ChainCredentials, (self._profile,))

    def current(self, now: float) -> Credentials | None:
        """Return the keys at once, or None if they must be loaded or renewed first. No I/O."""
        held = self._held
        return held.credentials if held is not None and now < held.renew_at else None

    def load(self, now: float) -> Credentials:
        """Load or renew the keys, and return them.

        Blocks for as long as the chain takes: nothing for the environment, a file read for plain
        profiles, network for roles, and no limit for a credential_process that hangs.

        Raises `ConfigError` if there are no keys or the settings are wrong, `Forbidden` if they
        were denied, `Unavailable` if a token service could not be reached.
        """
        held = self._held
        still_good = held.credentials if held is not None and now < held.expires_at else None
        lock = self._lock()
        if still_good is None:
            lock.acquire()
        elif not lock.acquire(blocking=False):
            return still_good  # another thread is renewing them: no reason to wait for it
        try:
            return self._load_alone(now)
        finally:
            lock.release()

    def invalidate(self, refused: Credentials) -> None:
        """Forget the keys `refused`, if they are still the ones in use: `load` fetches anew."""
        held = self._held
        if held is not None and held.credentials == refused:
            self._held = None

    def _load_alone(self, now: float) -> Credentials:
        loaded_by_another = self.current(now)
        if loaded_by_another is not None:
            return loaded_by_another
        if self._failure is not None and now <= self._failure.ended_at:
            raise copy.copy(self._failure.error)  # answers all who asked before it was known
        began = time.monotonic()
        try:
            fetched = _fetch(self._profile, now)
        except CoatcheckError as error:
            ended_at = now + time.monotonic() - began
            held = self._held
            if held is None or held.expires_at <= ended_at:
                self._failure = _Failure(copy.copy(error), ended_at)
                raise
            _log.warning("The AWS credentials could not be renewed yet: %s", error)
            pause = (held.expires_at - ended_at) * _RETRY_RENEWAL_AFTER_SHARE
            self._held = replace(held, renew_at=ended_at + pause)
            return held.credentials
        self._held, self._failure = fetched, None
        return fetched.credentials

    def _lock(self) -> threading.Lock:
        # A lock that another thread held when this process forked stays locked for ever, so every
        # process has one of its own. `setdefault` is atomic: no lock is needed to make the lock.
        return self._locks.setdefault(_forks, threading.Lock())


_forks = 0
"""How many forks lie between this process and the one that started the program."""


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def _renewal_time(now: float, expires_at: float) -> float:
    remaining = expires_at - now
    return max(expires_at - _RENEW_BEFORE_EXPIRY_SECONDS, now + remaining * _RENEW_AFTER_SHARE)


def _fetch(profile: str | None, now: float) -> _Held:
    failure: CoatcheckError
    try:
        if profile is None:
            credentials = _environment_credentials()
            if credentials is not None:
                return _Held(credentials, math.inf, math.inf)
        return _botocore_credentials(profile, now)
    except CoatcheckError as error:
        failure = error.with_traceback(None)
    # botocore's providers let through whatever their parts raise: OSError, ValueError, KeyError...
    except Exception as error:
        failure = _translate(error)
    # Raised out here, so that nothing refers to the frames above: their variables hold the keys,
    # and error reporters print variables.
    raise failure


def _environment_credentials() -> Credentials | None:
    # AWS_CREDENTIAL_EXPIRATION is not read: nothing could be done at that time but to read the
    # variables again, and that happens when the server says that the keys have expired.
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    missing = [name for name in names if not os.environ.get(name)]
    if len(missing) == len(names):
        return None
    if missing:
        raise ConfigError(
            f"{missing[0]} is not set in the environment, though the other half of the keys is",
            remedy=f"Set {missing[0]}, or unset both to use a profile or a role",
        )
    # In this order in botocore, though the first name is the older one.
    token = os.environ.get("AWS_SECURITY_TOKEN") or os.environ.get("AWS_SESSION_TOKEN")
    return Credentials(os.environ[names[0]], os.environ[names[1]], token)


def _botocore_credentials(profile: str | None, now: float) -> _Held:
    # A new session each time. It costs some milliseconds once an hour, and in return nothing of
    # botocore is kept: no cache to outwit after an ExpiredToken, no lock or socket to survive a
    # fork, no second opinion on when to renew.
    from botocore.credentials import RefreshableCredentials
    from botocore.session import Session

    found = Session(profile=profile).get_credentials()
    if found is None:
        raise ConfigError("No AWS credentials were found", remedy=_NO_CREDENTIALS_REMEDY)
    frozen = found.get_frozen_credentials()
    credentials = Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token)
    if not isinstance(found, RefreshableCredentials):
        return _Held(credentials, math.inf, math.inf)
    expires_at = time.time() + _remaining_seconds(found)
    return _Held(credentials, _renewal_time(now, expires_at), expires_at)


def _remaining_seconds(credentials: "RefreshableCredentials") -> int:
    # botocore tells the expiry only by answering whether less than N seconds remain; so search.
    candidates = range(_LONGEST_LIFE_SECONDS)
    return bisect.bisect_left(candidates, True, key=credentials.refresh_needed) - 1


def _translate(error: Exception) -> CoatcheckError:
    from botocore import exceptions as aws

    message = f"The AWS credentials could not be loaded: {harmless_reason(error)}"
    if isinstance(error, aws.ConnectionError | aws.HTTPClientError):
        return Unavailable(message, remedy="Check the network and any proxy, then try again")
    if isinstance(error, aws.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 500 or "Throttl" in error.response.get("Error", {}).get("Code", ""):
            return Unavailable(message, remedy="Try again later")
        return Forbidden(message, remedy="Check the role and who may assume it")
    wrong_settings = (
        aws.ConfigNotFound,
        aws.ConfigParseError,
        aws.InvalidConfigError,
        aws.PartialCredentialsError,
        aws.ProfileNotFound,
        aws.UnknownCredentialError,
    )
    if isinstance(error, aws.BotoCoreError) and not isinstance(error, wrong_settings):
        return Forbidden(message, remedy="Log in again, or check the profile and the role")
    return ConfigError(message, remedy=SETTINGS_REMEDY)
