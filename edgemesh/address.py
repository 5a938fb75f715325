"""A host, and a host with its port, as text: an IPv6 address stands in brackets (RFC 3986, section 3.2.2)."""


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def host_port(host: str, port: int) -> str:
    """As host:port or [v6]:port; `sync.resources.validate.split_host_port` reads it."""
    return f"{bracketed(host)}:{port}"
