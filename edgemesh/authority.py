"""The cluster's certificate authority: who may call itself what (X.509, RFC 5280).

One self-signed ECDSA P-256 certificate of ten years; `ca.key` is mode 0600 and never leaves the cloud. It signs the
servers' certificates, those of clients (users of the API), and the list of the revoked (CRL). A cluster that has a CA
gives its two files instead; RSA is taken there too.

Nodes are the user "edgemesh:node:NAME" in the group "edgemesh:nodes": CN and O, as Kubernetes reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgemesh import files
from edgemesh.names import NODES, node_user

DAYS = 365
"""A certificate's life, but the authority's own."""
AUTHORITY_DAYS = 3652
BACKDATED = timedelta(minutes=5)
"""Certificates begin a little earlier, for clocks that are a little behind."""
SHOWN_FOR = timedelta(days=2 * DAYS)
"""How long a revoked certificate is listed: it is past its end, and past any grace, by then."""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_SERVER = ExtendedKeyUsageOID.SERVER_AUTH


class AuthorityError(Exception):
    """The authority's files can't be read or made, or a request can't be signed; the message says why."""


class Credentials(NamedTuple):
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Signs. `load` or `load_or_make` gives one."""

    def __init__(self, certificate: x509.Certificate, key: PrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def pin(self) -> str:
        """What a token names the authority by."""
        return pin(self.certificate)

    def sign_node(self, csr: x509.CertificateSigningRequest, name: str, now: datetime, days: int = DAYS) -> bytes:
        """A node's certificate in PEM, for the key in `csr`; all else in the request is left out."""
        return self._sign(csr.public_key(), _subject(node_user(name), (NODES,)), now, days, usage=_CLIENT)

    def server(self, names: Sequence[str], now: datetime, days: int = DAYS) -> Credentials:
        """A server's; `names` are its DNS names and IP addresses, the first its common name."""
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(names[0][:64], ())
        return _credentials(self._sign(key.public_key(), subject, now, days, usage=_SERVER, names=alternatives), key)

    def client(self, user: str, groups: Sequence[str], now: datetime, days: int = DAYS) -> Credentials:
        """A user's of the API."""
        key = ec.generate_private_key(ec.SECP256R1())
        return _credentials(self._sign(key.public_key(), _subject(user, groups), now, days, usage=_CLIENT), key)

    def crl(self, revoked: Mapping[int, datetime], number: int, now: datetime) -> bytes:
        """The list of the revoked (serial to when), DER. It never ends: a site without the cloud keeps its last."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now)
            .next_update(now + timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(self._identifier(), critical=False)
        )
        for serial, when in sorted(revoked.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def revoke(self, serials: Iterable[int], before: Iterable[bytes], now: datetime) -> bytes:
        """The list that has all of those `before` (DER; what is none of ours is left out) and `serials`.

        Its number is above theirs. Without any it is the time's, so above any that was given out at one a second.
        """
        known = [found for each in before if (found := read_crl(each, [self.certificate]))]
        listed: dict[int, datetime] = {}
        for each in known:
            listed.update({serial: when for serial, when in each.revoked.items() if now - when < SHOWN_FOR})
        for serial in serials:
            listed.setdefault(serial, now)
        return self.crl(listed, max((int(now.timestamp()), *(each.number + 1 for each in known))), now)

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether the authority signed this certificate."""
        return issued_by(certificate, [self.certificate])

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    def _sign(
        self,
        key: object,
        subject: x509.Name,
        now: datetime,
        days: int,
        *,
        usage: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None = None,
    ) -> bytes:
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise AuthorityError("the key is neither ECDSA nor RSA: make one of ECDSA P-256")
        begins = max(now - BACKDATED, self.certificate.not_valid_before_utc)
        ends = min(now + timedelta(days=days), self.certificate.not_valid_after_utc)
        if ends <= now:
            raise AuthorityError(f"the CA's certificate ended on {ends:%Y-%m-%d}: make a new one, and join anew")
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._identifier(), critical=False)
        )
        if names:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Revocations(NamedTuple):
    """A list of the revoked: its number, and each serial with when."""

    number: int
    revoked: Mapping[int, datetime]


def load_or_make(folder: Path, now: datetime) -> Authority:
    """The authority in `folder` (ca.crt, ca.key), made if there is none. Raises AuthorityError.

    The key is written first: with a key and no certificate nothing was ever signed, and it goes on from there.
    """
    certificate, key = folder / "ca.crt", folder / "ca.key"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not certificate.exists():
            if not key.exists():
                files.replace(key, _pem(ec.generate_private_key(ec.SECP256R1())))
            files.replace(certificate, _self_signed(_read_key(key), now), 0o644)
    except OSError as error:
        raise AuthorityError(f"{error.filename or folder}: {error.strerror}: the CA's key is kept there") from None
    return load(certificate, key)


def load(certificate: Path, key: Path) -> Authority:
    """A CA by its two files in PEM. Raises AuthorityError."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except OSError as error:
        raise AuthorityError(f"{certificate}: {error.strerror}: restore the CA's certificate from a copy") from None
    except ValueError:
        raise AuthorityError(f"{certificate} is no certificate in PEM: restore it from a copy") from None
    private = _read_key(key)
    if private.public_key() != found.public_key():
        raise AuthorityError(f"{key} is not the key of {certificate}: restore both from one copy")
    if not is_authority(found):
        raise AuthorityError(f"{certificate} is not the certificate of a CA (basicConstraints CA:TRUE)")
    return Authority(found, private)


def pin(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate's SubjectPublicKeyInfo (DER), 64 hex digits."""
    return _digest(certificate.public_key())


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


class User(NamedTuple):
    """Whom a certificate is for: common name and organisations."""

    name: str
    groups: tuple[str, ...]


def user(certificate: x509.Certificate | x509.CertificateSigningRequest) -> User:
    """Whom a certificate, or a request for one, names. Raises ValueError where its bytes are broken."""
    subject = certificate.subject
    names = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return User(names[0] if len(names) == 1 else "", tuple(groups))


def issued_by(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> bool:
    """Whether one of the authorities signed it; its dates are not looked at."""
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def read_crl(crl: bytes, authorities: Sequence[x509.Certificate]) -> Revocations | None:
    """A list of the revoked (DER); None if it is none, or none of the authorities signed it."""
    try:
        read = x509.load_der_x509_crl(crl)
        signed = False
        for authority in authorities:
            key = authority.public_key()
            if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) and read.issuer == authority.subject:
                signed = signed or read.is_signature_valid(key)
        if not signed:
            return None
        number = read.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        return Revocations(number, {entry.serial_number: entry.revocation_date_utc for entry in read})
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return None


def _self_signed(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, now: datetime) -> bytes:
    name = _subject(f"edgemesh-ca-{_digest(key.public_key())[:8]}", ())
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def _digest(key: CertificatePublicKeyTypes) -> str:
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).hexdigest()


def _read_key(path: Path) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise AuthorityError(f"{path}: {error.strerror}: restore the CA's key from a copy") from None
    except (ValueError, TypeError):
        raise AuthorityError(f"{path} is no private key in PEM without a password: restore it from a copy") from None
    if not isinstance(key, PrivateKey):
        raise AuthorityError(f"{path} is neither an ECDSA nor an RSA key")
    if path.stat().st_mode & 0o077:
        with contextlib.suppress(OSError):  # a credential of systemd's: read-only, and its mode is that of an ACL
            path.chmod(0o600)
    return key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _credentials(certificate: bytes, key: ec.EllipticCurvePrivateKey) -> Credentials:
    return Credentials(certificate, _pem(key))


def _subject(name: str, groups: Sequence[str]) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(**on: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: on.get(name, False) for name in names})


def utc(seconds: float) -> datetime:
    """Seconds since the epoch as certificates have them."""
    return datetime.fromtimestamp(int(seconds), UTC)
