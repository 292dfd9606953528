"""Settings: one value, checked once, with all errors at once and no secret in any of them."""

from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from features.weeks import ChartWeek
from hitparade.settings import PREFIX, Settings, SettingsError, settings_table, zone


def read(**values: str) -> Settings:
    return Settings.from_env({PREFIX + name: value for name, value in values.items()})


def errors(**values: str) -> list[str]:
    """The lines of the message, without the first."""
    with pytest.raises(SettingsError) as caught:
        read(**values)
    first, *lines = str(caught.value).splitlines()
    assert first == "settings are wrong:"
    return [line.strip() for line in lines]


def test_without_an_environment_the_defaults_hold() -> None:
    settings = Settings.from_env({})
    assert settings.kafka["bootstrap_servers"] == ["127.0.0.1:9092"]
    assert settings.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert (settings.partitions, settings.weeks_kept, settings.slices, settings.list_span_weeks) == (6, 12, 16, 4)
    assert (settings.future_tolerance_s, settings.grace_s, settings.week_start) == (600, 3600, "monday")
    assert settings.topics.sessions == "hitparade.sessions.v1"
    assert settings.calendar.zone is UTC


def test_only_the_environment_that_is_given_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HITPARADE_PARTITIONS", "x")
    assert Settings.from_env({}) == Settings.from_env({"PARTITIONS": "7", "PATH": "x"})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.from_env({}).partitions = 7


def test_every_error_is_told_at_once_each_with_its_name_what_is_expected_and_what_was_found(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    found = errors(
        PARTITIONS="x",
        WEEKS_KEPT="3",
        WEEK_START="mon",
        TIME_ZONE="Mars/Olympus",
        TOPIC_PREFIX="a b",
        KAFKA_BOOTSTRAP_SERVERS="localhost",
        KAFKA_SSL_CAFILE=nowhere,
        KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        KAFKA_SASL_PASSWORD_FILE=nowhere,
        REDIS_URL="ftp://u:geheim@host",
        NOPE="1",
    )
    told = dict(line.split(": ", 1) for line in found)
    assert {name.removeprefix(PREFIX): text for name, text in told.items()} == {
        "PARTITIONS": "expected to be a valid integer, unable to parse string as an integer, found 'x'",
        "WEEKS_KEPT": "expected to be greater than or equal to 5, found '3'",
        "WEEK_START": "expected to be 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday' or 'sunday', "
        "found 'mon'",
        "TIME_ZONE": "expected a time zone such as UTC or Europe/Berlin, found 'Mars/Olympus'",
        "TOPIC_PREFIX": "expected to match pattern '^[A-Za-z0-9._-]{1,100}$', found 'a b'",
        "KAFKA_BOOTSTRAP_SERVERS": "expected host:port, or several separated by commas, found 'localhost'",
        "KAFKA_SSL_CAFILE": f"expected a file that is there, found '{nowhere}'",
        "KAFKA_SASL_MECHANISM": "expected a value with SASL_SSL, found nothing",
        "KAFKA_SASL_USERNAME": "expected a value with SASL_SSL, found nothing",
        "KAFKA_SASL_PASSWORD": "expected a value with SASL_SSL, found nothing",
        "KAFKA_SASL_PASSWORD_FILE": f"expected a file of text, cannot read '{nowhere}': No such file or directory",
        "REDIS_URL": "expected redis://, rediss://, redis+cluster:// or redis+sentinel://, found ***",
        "NOPE": "there is no such setting; `hitparade config` shows those there are",
    }


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "America", "/etc/localtime", "../UTC", "UTC+1", "Europe/\0"])
@pytest.mark.parametrize("setting", ["TIME_ZONE", "EVENT_TIME_ZONE"])
def test_a_zone_that_does_not_exist_is_refused(setting: str, name: str) -> None:
    assert errors(**{setting: name}) == [
        f"{PREFIX}{setting}: expected a time zone such as UTC or Europe/Berlin, found {name!r}"
    ]


@pytest.mark.parametrize(
    "servers", ["", "a", "a:", ":9092", "a:b", "a:0", "a:65536", "a:1,", ",", "a:1;b:2", "a b:1", "a/b:1"]
)
def test_an_address_without_host_or_port_is_refused(servers: str) -> None:
    (error,) = errors(KAFKA_BOOTSTRAP_SERVERS=servers)
    assert error.startswith(f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS: expected host:port")


@pytest.mark.parametrize("path", ["/nowhere", "/", "x" * 5000, "a\0b"])
def test_a_certificate_that_is_not_there_is_refused(path: str) -> None:
    (error,) = errors(KAFKA_SSL_CERTFILE=path)
    assert error.startswith(f"{PREFIX}KAFKA_SSL_CERTFILE: expected a file that is there, found ")


def test_several_brokers_are_separated_by_commas() -> None:
    servers = ["a.b-c:1", "[::1]:2", "10.0.0.1:65535", "SASL_SSL://d:4"]
    assert read(KAFKA_BOOTSTRAP_SERVERS=", ".join(servers)).kafka["bootstrap_servers"] == servers


@pytest.mark.parametrize(
    "url",
    [
        "geheim",
        "http://u:geheim@host",
        "redis://u:geheim@",
        "redis://u:geheim@host:port",
        "redis://u:geheim/geheim#?@host:1",
        "redis://u:geheim@[::1",
        "redis://u:geheim@host:1/geheim",
        "redis+sentinel://u:geheim@host:1",
        "rediss://host:6379/0?ssl_ca_certs=/no/such/file.pem",
    ],
)
def test_a_redis_address_that_cannot_be_is_refused_without_showing_its_password(url: str) -> None:
    (error,) = errors(REDIS_URL=url)
    assert error.startswith(f"{PREFIX}REDIS_URL: expected ")
    assert "geheim" not in error


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:1/0", "redis://host:1/0"),
        ("redis://:geheim@host:1/0", "redis://***@host:1/0"),
        ("rediss://user:geheim@host:1/0", "rediss://***@host:1/0"),
        ("rediss://user:ge%40heim@host", "rediss://***@host"),
        ("redis://user:ge@heim@host:1", "redis://***@host:1"),
        ("redis://host:1/0?password=geheim", "redis://host:1/0?***"),
        ("redis+cluster://user:geheim@host:1", "redis+cluster://***@host:1"),
        ("redis+sentinel://:geheim@host:1/master", "redis+sentinel://***@host:1/master"),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(url: str, shown: str) -> None:
    settings = read(REDIS_URL=url)
    assert settings.shown("redis_url") == shown
    assert settings.redis_url.get_secret_value() == url
    assert "heim" not in repr(settings)


def test_a_password_is_taken_as_it_stands_and_shown_as_stars() -> None:
    password = "p@ss:/#?% 'w\"ö"
    settings = read(
        KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT",
        KAFKA_SASL_MECHANISM="PLAIN",
        KAFKA_SASL_USERNAME="u",
        KAFKA_SASL_PASSWORD=password,
    )
    assert settings.kafka == {
        "bootstrap_servers": ["127.0.0.1:9092"],
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "u",
        "sasl_plain_password": password,
    }
    assert settings.shown("kafka_sasl_password") == "***"
    assert password not in repr(settings)


def test_a_secret_may_come_from_a_file_and_its_last_line_end_is_not_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("redis://:ge heim@host:1/0\n")
    assert read(REDIS_URL_FILE=str(file)).redis_url.get_secret_value() == "redis://:ge heim@host:1/0"


def test_a_secret_and_its_file_together_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("geheim")
    assert errors(KAFKA_SASL_PASSWORD="geheim", KAFKA_SASL_PASSWORD_FILE=str(file)) == [
        f"{PREFIX}KAFKA_SASL_PASSWORD: expected the value or its file, found both: unset one of them"
    ]


def test_a_file_that_is_not_text_is_refused_without_showing_it(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"geheim\xff")
    (error,) = errors(KAFKA_SASL_PASSWORD_FILE=str(file))
    assert error.startswith(f"{PREFIX}KAFKA_SASL_PASSWORD_FILE: expected a file of text, cannot read '{file}': ")
    assert "geheim" not in error


def test_a_token_is_a_secret_and_not_a_short_one() -> None:
    (error,) = errors(API_TOKEN="geheim")
    assert error == "HITPARADE_API_TOKEN: Value should have at least 8 items after validation, not 6, found ***"
    assert read(API_TOKEN="geheim geheim").shown("api_token") == "***"


def test_the_service_is_told_where_to_listen_and_how_much_to_take() -> None:
    wrong = {"HTTP_PORT": "x", "HTTP_DATA": "maybe", "HTTP_MAX_BODY_MB": "0", "METRICS_PORT": "65536"}
    assert [error.partition(":")[0] for error in errors(**wrong)] == [f"HITPARADE_{name}" for name in wrong]
    assert read(HTTP_HOSTS="", METRICS_PORT="").http_hosts is None


def test_what_names_the_servers_of_tests_is_no_setting() -> None:
    assert read(TEST_KAFKA="/somewhere", TEST_DATA="/somewhere") == Settings.from_env({})


def test_an_optional_setting_that_is_empty_is_not_set() -> None:
    assert read(EXPERIMENT_FILE="", KAFKA_SASL_PASSWORD="", KAFKA_SSL_CAFILE="") == Settings.from_env({})


def test_the_chart_has_the_first_day_and_the_zone_of_the_settings() -> None:
    calendar = read(WEEK_START="friday", TIME_ZONE="Europe/Berlin").calendar
    week = calendar.parse("2023-W24")
    assert isinstance(week, ChartWeek)
    assert calendar.start(week).isoformat() == "2023-06-15T22:00:00+00:00"
    assert calendar.zone == ZoneInfo("Europe/Berlin")


def test_utc_is_the_standard_librarys_own() -> None:
    assert zone("UTC") is UTC


def test_the_table_has_a_row_for_every_setting_and_says_what_each_is() -> None:
    header, line, *rows = settings_table().splitlines()
    assert (header, line) == ("| setting | default | what it is |", "| --- | --- | --- |")
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [name for name, _, _ in cells] == [f"`{PREFIX}{name.upper()}`" for name in Settings.model_fields]
    assert all(what not in ("", "None") for _, _, what in cells)
