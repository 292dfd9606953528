"""Settings from the environment, prefix HITPARADE_: one frozen value, checked once, with all errors at once."""

from collections.abc import Mapping
from datetime import UTC, timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from features.topics import Topics
from features.weeks import WEEKDAYS, Calendar

PREFIX = "HITPARADE_"
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
    except (ValueError, OSError) as cause:
        raise ValueError(f"expected a time zone such as UTC or Europe/Berlin, found {name!r}") from cause
    return name


def _redis_url(url: SecretStr) -> SecretStr:
    scheme = url.get_secret_value().split("://")[0]
    if scheme not in ("redis", "rediss", "redis+cluster", "redis+sentinel"):
        raise ValueError("expected redis://, rediss://, redis+cluster:// or redis+sentinel://")
    return url


Zone = Annotated[str, AfterValidator(_zone)]


class Settings(BaseModel):
    """Everything that can be set; a field is read from HITPARADE_ and its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="brokers, `host:port`, separated by commas")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to talk to the brokers"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="how to log in, with SASL"
    )
    kafka_sasl_username: str | None = Field(None, description="who logs in")
    kafka_sasl_password: SecretStr | None = Field(None, description="the password (or `…_FILE`)")
    kafka_ssl_cafile: Path | None = Field(None, description="the authority that signed the brokers' certificates")
    kafka_ssl_certfile: Path | None = Field(None, description="this client's certificate")
    kafka_ssl_keyfile: Path | None = Field(None, description="this client's key")
    kafka_client: Literal["kafka-python"] = Field("kafka-python", description="the Kafka client")
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
    grace_s: int = Field(3600, ge=0, description="`schedule` waits so long after a week's end")
    cut_timeout_s: int = Field(600, ge=1, description="a weekly run waits so long for the counters")
    data_dir: Path = Field(Path("data"), description="history, runs and models")
    experiment_file: Path | None = Field(None, description="experiments, TOML; without it linear against neural")
    log_format: Literal["text", "json"] = Field("text", description="`text` or `json`")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="the least that is logged")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Read and check the environment; NAME_FILE holds the value of NAME in a file.

        Raises:
            SettingsError: a line for each setting that is wrong or unknown.
        """
        found: dict[str, Any] = {}
        errors: list[str] = []
        for name, value in env.items():
            if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_"):
                field = name.removeprefix(PREFIX).lower()
                try:
                    field, value = _from_file(field, value)
                    found[field] = value
                except OSError as cause:
                    errors.append(f"{name}: cannot read {value}: {cause.strerror}")
        try:
            settings = cls.model_validate(found)
        except ValidationError as cause:
            errors += [_sentence(error) for error in cause.errors()]
        if errors:
            raise SettingsError("settings are wrong:\n" + "\n".join(f"  {error}" for error in errors))
        return settings

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
        config: dict[str, Any] = {"bootstrap_servers": self.kafka_bootstrap_servers.split(",")}
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


def _from_file(field: str, value: str) -> tuple[str, str]:
    if field.endswith("_file") and field.removesuffix("_file") in Settings.model_fields:
        return field.removesuffix("_file"), Path(value).read_text().strip()
    return field, value


def _sentence(error: Any) -> str:
    name = PREFIX + str(error["loc"][0]).upper()
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting; `hitparade config` shows those there are"
    shown = "***" if "PASSWORD" in name or "URL" in name or "TOKEN" in name else repr(error["input"])
    return f"{name}: {error['msg']}, found {shown}"
