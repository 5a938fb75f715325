"""A node's request for a certificate (PKCS #10, RFC 2986): made by the node, checked by the cloud."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgemesh.authority import user
from edgemesh.names import NODES, node_user


class CsrError(Exception):
    """The request can't be signed; the message says why and what would be right."""


def new_key() -> bytes:
    """A node's TLS key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises CsrError."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CsrError("it is no ECDSA P-256 key in PEM")
    return key


def make(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    """A request for a node, PEM."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, NODES),
            x509.NameAttribute(NameOID.COMMON_NAME, node_user(name)),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def check(pem: str, name: str) -> x509.CertificateSigningRequest:
    """A request that may be signed for this node. Raises CsrError."""
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        whose = user(request)
        holds = request.is_signature_valid
    except Exception as error:  # whatever bytes from the network make the parser say
        raise CsrError(f"the certificate request can't be read ({type(error).__name__}): PKCS #10 in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CsrError("the certificate request's key is not ECDSA P-256")
    if not holds:
        raise CsrError("the certificate request's signature is wrong: it has to be signed by its own key")
    if whose != (node_user(name), (NODES,)):
        wanted = f"O {NODES}, CN {node_user(name)}"
        raise CsrError(f"the certificate request is for {whose.name or 'nobody'}, not for this node: {wanted}")
    return request
