"""The grammar of keys: what may name an object, the same in every store that we define.

S3 takes more (empty segments, dots, control characters), and its buckets hold keys that others
wrote: `check_s3_key` lets those pass.
"""

from coatcheck.errors import ConfigError, printable

MAX_KEY_BYTES = 1024
"""UTF-8 bytes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""


def check_key(key: str) -> str:
    """Return `key`, or raise ConfigError unless every store can hold it.

    A key is 1 to 1,024 bytes of UTF-8 without NUL, in segments parted by "/". No segment is
    empty, "." or "..": a folder could not hold it, or would take it for another place.
    """
    check_s3_key(key)
    if "\0" in key:
        raise _refused(key, "holds a NUL")
    for segment in key.split("/"):
        if segment in ("", ".", ".."):
            raise _refused(key, f"has the segment {segment!r}")
    return key


def check_s3_key(key: str) -> str:
    """Return `key`, or raise ConfigError unless S3 can hold it: 1 to 1,024 bytes of UTF-8."""
    if not key:
        raise ConfigError("the key is empty", remedy="Give the object a key")
    check_text(key)
    if len(key) > MAX_KEY_BYTES // 4 and len(key.encode()) > MAX_KEY_BYTES:
        raise _refused(key, f"has over {MAX_KEY_BYTES:,} bytes")
    return key


def check_text(text: str) -> str:
    """Return a key or the beginning of one; raise ConfigError if UTF-8 cannot write it.

    Text from the operating system may hold lone surrogates in place of undecodable bytes.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _refused(text, "is not Unicode text") from error
    return text


def is_key(key: str) -> bool:
    """Whether `check_key` lets `key` pass."""
    try:
        check_key(key)
    except ConfigError:
        return False
    return True


def join_prefix(prefix: str, key: str) -> str:
    """Return `key` below `prefix`, parted by one "/"; below "", `key` itself.

    An empty `key` gives the beginning of all keys below `prefix`.
    """
    if not prefix or prefix.endswith("/"):
        return prefix + key
    return f"{prefix}/{key}"


def _refused(key: str, fault: str) -> ConfigError:
    return ConfigError(
        f"the key {printable(key, 80)!r} {fault}",
        remedy='A key is segments of Unicode text parted by "/", 1,024 bytes at most',
    )
