"""Settings from the environment, prefix HITPARADE_: one frozen value, checked once, with all errors at once."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from features.topics import Topics
from features.weeks import WEEKDAYS, Calendar
from hitparade.arguments import Client

PREFIX = "HITPARADE_"
ADDRESS = re.compile(r"(?:[A-Z_]+://)?(?:[^\s:;/@\[\]]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
SASL = {
    "kafka_security_protocol": "security_protocol",
    "kafka_sasl_mechanism": "sasl_mechanism",
    "kafka_sasl_username": "sasl_plain_username",
    "kafka_sasl_password": "sasl_plain_password",
    "kafka_ssl_cafile": "ssl_cafile",
    "kafka_ssl_certfile": "ssl_certfile",
    "kafka_ssl_keyfile": "ssl_keyfile",
}


class SettingsError(ValueError):
    """The environment does not make sense; the message has a line for each setting that is wrong."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as cause:
        raise ValueError("expected a time zone such as UTC or Europe/Berlin") from cause
    return name


def _addresses(text: str) -> str:
    for address in text.split(","):
        found = ADDRESS.fullmatch(address.strip())
        if not found or not 0 < int(found[1]) < 65536:
            raise ValueError("expected host:port, or several separated by commas")
    return text


def _redis_url(url: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(url.get_secret_value())
        port = parts.port
    except ValueError:  # its message would show what may be a part of the password
        raise ValueError("expected a port in numbers, and special characters of a password as %XX") from None
    if parts.scheme not in ("redis", "rediss", "redis+cluster", "redis+sentinel"):
        raise ValueError("expected redis://, rediss://, redis+cluster:// or redis+sentinel://")
    if not parts.hostname or port == 0:
        raise ValueError(f"expected {parts.scheme}://HOST:PORT, special characters of a password as %XX")
    name = parts.path.strip("/")
    if parts.scheme == "redis+sentinel" and not name:
        raise ValueError("expected redis+sentinel://HOST:PORT/MASTER")
    if parts.scheme in ("redis", "rediss") and name and not (name.isascii() and name.isdigit()):
        raise ValueError(f"expected {parts.scheme}://HOST:PORT/NUMBER, the number of a database")
    for option, value in parse_qsl(parts.query):
        if option in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") and not os.path.isfile(value):
            raise ValueError(f"expected {option}=FILE to name a file that is there")
    return url


def _data_url(url: SecretStr) -> SecretStr:
    scheme, _, rest = url.get_secret_value().partition("://")
    if scheme not in ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "file") or not rest:
        raise ValueError("expected s3://BUCKET/FOLDER, gs://…, abfs://… or file:///…")
    return url


def _file(path: Path) -> Path:
    if not os.path.isfile(path):  # False for whatever is wrong, where Path.is_file() may raise
        raise ValueError("expected a file that is there")
    return path


Zone = Annotated[str, AfterValidator(_zone)]
ExistingFile = Annotated[Path, AfterValidator(_file)]


class Settings(BaseModel):
    """Everything that can be set; a field is read from HITPARADE_ and its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka_bootstrap_servers: Annotated[str, AfterValidator(_addresses)] = Field(
        "127.0.0.1:9092", description="brokers, `host:port`, separated by commas"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to talk to the brokers"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="how to log in, with SASL"
    )
    kafka_sasl_username: str | None = Field(None, description="who logs in")
    kafka_sasl_password: SecretStr | None = Field(None, description="the password (or `…_FILE`)")
    kafka_ssl_cafile: ExistingFile | None = Field(
        None, description="the authority that signed the brokers' certificates"
    )
    kafka_ssl_certfile: ExistingFile | None = Field(None, description="this client's certificate")
    kafka_ssl_keyfile: ExistingFile | None = Field(None, description="this client's key")
    kafka_client: Client = Field(
        "kafka-python",
        description="what counting reads Kafka with; `confluent-kafka` is faster, and an extra",
    )
    session_timeout_ms: int = Field(10_000, ge=1000, description="a consumer silent for so long loses its partitions")
    topic_prefix: str = Field("hitparade", pattern=r"^[A-Za-z0-9._-]{1,100}$", description="begins topics and groups")
    partitions: int = Field(6, ge=1, le=10_000, description="partitions of topics that `topics` creates")
    replication_factor: int = Field(-1, ge=-1, description="replicas of topics that `topics` creates; -1: the broker's")
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="also `rediss://`, `redis+cluster://`, `redis+sentinel://…/master` (or `…_FILE`)",
    )
    week_start: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = Field(
        "monday", description="first day of a chart week"
    )
    time_zone: Zone = Field("UTC", description="zone in which chart weeks begin")
    event_time_zone: Zone = Field("UTC", description="zone of event times that name none")
    weeks_kept: int = Field(12, ge=5, le=520, description="weeks with counters; older events are late")
    slices: int = Field(16, ge=1, le=4096, description="hashes that share one week's counters")
    list_span_weeks: int = Field(4, ge=1, le=4, description="weeks a list ranks by: the last ones and the one to come")
    future_tolerance_s: int = Field(600, ge=0, description="an event dated later than its record by more is dead")
    duplicate_hours: int = Field(
        0, ge=0, le=8760, description="an `event_id` counts once within so many hours of stream time; 0: not looked at"
    )
    exposures: bool = Field(
        False, description="whether an `exposure`, a user's having seen a list, is told of; else it is ignored"
    )
    usage_weeks: int = Field(
        26,
        ge=1,
        le=520,
        description="closed weeks of which a file holds what each listener did; older ones are removed",
    )
    plays_cap: int = Field(
        0, ge=0, le=1_000_000, description="at most so many plays of one track by one user count in a week; 0: all"
    )
    listeners: bool = Field(
        False, description="whether each track's different listeners of a week are estimated, for `why` to show"
    )
    grace_s: int = Field(3600, ge=0, description="`schedule` waits so long after a week's end")
    retrain_weeks: int = Field(
        0,
        ge=0,
        le=520,
        description="`schedule` trains before it triggers a week, where the network in use has learned up to so many "
        "weeks before or more, or none is in use, and puts it in use if it is better; 0: never",
    )
    cut_timeout_s: int = Field(600, ge=1, description="a weekly run waits so long for the counters")
    guard_min_overlap_naive: float = Field(
        0.05, ge=0, le=1, description="a list with a smaller share of naive's tracks is not published; naive's is"
    )
    guard_min_overlap_last_week: float = Field(
        0, ge=0, le=1, description="the same, of the tracks of the group's list of last week; 0: not looked at"
    )
    guard_min_captured: float = Field(
        0.05, ge=0, le=1, description="the same, of last week's plays of the 50 most played tracks"
    )
    data_dir: Path = Field(Path("data"), description="history, runs, models, decisions, and what each listener did")
    data_url: Annotated[SecretStr, AfterValidator(_data_url)] | None = Field(
        None,
        description="object storage by which machines share the data folder: `s3://BUCKET/FOLDER`, also `gs:`, "
        "`abfs:`, `file:` (or `…_FILE`)",
    )
    experiment_file: Path | None = Field(None, description="experiments, TOML; without it linear against neural")
    mapping_file: Path | None = Field(
        None,
        description="how session events of others are read, TOML; without it they are of the contract "
        "([docs/integrating.md](docs/integrating.md))",
    )
    http_host: str = Field(
        "127.0.0.1", min_length=1, description="address on which `serve` and the probes of consumers listen"
    )
    http_port: int = Field(8080, ge=0, le=65535, description="port of `serve`; 0: a free one")
    http_hosts: str | None = Field(
        None, description="names by which the service may be called, separated by commas; without it any"
    )
    http_data: bool = Field(True, description="whether `serve` shows lists, tracks and the page, not predictions alone")
    http_max_tracks: int = Field(25_000, ge=1, description="tracks of one request for predictions")
    http_max_body_mb: int = Field(64, ge=1, le=1024, description="MiB of one request's body")
    http_timeout_s: float = Field(30, gt=0, description="a request's body must have come within so many seconds")
    http_rate: float = Field(0, ge=0, description="requests a second that one address may make; 0: not looked at")
    api_token: SecretStr | None = Field(
        None, description="what a `POST /triggers` must bear (or `…_FILE`); without it there is none", min_length=8
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="where a consumer serves `/livez`, `/readyz`, `/metrics`; without it nowhere",
    )
    tracing: bool = Field(
        False,
        description="whether what leads from a trigger to its lists is traced (extra `tracing`); `OTEL_…` say where to",
    )
    log_format: Literal["text", "json"] = Field("text", description="`text` or `json`")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="the least that is logged")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Read and check the environment; NAME_FILE holds the value of NAME in a file.

        Raises:
            SettingsError: a line for each setting that is wrong or unknown.
        """
        found, errors = _found(env)
        errors += _login(found)
        try:
            settings = cls.model_validate(found)
        except ValidationError as cause:
            errors += [_sentence(error) for error in cause.errors()]
        if errors:
            raise SettingsError("settings are wrong:\n" + "\n".join(f"  {error}" for error in errors))
        return settings

    def shown(self, name: str) -> str:
        """A setting as people may see it: secrets masked, an address without its password."""
        value = getattr(self, name)
        if not isinstance(value, SecretStr):
            return "" if value is None else str(value)
        return _masked(value.get_secret_value())

    @property
    def secrets(self) -> set[str]:
        """What nobody may see: passwords, tokens, and of an address its password as it is and as it is meant."""
        found = {value.get_secret_value() for _, value in self if isinstance(value, SecretStr)}
        logins = {urlsplit(secret).password or "" for secret in found}
        return (found | logins | set(map(unquote, logins))) - {"", *_PUBLIC}

    @property
    def calendar(self) -> Calendar:
        """Where chart weeks begin."""
        return Calendar(WEEKDAYS.index(self.week_start), zone(self.time_zone))

    @property
    def topics(self) -> Topics:
        """The topics' names."""
        return Topics(self.topic_prefix)

    @property
    def future_tolerance(self) -> timedelta:
        """How far an event may be dated after its record."""
        return timedelta(seconds=self.future_tolerance_s)

    @property
    def kafka(self) -> dict[str, Any]:
        """What every Kafka client is opened with."""
        servers = [server.strip() for server in self.kafka_bootstrap_servers.split(",")]
        config: dict[str, Any] = {"bootstrap_servers": servers}
        for field, name in SASL.items():
            value = getattr(self, field)
            if value is not None:
                config[name] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        return config


def zone(name: str) -> tzinfo:
    """A zone by name; UTC is the standard library's own, which is faster."""
    return UTC if name == "UTC" else ZoneInfo(name)


def settings_table() -> str:
    """Every setting as rows of a Markdown table, for the README."""
    rows = ["| setting | default | what it is |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        shown = "" if default is None else f"`{default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


_PUBLIC = {f.default.get_secret_value() for f in Settings.model_fields.values() if isinstance(f.default, SecretStr)}
OPTIONAL = {name for name, field in Settings.model_fields.items() if field.default is None}


def _found(env: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """What is set, by field, and a sentence for each that cannot be read."""
    found: dict[str, Any] = {}
    errors = []
    for name, value in env.items():
        field = name.removeprefix(PREFIX).lower()
        if not name.startswith(PREFIX) or name.startswith(f"{PREFIX}TEST_"):
            continue
        if not value and field in OPTIONAL:  # as compose files write what is not set
            continue
        try:
            field, value = _from_file(field, value)
        except (OSError, ValueError) as cause:
            errors.append(f"{name}: expected a file of text, cannot read {value!r}: {_reason(cause)}")
            continue
        if field in found:
            errors.append(f"{PREFIX}{field.upper()}: expected the value or its file, found both: unset one of them")
        found[field] = value
    return found, errors


def _reason(cause: Exception) -> str:
    return str(getattr(cause, "strerror", None) or cause)


def _from_file(field: str, value: str) -> tuple[str, str]:
    if field.endswith("_file") and field.removesuffix("_file") in Settings.model_fields:
        return field.removesuffix("_file"), Path(value).read_text(encoding="utf-8").strip()
    return field, value


def _login(found: Mapping[str, Any]) -> list[str]:
    """What is missing to log in; of what is set, since it must be told with all other errors."""
    protocol = str(found.get("kafka_security_protocol", ""))
    needed = ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password")
    missing = [name for name in needed if not found.get(name)] if protocol.startswith("SASL_") else []
    return [f"{PREFIX}{name.upper()}: expected a value with {protocol}, found nothing" for name in missing]


def _masked(secret: str) -> str:
    """The secret as stars; of an address only what is secret in it."""
    parts = urlsplit(secret)
    if not parts.netloc:
        return "***"
    _, login, host = parts.netloc.rpartition("@")
    query = "?***" if parts.query else ""
    return f"{parts.scheme}://{'***@' if login else ''}{host}{parts.path}{query}"


def _sentence(error: Any) -> str:
    name = PREFIX + str(error["loc"][0]).upper()
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting; `hitparade config` shows those there are"
    shown = "***" if "PASSWORD" in name or "URL" in name or "TOKEN" in name else repr(error["input"])
    message = re.sub("^Value error, ", "", re.sub("^(Input|String) should", "expected to", error["msg"]))
    return f"{name}: {message}, found {shown}"
