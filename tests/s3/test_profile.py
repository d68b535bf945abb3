import pytest

from coatcheck.errors import ConfigError
from coatcheck.s3.profile import (
    discover_ca_bundle,
    discover_dualstack,
    discover_endpoint,
    discover_fips,
    discover_region,
)

pytestmark = pytest.mark.usefixtures("home")


def test_nothing_configured_is_none():
    assert discover_region() is None
    assert discover_endpoint() is None
    assert discover_ca_bundle() is None


def test_settings_come_from_the_profile(monkeypatch, home):
    (home / ".aws" / "config").write_text(
        "[default]\nregion = eu-north-1\n"
        "[profile work]\nregion = eu-west-3\nca_bundle = /ca.pem\nendpoint_url = http://own\n",
    )

    assert discover_region() == "eu-north-1"
    assert (discover_region("work"), discover_ca_bundle("work")) == ("eu-west-3", "/ca.pem")
    assert (discover_endpoint(), discover_endpoint("work")) == (None, "http://own")
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert (discover_region(), discover_endpoint()) == ("eu-west-3", "http://own")


def test_settings_come_from_the_credentials_file_too(home):
    (home / ".aws" / "credentials").write_text("[default]\nregion = eu-north-1\n")
    assert discover_region() == "eu-north-1"


def test_the_files_may_lie_elsewhere(monkeypatch, tmp_path):
    (tmp_path / "elsewhere").write_text("[default]\nregion = sa-east-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", "~/elsewhere")
    assert discover_region() == "sa-east-1"


def test_the_environment_goes_before_the_profile(monkeypatch, home):
    (home / ".aws" / "config").write_text(
        "[default]\nregion = file\nendpoint_url = http://file\nca_bundle = /file.pem\n"
    )
    monkeypatch.setenv("AWS_DEFAULT_REGION", "second")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://second")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/first.pem")
    assert discover_region() == "second"
    assert discover_endpoint() == "http://second"
    assert discover_ca_bundle() == "/first.pem"

    monkeypatch.setenv("AWS_REGION", "first")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://first")
    assert discover_region() == "first"
    assert discover_endpoint() == "http://first"


SERVICES = """
[default]
endpoint_url = http://all
services = local
[services local]
dynamodb =
  endpoint_url = http://dynamodb
s3 =
  endpoint_url = http://s3
"""


def test_a_services_section_goes_before_the_profiles_own_endpoint(home):
    (home / ".aws" / "config").write_text(SERVICES)
    assert discover_endpoint() == "http://s3"


def test_a_services_section_without_s3_leaves_the_profiles_own_endpoint(home):
    (home / ".aws" / "config").write_text(SERVICES.replace("s3 =", "sqs ="))
    assert discover_endpoint() == "http://all"


def test_a_services_section_that_does_not_exist_is_refused(home):
    (home / ".aws" / "config").write_text(SERVICES.replace("services = local", "services = typo"))
    with pytest.raises(ConfigError, match="'typo'"):
        discover_endpoint()


@pytest.mark.parametrize("where", ["environment", "profile"])
def test_configured_endpoints_can_be_switched_off(monkeypatch, home, where):
    (home / ".aws" / "config").write_text(
        "[default]\nendpoint_url = http://file\n"
        + ("ignore_configured_endpoint_urls = true\n" if where == "profile" else ""),
    )
    if where == "environment":
        monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "True")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://environment")

    assert discover_endpoint() is None
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "false")
    assert discover_endpoint() == "http://environment"


def test_a_profile_that_does_not_exist_has_no_settings_to_guess(home):
    (home / ".aws" / "config").write_text("[default]\nregion = eu-north-1\n")
    with pytest.raises(ConfigError, match="nobody"):
        discover_region("nobody")


def test_fips_and_dual_stack_are_asked_for_in_the_environment_or_the_profile(monkeypatch, home):
    assert (discover_fips(), discover_dualstack()) == (False, False)
    (home / ".aws" / "config").write_text(
        "[default]\nuse_fips_endpoint = true\n[profile work]\nuse_dualstack_endpoint = true\n"
    )
    assert (discover_fips(), discover_dualstack()) == (True, False)
    assert (discover_fips("work"), discover_dualstack("work")) == (False, True)
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "false")
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "True")
    assert (discover_fips(), discover_dualstack()) == (False, True)
