"""What to say of a client's credentials where an API does not take them.

There are three ways that shows: an alert of TLS, an answer of 401, and a connection that is closed without a word: in
TLS 1.3 a server judges the client's certificate when the client's handshake is over, and not all send the alert. Then
one's own certificate's end is what can be known.

Source: RFC 8446, 4.4.2.4 and 6.2 (alerts about certificates).
"""

from __future__ import annotations

import ssl
import time

from sync.client.kubeconfig import Access

_ALERTS = (
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_REQUIRED",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
)
"""As the ends of OpenSSL's names."""


def alert(error: ssl.SSLError) -> str:
    """What a server says against the client's certificate ("certificate expired"); empty for any other error."""
    reason = error.reason or ""
    found = [text for text in _ALERTS if reason.endswith(f"ALERT_{text}")]
    return found[0].replace("_", " ").lower().replace(" ca", " authority") if found else ""


def ends(access: Access) -> float | None:
    """When the client's certificate ends (Unix seconds); None without one. The first call imports x509: slow."""
    from cryptography import x509

    try:
        text = access.certificate_pem.encode()
        if access.certificate:
            with open(access.certificate, "rb") as file:
                text = file.read(1 << 20)
        return x509.load_pem_x509_certificate(text).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return None


def ended(end: float | None) -> bool:
    """Whether the certificate is past its end."""
    return end is not None and end <= time.time()


def certificate(access: Access, end: float | None) -> str:
    """The client's certificate in words, with its end."""
    name = f"the client certificate {access.certificate or '(inline)'}"
    if end is None:
        return name
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(end))
    return f"{name}, which ended on {when}," if ended(end) else f"{name}, good until {when},"


def refused(access: Access, end: float | None) -> str:
    """What an answer of 401 means; empty where there are no credentials."""
    if access.certificate or access.certificate_pem:
        return f"{certificate(access, end)} is not accepted"
    if access.token_file:
        return f"the token in {access.token_file} is not accepted"
    return "the token (inline) is not accepted" if access.token else ""
