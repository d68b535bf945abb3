"""The S3 protocol: where a request goes, how it is signed, and the client that sends it."""
