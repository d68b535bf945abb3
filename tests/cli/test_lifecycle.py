"""The bucket rule that does on the server what the daily cleanup does."""

import pytest

from tests.cli.command import Command


def test_it_prints_the_rule_of_a_bucket(local: Command) -> None:
    done = local.succeed("lifecycle", "s3://bucket/celery?region=eu-west-1", "--days", "1.5")
    (rule,) = done.value["Rules"]
    assert rule["Filter"] == {"Prefix": "celery/"}
    assert rule["Expiration"] == {"Days": 2}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["file:///var/lib/results"], "s3://bucket/prefix"), (["s3://bucket", "--days", "0"], "is 0")],
)
def test_what_can_have_no_rule_is_refused(local: Command, arguments: list[str], named: str) -> None:
    done = local.run("lifecycle", *arguments)
    assert (done.code, done.out) == (2, b"")
    assert named in done.err
