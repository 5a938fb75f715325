"""That a node's WireGuard key is its own: MeshNode.spec.proof, made by the node and checked by everybody else.

The node signs its name, its key and a serial with the key of the certificate that it got when it joined. The text is
base64 of these bytes (integers big-endian):

    0         version, 1
    1..8      serial, 64 bits: milliseconds since the epoch, and always above the last one
    9..72     signature: ECDSA P-256 with SHA-256, r and s of 32 bytes each
    73..      the certificate, DER

and what is signed are these:

    "edgemesh.kubeedge.io/proof/1" and a zero byte; the length of the name, 16 bits; the name; the key, 32 bytes;
    the serial, 64 bits

The rest of a MeshNode is not signed: addresses are tried, never believed. A certificate that begins in the future
counts, so that a node whose clock is behind after a reboot without a battery still has its peers; so does one that
ended less than the grace ago. cryptography's x509 is imported by the first check, not before.
"""

from __future__ import annotations

import base64
import binascii
import os
import struct
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from edgemesh.names import NODES, node_user

if TYPE_CHECKING:
    from cryptography import x509

    from sync.resources.kinds import MeshNode

VERSION = 1
GRACE = 30 * 86400.0
"""Seconds past its end that a certificate counts, unless told otherwise."""
MAX_SIZE = 8192
"""Characters of a proof."""

_LABEL = b"edgemesh.kubeedge.io/proof/1\0"
_HEAD = struct.Struct(">BQ32s32s")
_MAX_SERIAL = 2**64 - 1


class ProofError(Exception):
    """The bytes are no proof; the message says why."""


class Proof(NamedTuple):
    """A proof's parts; `certificate` is DER."""

    serial: int
    r: int
    s: int
    certificate: bytes


class _Checked(NamedTuple):
    """What was found of one text for one key; without `reason` the rest holds."""

    text: str
    public_key: str
    reason: str
    serial: int = 0
    certificate: int = 0
    ends: float = 0.0


def signed(name: str, public_key: bytes, serial: int) -> bytes:
    """The bytes that a proof's signature is over."""
    encoded = name.encode()
    return b"".join((_LABEL, struct.pack(">H", len(encoded)), encoded, public_key, struct.pack(">Q", serial)))


def make(name: str, public_key: bytes, serial: int, certificate: bytes, key: bytes) -> str:
    """A proof for a WireGuard key (32 bytes); `certificate` and `key` are the node's, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    private = serialization.load_pem_private_key(key, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise ProofError("the node's key is not ECDSA P-256")
    r, s = decode_dss_signature(private.sign(signed(name, public_key, serial), ec.ECDSA(hashes.SHA256())))
    der = x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)
    return base64.b64encode(_HEAD.pack(VERSION, serial, r.to_bytes(32), s.to_bytes(32)) + der).decode()


def read(text: str) -> Proof:
    """A proof's parts. Raises ProofError."""
    if len(text) > MAX_SIZE:
        raise ProofError(f"it has {len(text)} characters, at most {MAX_SIZE} are read")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ProofError("it is not base64") from None
    if len(data) <= _HEAD.size:
        raise ProofError(f"it has only {len(data)} bytes")
    version, serial, r, s = _HEAD.unpack_from(data)
    if version != VERSION:
        raise ProofError(f"it is of version {version}, this program knows {VERSION}")
    return Proof(serial, int.from_bytes(r), int.from_bytes(s), data[_HEAD.size :])


class Verifier:
    """Checks MeshNodes. What was checked is kept by name, so that one that has not changed costs next to nothing.

    `authorities` are certificates in PEM (several in one text are taken), `seen` the highest serial of each node that
    was ever accepted: keep it on disk, it is what tells a replay. Only proofs that hold add to it, so its size is
    bounded by the names the authority gave out.
    """

    def __init__(self, authorities: bytes, seen: Mapping[str, int] | None = None, *, grace: float = GRACE) -> None:
        self._pem = authorities
        self._authorities: Sequence[x509.Certificate] | None = None
        self._grace = grace
        self._checked: dict[str, _Checked] = {}
        self._revoked: frozenset[int] = frozenset()
        self.crl_number = -1
        """Of the list of the revoked in force; -1 before there is any."""
        self.seen = dict(seen or {})

    def check(self, node: MeshNode, now: float) -> str:
        """Empty if the key is the node's; else the reason to refuse it. `now` in seconds since the epoch."""
        name = node.metadata.name
        if not node.spec.proof:
            return "it has no proof that the key is its own: has the node joined?"
        found = self._checked.get(name)
        if found is None or (found.text, found.public_key) != (node.spec.proof, node.spec.public_key):
            found = self._look(name, node.spec.public_key, node.spec.proof)
            self._checked[name] = found
        if found.reason:
            return found.reason
        if found.certificate in self._revoked:
            if self.seen.get(name) == found.serial:
                # all that the name had is revoked with it: whoever has the name next begins anew, whatever the clock
                # said that this serial is from
                del self.seen[name]
            return "its certificate is revoked: the node was deleted; it may join anew"
        if now > found.ends + self._grace:
            return f"its certificate ended on {_day(found.ends)}: the node has to join anew"
        last = self.seen.get(name, 0)
        if found.serial < last:
            return f"its proof is an old one (serial {found.serial}, {last} was seen): somebody replays it"
        self.seen[name] = found.serial
        return ""

    def forget(self, name: str) -> None:
        """That MeshNode is gone; its highest serial stays known."""
        self._checked.pop(name, None)

    def revocations(self, crl: bytes) -> str:
        """Take a list of the revoked (DER). Empty if it is in force now; else the reason to keep the one before."""
        from edgemesh.authority import read_crl

        read_list = read_crl(crl, self._certificates())
        if read_list is None:
            return "the list of the revoked is not signed by the cluster's CA"
        if read_list.number < self.crl_number:
            return f"the list of the revoked is an old one (number {read_list.number}, {self.crl_number} was seen)"
        self.crl_number, self._revoked = read_list.number, frozenset(read_list.revoked)
        return ""

    def _certificates(self) -> Sequence[x509.Certificate]:
        if self._authorities is None:
            from cryptography import x509

            try:
                self._authorities = x509.load_pem_x509_certificates(self._pem)
            except ValueError:
                raise ProofError("the CA's certificate (pki/ca.crt) can't be read: join anew") from None
        return self._authorities

    def _look(self, name: str, public_key: str, text: str) -> _Checked:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509 import load_der_x509_certificate

        from edgemesh.authority import issued_by, user

        def refuse(reason: str) -> _Checked:
            return _Checked(text, public_key, reason)

        try:
            proof = read(text)
            certificate = load_der_x509_certificate(proof.certificate)
            whose = user(certificate)
            key = certificate.public_key()
            ends = certificate.not_valid_after_utc.timestamp()
            raw_key = base64.b64decode(public_key, validate=True)
        except ProofError as error:
            return refuse(f"its proof can't be read: {error}")
        except Exception as error:  # whatever a certificate from the network makes the parser say
            return refuse(f"its proof's certificate can't be read: {type(error).__name__}")
        if not issued_by(certificate, self._certificates()):
            return refuse("its certificate is not of this cluster's CA")
        if whose != (node_user(name), (NODES,)):
            return refuse(f"its certificate is {whose.name or 'nobody'}'s, not that of node {name}")
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            return refuse("its certificate's key is not ECDSA P-256")
        if not _verifies(key, name, raw_key, proof):
            return refuse("its proof is for another key: the public key was exchanged on the way, or copied")
        return _Checked(text, public_key, "", proof.serial, certificate.serial_number, ends)


def own(state_dir: str, name: str, public_key: bytes, now: float) -> str:
    """This node's proof: the one in STATE/pki/proof while it fits name, key and certificate, else a new one.

    Empty if the node has not joined. Raises OSError where the file can't be written, ProofError for a torn key.
    """
    from edgemesh import files

    folder = os.path.join(state_dir, "pki")
    certificate, key = (files.read(os.path.join(folder, file)) for file in ("node.crt", "node.key"))
    if certificate is None or key is None:
        return ""
    path = os.path.join(folder, "proof")
    kept = (files.read(path) or b"").decode(errors="replace").strip()
    last = 0
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        held = x509.load_pem_x509_certificate(certificate)
        if kept:
            proof = read(kept)
            last = proof.serial
            fits = proof.certificate == held.public_bytes(Encoding.DER)
            if fits and _verifies(held.public_key(), name, public_key, proof):
                return kept
    except ValueError:
        raise ProofError(f"{folder}/node.crt is no certificate: join anew, or restore it") from None
    except ProofError:
        last = 0  # the time is above any serial of before
    serial = min(max(last + 1, int(now * 1000)), _MAX_SERIAL)
    try:
        text = make(name, public_key, serial, certificate, key)
    except (ValueError, TypeError):
        raise ProofError(f"{folder}/node.key is no private key: join anew, or restore it") from None
    files.replace(path, text.encode() + b"\n")
    return text


def _verifies(key: object, name: str, public_key: bytes, proof: Proof) -> bool:
    """Whether a signature holds; `key` is an EllipticCurvePublicKey."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        signature = encode_dss_signature(proof.r, proof.s)
        key.verify(signature, signed(name, public_key, proof.serial), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
