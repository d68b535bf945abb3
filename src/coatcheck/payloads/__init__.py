"""Content addressing: payloads under their digest, claims that stand for them."""
