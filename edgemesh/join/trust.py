"""How a node knows the cloud: by the hash of its authority's key, which the token has (a pin, as in RFC 7469).

The authority's certificate is fetched from a server that nobody vouches for yet, and trusted if its key has the hash.
From then on every connection is checked against it.
"""

from __future__ import annotations

import http.client
import ssl
import time
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from edgemesh.authority import is_authority, issued_by, pin, user
from edgemesh.join.messages import MAX_ANSWER, AuthorityAnswer
from edgemesh.names import NODES, node_user

TIMEOUT = 10.0
"""Seconds for each answer."""


class JoinError(Exception):
    """The machine could not join; the message says what failed, and what to do next."""


def is_join_url(url: str) -> bool:
    """Whether it can be asked at all: HTTPS, a host, and a port that is one."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def fetch(url: str) -> AuthorityAnswer:
    """Ask an unknown cloud for its certificate. Raises JoinError."""
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the pin is the check
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=TIMEOUT, context=context)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/ca")
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER)
        if answer.status != 200:
            raise JoinError(f"{url} answers {answer.status}: is that the cloud's join URL?")
        return msgspec.json.decode(body, type=AuthorityAnswer)
    except (OSError, http.client.HTTPException) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise JoinError(f"{url} can't be reached: {why}: is the URL right, and the way to it open?") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise JoinError(f"{url} does not answer as a cloud does: is that its join URL?") from None
    finally:
        connection.close()


def pinned(answer: AuthorityAnswer, wanted: str) -> str:
    """The authority with the wanted pin, PEM. Raises JoinError."""
    try:
        found = x509.load_pem_x509_certificates(answer.ca.encode())
        for certificate in found:
            if pin(certificate) == wanted and is_authority(certificate):
                return certificate.public_bytes(Encoding.PEM).decode()
    except Exception:  # whatever bytes from the network make the parser say
        raise JoinError("the cloud's CA certificate can't be read: is that its join URL?") from None
    raise JoinError(
        "this is not the cloud that the token is from: its CA has another key. Either somebody stands between, or the "
        "token is another cloud's, or the cloud was set up anew: make a token there with 'edgemesh token create'"
    )


def pins(ca: str) -> frozenset[str]:
    """The pins of the authorities that a node holds, PEM. Raises JoinError."""
    try:
        return frozenset(pin(each) for each in x509.load_pem_x509_certificates(ca.encode()))
    except ValueError:
        raise JoinError("the CA's certificate that this machine holds can't be read") from None


def check_certificate(pem: str, name: str, key: ec.EllipticCurvePrivateKey, ca: str) -> x509.Certificate:
    """A node's certificate that fits name, key and authority. Raises JoinError; dates are `check_clock`'s."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        whose, public_key = user(certificate), certificate.public_key()
        authorities = x509.load_pem_x509_certificates(ca.encode())
    except Exception as error:  # whatever bytes from the network make the parser say
        raise JoinError(f"the certificate can't be read ({type(error).__name__})") from None
    if not issued_by(certificate, authorities):
        raise JoinError("the certificate is not of the cluster's CA")
    if whose != (node_user(name), (NODES,)):
        raise JoinError(f"the certificate is {whose.name or 'nobody'}'s, and this node is {name}")
    if public_key != key.public_key():
        raise JoinError("the certificate is for another key than this node has")
    return certificate


def check_clock(certificate: x509.Certificate, now: datetime, cloud: float) -> None:
    """Raise JoinError where this machine's clock is outside a new certificate's time; `cloud` is the cloud's clock."""
    if not certificate.not_valid_before_utc - timedelta(seconds=1) <= now <= certificate.not_valid_after_utc:
        raise JoinError(clocks(now, cloud))


def clocks(now: datetime, cloud: float) -> str:
    """What is wrong, with both clocks."""
    theirs = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(max(cloud, 0), 2**36)))
    ours = now.strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"the clock of this machine says {ours}, the cloud's {theirs}: set the one that is wrong, and run this again"
