import os
import pickle
from typing import Any

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.exceptions import EndpointVariantError

from coatcheck.errors import ConfigError
from coatcheck.s3.endpoint import AddressingStyle, Endpoint, resolve, validate_bucket

ACCOUNT = "123456789012"
DNS_BUCKET = "a-bucket-1"
BUCKETS = [DNS_BUCKET, "my.dotted.bucket", "Legacy_Bucket", "n" * 64]


class Sent(BaseException):
    """Ends a botocore call just before it would go to the network."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        self.request = request


def stop(request: AWSPreparedRequest, **_: object) -> None:
    raise Sent(request)


class Botocore:
    """What botocore would do, from clients that are made once and never reach the network."""

    def __init__(self) -> None:
        self._session = botocore.session.Session()
        self._clients: dict[tuple[object, ...], Any] = {}

    def regions(self) -> list[str]:
        partitions = self._session.get_available_partitions()
        return [
            region
            for partition in partitions
            for region in self._session.get_available_regions("s3", partition)
        ]

    def endpoint(
        self,
        bucket: str,
        *,
        region: str,
        endpoint_url: str | None = None,
        addressing_style: AddressingStyle = "auto",
        use_fips: bool = False,
        use_dualstack: bool = False,
    ) -> Endpoint:
        settings = (region, endpoint_url, addressing_style, use_fips, use_dualstack)
        if settings not in self._clients:
            client = self._session.create_client(
                "s3",
                region_name=region,
                endpoint_url=endpoint_url,
                aws_access_key_id="AKIA",
                aws_secret_access_key="secret",
                config=Config(
                    s3={"addressing_style": addressing_style},
                    use_fips_endpoint=use_fips,
                    use_dualstack_endpoint=use_dualstack,
                ),
            )
            client.meta.events.register("before-send.s3", stop)
            self._clients[settings] = client
        with pytest.raises(Sent) as sent:
            self._clients[settings]._make_api_call("GetObject", {"Bucket": bucket, "Key": "key"})
        request = sent.value.request
        scheme, rest = request.url.split("://")
        host, slash, path = rest.partition("/")
        prefix = (slash + path).removesuffix("/key")
        authorization: Any = request.headers["Authorization"]  # bytes, whatever the stubs say
        region_signed_for = authorization.decode().split("/")[2]
        return Endpoint(scheme, host, prefix, region_signed_for)


@pytest.fixture(scope="module")
def aws():
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        yield Botocore()


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dualstack": {"use_dualstack": True},
    "fips": {"use_fips": True},
    "fips and dualstack": {"use_fips": True, "use_dualstack": True},
    "path": {"addressing_style": "path"},
    "virtual": {"addressing_style": "virtual"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_botocore_in_every_region(aws, variant):
    compared, different = set(), {}
    for region in aws.regions():
        if "fips" in variant and region.startswith("cn-"):
            continue  # refused by both, see below
        for bucket in (*BUCKETS, access_point(region)):
            ours = resolve(bucket, region=region, **VARIANTS[variant])
            try:
                theirs = aws.endpoint(bucket, region=region, **VARIANTS[variant])
            except EndpointVariantError:
                continue  # some isolated regions have no dual stack
            compared.add(region)
            if ours != theirs:
                different[region, bucket] = (ours, theirs)
    assert not different
    assert {"us-east-1", "eu-west-1", "us-gov-west-1"} <= compared


def access_point(region: str, *, name: str = "my-point", separator: str = "/") -> str:
    partition = "aws"
    for prefix, other in {
        "cn-": "aws-cn",
        "us-gov-": "aws-us-gov",
        "us-iso-": "aws-iso",
        "us-isob-": "aws-iso-b",
        "us-isof-": "aws-iso-f",
        "eu-isoe-": "aws-iso-e",
        "eusc-": "aws-eusc",
    }.items():
        if region.startswith(prefix):
            partition = other
    return f"arn:{partition}:s3:{region}:{ACCOUNT}:accesspoint{separator}{name}"


@pytest.mark.parametrize("style", ["auto", "path", "virtual"])
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000",
        "https://127.0.0.1",
        "http://[::1]:9000",
        "http://localhost:9000",
        "http://minio",
        "https://S3.Example.com",
        "https://s3.example.com:443/",
        "https://s3.example.com:80",
        "http://s3.example.com:80",
        "https://project.example.co/storage/v1/s3",
        "https://s3.example.com/base/",
        "https://s3.eu-west-1.amazonaws.com",
    ],
)
def test_equals_botocore_at_custom_endpoints(aws, url, style):
    settings = {"region": "eu-west-1", "endpoint_url": url, "addressing_style": style}
    on_ip_address = "127.0.0.1" in url or "[" in url
    different = {}
    for bucket in (*BUCKETS, access_point("us-west-2")):
        if on_ip_address and (bucket.startswith("arn:") or "dotted" in bucket):
            continue  # botocore puts these before the address, where no name server finds them
        ours, theirs = resolve(bucket, **settings), aws.endpoint(bucket, **settings)
        # The host of a URL may have capitals and a default port; what is signed has neither.
        default_port = {"http": ":80", "https": ":443"}[theirs.scheme]
        host = theirs.host.lower().removesuffix(default_port)
        if ours != Endpoint(theirs.scheme, host, theirs.path_prefix, theirs.signing_region):
            different[bucket] = (ours, theirs)
    assert not different


@pytest.mark.parametrize("separator", ["/", ":"])
def test_an_access_point_is_signed_for_its_own_region(aws, separator):
    arn = access_point("us-west-2", separator=separator)

    ours = resolve(arn, region="eu-west-1")

    assert ours == Endpoint(
        "https", f"my-point-{ACCOUNT}.s3-accesspoint.us-west-2.amazonaws.com", "", "us-west-2"
    )
    assert ours == aws.endpoint(arn, region="eu-west-1")


def test_a_dotted_bucket_never_stands_in_a_host_name_over_tls():
    for style in ("auto", "virtual"):
        assert resolve("a.b.c", region="eu-west-1", addressing_style=style) == Endpoint(
            "https", "s3.eu-west-1.amazonaws.com", "/a.b.c", "eu-west-1"
        )


def test_a_bucket_never_stands_before_an_ip_address():
    for bucket in ("a.b.c", DNS_BUCKET):
        endpoint = resolve(
            bucket,
            region="auto",
            endpoint_url="http://127.0.0.1:9000",
            addressing_style="virtual",
        )
        assert endpoint == Endpoint("http", "127.0.0.1:9000", f"/{bucket}", "auto")


@pytest.mark.parametrize(
    "bucket",
    [
        "abc",
        "b" * 63,
        "b" * 255,
        "0.1.2",
        "1.2.3.4.5",
        "a--b",
        "UPPER",
        "_under_",
        "point-abc123-s3alias",
        access_point("eu-west-1"),
    ],
)
def test_possible_buckets_pass(bucket):
    validate_bucket(bucket)


@pytest.mark.parametrize(
    "bucket",
    [
        "",
        "ab",
        "b" * 256,
        "-ab",
        "ab-",
        ".ab",
        "ab.",
        "a..b",
        "..",
        "192.168.5.4",
        "xn--abc",
        "a/b",
        "a b",
        "a%2Fb",
        "a?b",
        "a\n",
        "abc\n",
        "bücket",
        "s3://bucket",
        "a@b.c",
    ],
)
def test_impossible_bucket_names_are_refused(bucket):
    with pytest.raises(ConfigError, match="cannot be a bucket") as caught:
        validate_bucket(bucket)
    assert str(caught.value).isprintable()
    with pytest.raises(ConfigError, match="cannot be a bucket"):
        resolve(bucket, region="eu-west-1")


@pytest.mark.parametrize(
    ("bucket", "reason"),
    [
        ("bucket--usw2-az1--x-s3", "S3 Express directory bucket"),
        ("point--usw2-az1--xa-s3", "S3 Express directory bucket"),
        ("lambda-abc--ol-s3", "Object Lambda"),
        ("outpost-abc--op-s3", "Outposts"),
        ("abc--table-s3", "table bucket"),
        ("mfzwi23gnjvgw.mrap", "multi-region access point"),
        (f"arn:aws:s3::{ACCOUNT}:accesspoint/mfzwi23gnjvgw.mrap", "SigV4A"),
        (f"arn:aws:s3::{ACCOUNT}:accesspoint:mfzwi23gnjvgw.mrap", "SigV4A"),
        (
            f"arn:aws:s3-outposts:us-west-2:{ACCOUNT}:outpost/op-1/accesspoint/point",
            "s3-outposts",
        ),
        (f"arn:aws:s3-object-lambda:us-west-2:{ACCOUNT}:accesspoint/point", "s3-object-lambda"),
        (f"arn:aws:s3express:us-west-2:{ACCOUNT}:bucket/b--usw2-az1--x-s3", "s3express"),
        ("arn:aws:s3:::bucket", "by its name"),
        ("arn:aws:s3:::bucket/key", "by its name"),
    ],
)
def test_what_cannot_be_addressed_is_refused_by_its_kind(bucket, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        resolve(bucket, region="us-west-2")
    assert caught.value.remedy
    with pytest.raises(ConfigError, match=reason):
        validate_bucket(bucket)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:",
        "arn:aws",
        "arn:aws:s3",
        "arn:aws:s3:::",
        f"arn:aws:s3:us-west-2:{ACCOUNT}:accesspoint",
        f"arn:aws:s3:us-west-2:{ACCOUNT}:accesspoint/",
        f"arn:aws:s3:us-west-2:{ACCOUNT}:accesspoint/ab/cd",
        f"arn:aws:s3:us-west-2:{ACCOUNT}:accesspoint/-ab",
        f"arn:aws:s3:us-west-2:{ACCOUNT}:accesspoint/a.b",
        f"arn:aws:s3:us-west-2:{ACCOUNT}:accesspoint/Abc",
        f"arn:aws:s3:us-west-2:{ACCOUNT}:accesspoint/{'a' * 51}",
        f"arn:aws:s3:us-west-2:{ACCOUNT}:bucket/abc",
        "arn:aws:s3:us-west-2:12345:accesspoint/abc",
        f"arn:gcp:s3:us-west-2:{ACCOUNT}:accesspoint/abc",
        f"arn:aws:sqs:us-west-2:{ACCOUNT}:queue",
        f"arn:aws:s3:us-west-2.evil.example/:{ACCOUNT}:accesspoint/abc",
        f"arn:aws:s3:us-west-2:{ACCOUNT}:accesspoint/abc\n",
    ],
)
def test_malformed_arns_are_refused(arn):
    with pytest.raises(ConfigError, match="is not the ARN of an access point") as caught:
        validate_bucket(arn)
    assert str(caught.value).isprintable()


def test_an_access_point_of_another_partition_is_refused():
    with pytest.raises(ConfigError, match="partition aws-cn"):
        resolve(access_point("cn-north-1"), region="eu-west-1")
    with pytest.raises(ConfigError, match="partition aws-cn"):
        resolve(f"arn:aws:s3:cn-north-1:{ACCOUNT}:accesspoint/abc", region="cn-north-1")


def test_an_access_point_cannot_stand_before_an_ip_address():
    with pytest.raises(ConfigError, match="IP address"):
        resolve(access_point("us-west-2"), region="us-west-2", endpoint_url="http://127.0.0.1:9000")


@pytest.mark.parametrize("region", ["", "eu west", "eu.west", "-eu", "eu-", "a" * 64, "a\n", "é"])
def test_impossible_regions_are_refused(region):
    for url in (None, "http://127.0.0.1:9000"):
        with pytest.raises(ConfigError, match="cannot be a region"):
            resolve(DNS_BUCKET, region=region, endpoint_url=url)


@pytest.mark.parametrize("region", ["aws-global", "aws-cn-global", "fips-us-east-1", "x-fips"])
def test_what_names_no_single_region_is_refused_on_aws(region):
    with pytest.raises(ConfigError, match="not one region"):
        resolve(DNS_BUCKET, region=region)


def test_there_is_no_fips_endpoint_in_china():
    for bucket in (DNS_BUCKET, access_point("cn-north-1")):
        with pytest.raises(ConfigError, match="no FIPS endpoint"):
            resolve(bucket, region="cn-north-1", use_fips=True)


@pytest.mark.parametrize("variant", ["fips", "dualstack"])
def test_awss_own_variants_are_not_dropped_at_a_custom_endpoint(variant):
    with pytest.raises(ConfigError, match="FIPS and dual-stack"):
        resolve(
            DNS_BUCKET,
            region="eu-west-1",
            endpoint_url="https://s3.example.com",
            **VARIANTS[variant],
        )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3.example.com",
        "localhost:9000",
        "127.0.0.1:9000",
        "ftp://s3.example.com",
        "s3://bucket",
        "https://",
        "https:///path",
        "https://:9000",
        "https://AKIA:CANARY@s3.example.com",
        "https://CANARY@s3.example.com",
        "CANARY:CANARY@s3.example.com",
        "https://s3.example.com?token=CANARY",
        "https://s3.example.com?",
        "https://s3.example.com/?X-Amz-Signature=CANARY",
        "https://s3.example.com/#CANARY",
        "https://s3.example.com:port",
        "https://s3.example.com:99999",
        "https://s3.example.com:-1",
        "https://s3 .example.com",
        "https://s3.example.com\n",
        "https://s3.exa\tmple.com",
        "https://s3.exämple.com",
        "https://s3..example.com",
        "https://s3.example.com/a//b",
        "https://s3.example.com/../b",
        "https://s3.example.com/a/.",
        "https://s3.example.com/%2e",
        "https://s3.example.com\\@evil.example",
        "http://[::1",
        "http://[nonsense]:9000",
        "http://[v1.future]:9000",
        "http://[fe80::1%25eth0]:9000",
    ],
)
def test_impossible_endpoints_are_refused_and_never_quoted(url):
    with pytest.raises(ConfigError, match=r"^The endpoint URL ") as caught:
        resolve(DNS_BUCKET, region="eu-west-1", endpoint_url=url)
    assert caught.value.remedy
    for shown in (str(caught.value), repr(caught.value), repr(pickle.dumps(caught.value))):
        assert "CANARY" not in shown


def test_a_host_name_may_have_an_underscore_as_container_networks_give_them():
    endpoint = resolve(DNS_BUCKET, region="us-east-1", endpoint_url="http://my_minio:9000")
    assert endpoint == Endpoint("http", "my_minio:9000", f"/{DNS_BUCKET}", "us-east-1")


def test_the_same_question_is_answered_from_memory():
    assert resolve(DNS_BUCKET, region="eu-west-1") is resolve(DNS_BUCKET, region="eu-west-1")
