"""Keyed records that expire, and the latch that tells when all of many parts have arrived."""
