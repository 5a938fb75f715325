"""CertificateSigningRequest, certificates.k8s.io/v1 (pkg/apis/certificates/validation)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from sync.api.status import Cause
from sync.api.validation.fields import duplicate, forbidden, invalid, not_supported, required
from sync.api.validation.metadata import metadata, metadata_update
from sync.api.validation.names import dns_label, dns_subdomain, path_segment

Json = Mapping[str, Any]

LEGACY = "kubernetes.io/legacy-unknown"
SHORTEST = 600
"""Seconds."""
USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)


def signing_request(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    meta, spec = obj["metadata"], obj["spec"]
    found = metadata(meta, namespaced=False, name_rule=path_segment)
    if wrong := _request_fault(spec.get("request") or ""):
        found.append(invalid("spec.request", spec.get("request"), wrong))
    usages = spec.get("usages") or ()
    if not usages:
        found.append(required("spec.usages"))
    for index, each in enumerate(usages):
        if each not in USAGES:
            found.append(not_supported(f"spec.usages[{index}]", each, USAGES))
        if each in usages[:index]:
            found.append(duplicate(f"spec.usages[{index}]", each))
    found += _signer(spec.get("signerName", ""))
    if spec.get("expirationSeconds", SHORTEST) < SHORTEST:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        found.append(invalid("spec.expirationSeconds", spec["expirationSeconds"], detail))
    found += _conditions(obj["status"].get("conditions") or ())
    if (certificate := obj["status"].get("certificate")) and (wrong := _certificate_fault(certificate)):
        found.append(invalid("status.certificate", "<certificate data>", wrong))
    return found + (_changes(obj, old, subresource) if old is not None else [])


def _request_fault(text: str) -> str:
    from cryptography import x509

    pem = base64.b64decode(text)
    if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        request = x509.load_pem_x509_csr(pem)
        return "" if request.is_signature_valid else "the signature is not the key's"
    except Exception as error:  # what a parser says of hostile bytes: any of a dozen types
        return f"is not a request for a certificate: {error}"


def _certificate_fault(text: str) -> str:
    from cryptography import x509

    pem = base64.b64decode(text)
    if b"-----BEGIN " not in pem:
        return "must contain at least one CERTIFICATE PEM block"
    try:
        x509.load_pem_x509_certificates(pem)
    except Exception as error:
        return f"is not a certificate: {error}"
    return ""


def _signer(name: str) -> list[Cause]:
    at = "spec.signerName"
    if not name:
        return [required(at)]
    if name == LEGACY:
        return [invalid(at, name, "the legacy signerName is not allowed via this API version")]
    domain, slash, path = name.partition("/")
    if not slash or not path:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid(at, name, detail)]
    found = []
    if domain.count(".") < 1 or dns_subdomain(domain):
        found.append(invalid(at, domain, "should be a domain with at least two segments separated by dots"))
    found += [
        invalid(at, part, message) for part in path.split(".") for message in (dns_label(part) if part else ["empty"])
    ]
    return found


def _conditions(conditions: Any) -> list[Cause]:
    at = "status.conditions"
    found: list[Cause] = []
    seen: set[str] = set()
    for index, each in enumerate(conditions):
        kind, status = each.get("type", ""), each.get("status", "")
        if not kind:
            found.append(required(f"{at}[{index}].type"))
        allowed = ("True",) if kind in ("Approved", "Denied", "Failed") else ("False", "True", "Unknown")
        if not status:
            found.append(required(f"{at}[{index}].status"))
        elif status not in allowed:
            found.append(not_supported(f"{at}[{index}].status", status, allowed))
        if {"Approved": "Denied", "Denied": "Approved"}.get(kind) in seen:
            found.append(invalid(at, kind, "Approved and Denied conditions are mutually exclusive"))
        if kind in seen:
            found.append(duplicate(f"{at}[{index}].type", kind))
        seen.add(kind)
    return found


def _changes(obj: Json, old: Json, subresource: str) -> list[Cause]:
    at = "status.conditions"
    found: list[Cause] = []
    for kind in ("Approved", "Denied", "Failed"):
        now, before = _of(obj, kind), _of(old, kind)
        if len(now) < len(before):
            found.append(forbidden(at, f'updates may not remove a condition of type "{kind}"'))
        elif subresource != "approval" and kind != "Failed":
            if len(now) > len(before):
                found.append(forbidden(at, f'updates may not add a condition of type "{kind}"'))
            elif now != before:
                found.append(forbidden(at, f'updates may not modify a condition of type "{kind}"'))
    certificate = old["status"].get("certificate")
    if obj["status"].get("certificate") != certificate:
        if subresource != "status":
            found.append(forbidden("status.certificate", "updates may not set certificate content"))
        elif certificate:
            found.append(forbidden("status.certificate", "updates may not modify existing certificate content"))
    return found + metadata_update(obj["metadata"], old["metadata"])


def _of(obj: Json, kind: str) -> list[Any]:
    return [each for each in obj["status"].get("conditions") or () if each.get("type") == kind]
