"""How large the parts of a file are."""

MIB = 1024 * 1024
PART_BYTES = 8 * MIB
"""What goes in one request, both ways."""

MAX_PARTS = 10_000
"""Of an S3 upload: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

STEADY_PARTS = 1000
STEP_PARTS = 50


def part_size(number: int, size_bytes: int | None) -> int:
    """Return the size in bytes of part `number`, from 1, of a file of `size_bytes`, if known.

    8 MiB, or what 10,000 parts need. Of an unknown size, the parts after the first thousand grow
    by 8 MiB every fifty, so that 10,000 of them come to over 6 TiB.
    """
    if size_bytes is not None:
        needed_bytes = -(-size_bytes // MAX_PARTS)
        return max(PART_BYTES, -(-needed_bytes // MIB) * MIB)
    return PART_BYTES * (1 + max(0, number - STEADY_PARTS + STEP_PARTS - 1) // STEP_PARTS)
