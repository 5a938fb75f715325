"""Two fixed node keys for tests."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KEYS = (bytes(range(32)), bytes(range(1, 33)))


def public(private: bytes) -> bytes:
    """The public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
