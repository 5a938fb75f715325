"""Names, labels, ports and addresses: what is wrong with a text, in apimachinery's words (`util/validation`).

Each function gives messages, none if the text is right.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from sync.api.status import Cause
from sync.api.validation.fields import invalid

LABEL_LENGTH = 63
SUBDOMAIN_LENGTH = 253

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"
_KEY = "[-._a-zA-Z0-9]+"

_ALPHANUMERIC = "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"

_matches = {pattern: re.compile(pattern) for pattern in (_LABEL, _SUBDOMAIN, _LABEL_1035, _QUALIFIED, _VALUE, _KEY)}

NameRule = Callable[[str], list[str]]


def dns_label(text: str) -> list[str]:
    """A lower-case RFC 1123 label."""
    found = _length(text, LABEL_LENGTH)
    if _matches[_LABEL].fullmatch(text):
        return found
    if _matches[_SUBDOMAIN].fullmatch(text):
        return [*found, "must not contain dots"]
    rule = (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
        "and must start and end with an alphanumeric character"
    )
    return [*found, _form(rule, _LABEL, "my-name", "123-abc")]


def dns_subdomain(text: str) -> list[str]:
    """A lower-case RFC 1123 subdomain."""
    found = _length(text, SUBDOMAIN_LENGTH)
    if _matches[_SUBDOMAIN].fullmatch(text):
        return found
    rule = (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
        "and must start and end with an alphanumeric character"
    )
    return [*found, _form(rule, _SUBDOMAIN, "example.com")]


def dns_1035_label(text: str) -> list[str]:
    """An RFC 1035 label: a service's name."""
    found = _length(text, LABEL_LENGTH)
    if _matches[_LABEL_1035].fullmatch(text):
        return found
    rule = (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
        "start with an alphabetic character, and end with an alphanumeric character"
    )
    return [*found, _form(rule, _LABEL_1035, "my-name", "abc-123")]


def path_segment(text: str) -> list[str]:
    """What a custom object or a request for a certificate may be called as a part of a URL."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in text]


def qualified_name(text: str) -> list[str]:
    """A label's or an annotation's key: NAME or PREFIX/NAME."""
    prefix, slash, name = text.rpartition("/")
    found = []
    if "/" in prefix:
        rule = _form(f"a qualified name must consist of {_ALPHANUMERIC}", _QUALIFIED, "MyName", "my.name", "123-abc")
        return [f"{rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    if slash:
        found += ["prefix part must be non-empty"] if not prefix else []
        found += [f"prefix part {message}" for message in dns_subdomain(prefix)] if prefix else []
    if not name:
        found.append("name part must be non-empty")
    elif _length(name, LABEL_LENGTH):
        found.append(f"name part {_length(name, LABEL_LENGTH)[0]}")
    if not _matches[_QUALIFIED].fullmatch(name):
        rule = _form(f"must consist of {_ALPHANUMERIC}", _QUALIFIED, "MyName", "my.name", "123-abc")
        found.append(f"name part {rule}")
    return found


def label_value(text: str) -> list[str]:
    found = _length(text, LABEL_LENGTH)
    if _matches[_VALUE].fullmatch(text):
        return found
    rule = f"a valid label must be an empty string or consist of {_ALPHANUMERIC}"
    return [*found, _form(rule, _VALUE, "MyValue", "my_value", "12345")]


def data_key(text: str) -> list[str]:
    """A key of a ConfigMap or a Secret: a file's name."""
    found = _length(text, SUBDOMAIN_LENGTH)
    if not _matches[_KEY].fullmatch(text):
        rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        found.append(_form(rule, _KEY, "key.name", "KEY_NAME", "key-name"))
    if text in (".", ".."):
        found.append(f"must not be '{text}'")
    elif text.startswith(".."):
        found.append("must not start with '..'")
    return found


def environment_name(text: str) -> list[str]:
    """An environment variable's name, as lenient as Kubernetes 1.34."""
    found = [] if text else ["environment variable name must be non-empty"]
    if any(not " " <= char <= "~" or char == "=" for char in text):
        found.append("a valid environment variable name must consist only of printable ASCII characters other than '='")
    return found


def port_number(number: int) -> list[str]:
    return [] if 0 < number < 65536 else [between(1, 65535)]


def port_name(text: str) -> list[str]:
    """An IANA service name: a container port's, a target port's."""
    found = _length(text, 15)
    if not re.fullmatch("[-a-z0-9]+", text):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        found.append("must not begin or end with a hyphen")
    return found


def between(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def address(path: str, text: str) -> list[Cause]:
    """An IP address as fields of old take it: leading zeros are let through."""
    if parse_address(text) is not None:
        return []
    return [invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if "%" in text:
        return None
    plain = re.sub(r"(^|\.)0+(?=\d)", r"\1", text) if ":" not in text else text
    try:
        return ipaddress.ip_address(plain)
    except ValueError:
        return None


def cidr(path: str, text: str) -> list[Cause]:
    host, slash, bits = text.partition("/")
    parsed = parse_address(host)
    if slash and parsed is not None and bits.isascii() and bits.isdigit() and int(bits[:4]) <= parsed.max_prefixlen:
        return []
    return [invalid(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]


def endpoint_address(path: str, text: str) -> list[Cause]:
    """No address of the host itself, of the link or of a group."""
    parsed = parse_address(text)
    if parsed is None:
        return []
    found = []
    if parsed.is_unspecified:
        found.append(invalid(path, text, f"may not be unspecified ({text})"))
    if parsed.is_loopback:
        found.append(invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if parsed.is_link_local:
        found.append(invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    if parsed in ipaddress.ip_network("224.0.0.0/24") or parsed in ipaddress.ip_network("ff02::/16"):
        found.append(invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))
    return found


def prefix_of(rule: NameRule) -> NameRule:
    """A `generateName` is right if a name can begin with it."""
    return lambda text: rule(f"{text[:-2]}a" if len(text) > 1 and text.endswith("-") else text)


def _length(text: str, limit: int) -> list[str]:
    return [f"must be no more than {limit} characters"] if len(text.encode()) > limit else []


def _form(rule: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{rule} (e.g. {shown}regex used for validation is '{pattern}')"
