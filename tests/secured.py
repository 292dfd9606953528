"""An Apache Kafka that asks who is there and what he may, with certificates made for the test."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE
from urllib.parse import quote

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from kafka.admin import KafkaAdminClient, ScramMechanism, UserScramCredentialUpsertion
from redis import Redis

from features.connect import connect
from hitparade.processes import HOST, child, last_lines, leash
from hitparade.settings import Settings
from producers.kafka import CLIENT
from tests.servers import KAFKA, ROOT, apache_kafka, free_port_pair, missing, wait_until

DEPLOY = ROOT / "deploy"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
MECHANISM = "SCRAM-SHA-512"
PASSWORD = "pa55 word,of=one/user%"
PLAIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_admin="{PASSWORD}";'
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


class Authority:
    """Who signs certificates, and the folder in which they lie."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.file = folder / "ca.pem"
        """Its own certificate, for who is to trust it."""
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(self.file)

    def certificate(self, name: str, *hosts: str, is_expired: bool = False) -> Path:
        """The key and the certificate of who has this name, and answers at these hosts, in one file."""
        since, until = LONG_AGO if is_expired else (None, None)
        names = hosts or (f"{name}.example",)  # Java takes no certificate for nobody
        made = self._ca.issue_cert(*names, common_name=name, not_before=since, not_after=until)
        key = load_pem_private_key(made.private_key_pem.bytes(), None)  # Kafka reads PKCS #8 alone
        chain = b"".join(part.bytes() for part in made.cert_chain_pems)
        path = self.folder / f"{name}.pem"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + chain)
        return path


@dataclass(frozen=True)
class Guarded:
    """A broker's listeners by name, and what certificates there are."""

    certificates: Authority
    strangers: Authority
    listeners: Mapping[str, str]

    def by_password(self, user: str, password: str = PASSWORD, mechanism: str = MECHANISM, **more: str) -> Settings:
        """The settings of a user who logs in."""
        login = {"KAFKA_SASL_MECHANISM": mechanism, "KAFKA_SASL_USERNAME": user, "KAFKA_SASL_PASSWORD": password}
        return self.settings("SASL", **login, **more)

    def by_certificate(self, user: str, listener: str = "MUTUAL", **more: str) -> Settings:
        """The settings of a user who shows a certificate."""
        file = str(self.certificates.certificate(user))
        return self.settings(listener, KAFKA_SSL_CERTFILE=file, KAFKA_SSL_KEYFILE=file, **more)

    def settings(self, listener: str, **more: str) -> Settings:
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": self.listeners[listener],
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL" if listener == "SASL" else "SSL",
            "KAFKA_SSL_CAFILE": str(self.certificates.file),
            **more,
        }
        return Settings.from_env({f"HITPARADE_{name}": value for name, value in env.items()})

    def admin(self) -> KafkaAdminClient:
        """Who may do everything."""
        return KafkaAdminClient(**CLIENT, **self.by_certificate("admin").kafka)

    def give_rights(self) -> None:
        """Those of deploy/acl/kafka.sh, by Kafka's own tool: one JVM for all of its lines."""
        tabbed = ["bash", "-c", "IFS=$'\\t'; echo \"$*\"", "kafka-acls.sh"]
        admin = self.certificates.folder / "admin.properties"
        key, trusted = self.certificates.certificate("admin"), self.certificates.file
        admin.write_text(
            "security.protocol=SSL\n"
            f"ssl.keystore.type=PEM\nssl.keystore.location={key}\n"
            f"ssl.truststore.type=PEM\nssl.truststore.location={trusted}\n"
        )
        where = ["--bootstrap-server", self.listeners["MUTUAL"], "--command-config", str(admin)]
        lines = subprocess.run([DEPLOY / "acl" / "kafka.sh", *tabbed, *where], stdout=PIPE, check=True).stdout
        java = ["java", "-cp", f"{KAFKA / 'libs'}/*", str(ROOT / "tests" / "AclCommands.java")]
        subprocess.run(java, input=lines, capture_output=True, check=True)

    def add_user(self, user: str, password: str = PASSWORD) -> None:
        with self.admin() as admin:
            for mechanism in (ScramMechanism.SCRAM_SHA_512, ScramMechanism.SCRAM_SHA_256):
                admin.alter_user_scram_credentials([UserScramCredentialUpsertion(user, mechanism, password)])


@contextmanager
def guarded_kafka(folder: Path) -> Iterator[Guarded]:
    """A broker where nobody may do anything but the admin, and everybody shows a password or a certificate.

    Who comes to the listener in the clear is nobody; it is there to see when the broker is up.
    """
    certificates = Authority(folder / "certificates")
    port = free_port_pair()
    ports = {"CLEAR": port, "SASL": free_port_pair(), "MUTUAL": free_port_pair(), "EXPIRED": free_port_pair()}
    listeners = {name: f"{HOST}:{number}" for name, number in ports.items()}
    addresses = ",".join(f"{name}://{address}" for name, address in listeners.items())
    broker = certificates.certificate("broker", HOST)
    expired = certificates.certificate("expired", HOST, is_expired=True)
    properties = {
        "listeners": f"{addresses},CONTROLLER://{HOST}:{port + 1}",
        "advertised.listeners": addresses,
        "listener.security.protocol.map": "CLEAR:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL,EXPIRED:SSL,CONTROLLER:SSL",
        "inter.broker.listener.name": "MUTUAL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(broker),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.file),
        "ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+),.*$/$1/,DEFAULT",
        "listener.name.sasl.ssl.client.auth": "none",
        "listener.name.expired.ssl.keystore.type": "PEM",
        "listener.name.expired.ssl.keystore.location": str(expired),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl.plain.sasl.jaas.config": PLAIN,
        "listener.name.sasl.scram-sha-256.sasl.jaas.config": SCRAM,
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": SCRAM,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:broker;User:admin",
    }
    with apache_kafka(folder / "broker", port, **properties):
        yield Guarded(certificates, Authority(folder / "strangers"), listeners)


@dataclass(frozen=True)
class GuardedRedis:
    """A Redis that speaks TLS alone, to who has a password."""

    certificates: Authority
    port: int

    def url(self, user: str, password: str = PASSWORD, host: str = HOST) -> str:
        """The address of a user."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"rediss://{login}@{host}:{self.port}/0?ssl_ca_certs={self.certificates.file}"

    def admin(self) -> Redis:
        """Who may do everything."""
        return connect(self.url("default"))

    def give_rights(self) -> None:
        """Those of deploy/acl/redis.acl, and the users' passwords, by the lines of docs/operations.md."""
        found = re.search(r"^export REDISCLI_AUTH.*?^```", (ROOT / "docs" / "operations.md").read_text(), re.M | re.S)
        assert found
        export, give, let_in, keep, _ = found[0].splitlines()
        users = re.findall("^user hitparade-([a-z]+)", (DEPLOY / "acl" / "redis.acl").read_text(), re.M)
        lines = [export, give, *(let_in.replace("sessions", user) for user in users), keep]
        for user in ("admin", *users):
            (self.certificates.folder / f"{user}.password").write_text(f"{PASSWORD}\n")
        text = "\n".join(lines).replace("deploy/", f"{DEPLOY}/").replace("-h HOST", f"-h {HOST} -p {self.port}")
        shell = ["bash", "-euo", "pipefail", "-c", text]
        said = subprocess.run(shell, cwd=self.certificates.folder, capture_output=True, check=True).stdout
        assert said.split() == [b"OK"] * (2 * len(users) + 1), said


@contextmanager
def guarded_redis(folder: Path, certificates: Authority, *, is_expired: bool = False) -> Iterator[GuardedRedis]:
    """Debian's Redis: the embedded Valkey is built without TLS."""
    binary = shutil.which("redis-server")
    if binary is None:
        missing("no redis-server: install the package of that name")
    certificate, port = certificates.certificate("redis", HOST, is_expired=is_expired), free_port_pair()
    folder.mkdir(parents=True, exist_ok=True)
    config, log = folder / "redis.conf", folder / "redis.log"
    config.write_text(
        f"""
        port 0
        tls-port {port}
        bind {HOST}
        tls-cert-file "{certificate}"
        tls-key-file "{certificate}"
        tls-ca-cert-file "{certificates.file}"
        tls-auth-clients no
        requirepass "{PASSWORD}"
        appendonly yes
        """
    )
    with leash() as group, child([binary, str(config)], log, group) as server:
        wait_until(lambda: server.poll() is not None or listens(port), f"Redis: {last_lines(log, 20)}")
        yield GuardedRedis(certificates, port)


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
