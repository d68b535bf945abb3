"""Hashing without holding up others."""

from hashlib import sha256

from coatcheck.runtime.port import Runtime

INLINE_BYTES = 1024 * 1024
"""What is hashed where it is: more would hold up an event loop for longer than 3 ms."""


async def sha256_hex(data: bytes, runtime: Runtime) -> str:
    """Return the SHA-256 of `data` in lower-case hexadecimal."""
    if len(data) <= INLINE_BYTES:
        return sha256(data).hexdigest()
    return await runtime.offload(lambda: sha256(data).hexdigest())
