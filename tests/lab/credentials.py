"""Who may do what in the lab: tokens, kubeconfigs, and the key that signs service accounts."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from ruamel.yaml import YAML

API = "https://127.0.0.1:6443"
USERS = {"admin": "system:masters", "autopilot": "autopilot", "reader": "readers", "nobody": "nobodies"}
"""User → group. `admin` may do all; what the others may is for tests to grant."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files under one folder."""

    folder: Path

    @property
    def tokens(self) -> Path:
        """What kube-apiserver reads: a line a user."""
        return self.folder / "tokens.csv"

    @property
    def signing_key(self) -> Path:
        """Signs the tokens of service accounts."""
        return self.folder / "sa.key"

    @property
    def certificate(self) -> Path:
        """kube-apiserver's, signed by itself; clients trust it alone."""
        return self.folder / "apiserver.crt"

    @property
    def certificate_key(self) -> Path:
        """Its private key."""
        return self.folder / "apiserver.key"

    def kubeconfig(self, user: str = "admin") -> Path:
        """The kubeconfig of one user."""
        return self.folder / f"{user}.kubeconfig"

    def write(self) -> None:
        """Makes all of them anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.signing_key.write_bytes(_pem(_key()))
        key = _key()
        self.certificate_key.write_bytes(_pem(key))
        self.certificate.write_bytes(_certificate(key))
        lines = []
        for user, group in USERS.items():
            token = secrets.token_urlsafe(24)
            lines.append(f'{token},{user},{user},"{group}"')
            with self.kubeconfig(user).open("w", encoding="utf-8") as file:
                YAML().dump(kubeconfig(token, self.certificate), file)
        self.tokens.write_text("\n".join(lines) + "\n", encoding="utf-8")


def kubeconfig(token: str, certificate: Path, server: str = API) -> dict[str, object]:
    """A kubeconfig with one user."""
    cluster = {"server": server, "certificate-authority": str(certificate)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": "default"}}],
    }


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = dt.datetime.now(dt.UTC)
    addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)
