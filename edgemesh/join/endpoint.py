"""The join endpoint without HTTP: method, path, body and the asker's address in; code, headers and body out.

`handle` never raises on what is asked: rubbish is a Status of 400 and above. It keeps nothing that matters in memory:
each step is there or is made, so that whoever asks again after an interruption gets the same, and what is missing is
made up for. Of two that ask for one name at once the API lets one create its record.
"""

from __future__ import annotations

import base64
import binascii
import logging
import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edgemesh import token as tokens
from edgemesh.authority import Authority, AuthorityError, user, utc
from edgemesh.join import objects, record
from edgemesh.join.csr import CsrError, check
from edgemesh.join.limits import Limits
from edgemesh.join.messages import (
    GONE,
    MAX_BODY,
    MAX_SKEW,
    AuthorityAnswer,
    Cluster,
    JoinAnswer,
    JoinRequest,
    RenewAnswer,
    RenewRequest,
    renewal,
)
from edgemesh.join.objects import Object, Objects
from edgemesh.join.record import Record
from edgemesh.names import NODE_LABEL, NODE_NAME_RULE, NODE_USER, SIGNER, is_node_name
from edgemesh.proof import GRACE
from sync.api.status import (
    ApiError,
    GroupResource,
    bad_request,
    conflict,
    forbidden,
    no_such_path,
    too_large,
    too_many,
    unavailable,
)
from sync.client.connection import ApiStatus, ApiUnreachable
from sync.resources.kinds import ZONE

log = logging.getLogger("edgemesh.join")

_NODE = GroupResource("", "nodes")
_TRIES = 4
T = TypeVar("T")


class Answer(NamedTuple):
    """JSON."""

    code: int
    body: bytes
    headers: dict[str, str]


class Endpoint:
    """`grace` is in seconds past a certificate's end that it may still be renewed.

    With `nodes` a Node is made for each that has none; a cluster with kubelets has them do it. `api_ca` is whom the
    API's own certificate is of (PEM; see JoinAnswer), where that is not the authority.
    """

    def __init__(
        self,
        authority: Authority,
        api: Objects,
        *,
        grace: float = GRACE,
        nodes: bool = True,
        api_ca: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authority = authority
        self._api = api
        self._grace = grace
        self._nodes = nodes
        self._api_ca = api_ca
        self._clock = clock
        self._limits = Limits()

    async def handle(self, method: str, path: str, body: bytes, address: str) -> Answer:
        """Answer one request; `address` is the asker's IP address."""
        try:
            return Answer(200, msgspec.json.encode(await self._answer(method, path, body, address)), {})
        except ApiError as error:
            seconds = error.details.get("retryAfterSeconds")
            return Answer(
                error.code, msgspec.json.encode(error.status()), {"Retry-After": str(seconds)} if seconds else {}
            )

    async def _answer(self, method: str, path: str, body: bytes, address: str) -> msgspec.Struct:
        if (method, path) == ("GET", "/ca"):
            return AuthorityAnswer(self._authority.pem.decode(), self._clock())
        if path not in ("/join", "/renew"):
            raise no_such_path()
        if method != "POST":
            raise ApiError(405, "MethodNotAllowed", f"{path} takes POST only")
        if wait := self._limits.take(address, self._clock()):
            raise too_many("too many requests from this address: wait a little", math.ceil(wait))
        if len(body) > MAX_BODY:
            raise too_large(MAX_BODY)
        try:
            if path == "/join":
                return await self._join(_decode(body, JoinRequest), address)
            return await self._renew(_decode(body, RenewRequest), address)
        except CsrError as error:
            raise bad_request(str(error)) from None
        except AuthorityError as error:
            log.error("nothing can be signed: %s", error)
            raise unavailable(f"the cloud can't sign: {error}", 60) from None
        except (ApiStatus, ApiUnreachable) as error:
            log.warning("%s from %s was not answered: the API: %s", path, address, error)
            raise unavailable("the cloud's API does not answer as it should: its log says why", 5) from None

    # joining

    async def _join(self, request: JoinRequest, address: str) -> JoinAnswer:
        name, now = request.node_name, utc(self._clock())
        if not is_node_name(name):
            raise bad_request(f"{name!r} can't be a node's name: {NODE_NAME_RULE}")
        csr = check(request.csr, name)
        token = await self._token(request.token, name, now)
        cluster = _cluster(await objects.find(self._api, objects.CLUSTER))
        pem, new = await self._certificate(name, csr, now)
        await self._show(name, request.csr, pem, f"joined with the token {token.id}")
        if self._nodes:
            await self._node(name, request.zone)
        if new:
            log.info("node %s joined from %s with the token %s", name, address, token.id)
        return JoinAnswer(pem.decode(), self._authority.pem.decode(), cluster, self._api_ca)

    async def _token(self, text: str, name: str, now: datetime) -> tokens.Kept:
        try:
            token = tokens.read(text)
        except tokens.TokenError as error:
            raise bad_request(str(error)) from None
        secret = await objects.find(self._api, f"{objects.SECRETS}/{tokens.PREFIX}{token.id}")
        kept = tokens.kept(secret)
        why = kept.refuses(token.secret, name, now) if kept else tokens.UNKNOWN
        if kept is None or why:
            raise ApiError(401, "Unauthorized", why)
        return kept

    async def _certificate(self, name: str, csr: x509.CertificateSigningRequest, now: datetime) -> tuple[bytes, bool]:
        """The name's certificate, and whether it is new. Raises ApiError where another key has the name."""
        for _ in range(_TRIES):
            known = await self._record(name)
            if known and known.parsed().public_key() != csr.public_key():
                raise conflict(
                    _NODE, name, "another machine has this name: take another one, or, if that machine is gone or has "
                    f"lost its key, run 'edgemesh node delete {name}' first"
                )  # fmt: skip
            if known and self._authority.issued(known.parsed()) and record.fresh(known.parsed(), now):
                return known.certificate.encode(), False
            pem = self._authority.sign_node(csr, name, now)
            if await self._keep(known, name, pem, now):
                return pem, True
        raise unavailable(f"others write the record of {name} too: try again", 1)

    async def _record(self, name: str) -> Record | None:
        found = await objects.find(self._api, record.path(name))
        if found is None:
            return None
        known = record.read(found)
        if known is None:
            log.error("the ConfigMap %s%s is broken: %s can't join", record.PREFIX, name, name)
            raise ApiError(409, "Conflict", f"the cloud's record of {name} is broken: 'edgemesh node delete {name}'")
        if known.deleted:
            raise unavailable(f"{name} is just being deleted: try again", 2)
        return known

    async def _keep(self, known: Record | None, name: str, pem: bytes, now: datetime) -> bool:
        """Write the record, before the certificate is given out. False if somebody else was faster."""
        obj = (known or Record(name, "", {})).with_certificate(pem, now).object()
        try:
            if known:
                await self._api.update(record.path(name), obj)
            else:
                await self._api.create(objects.CONFIG_MAPS, obj)
        except ApiStatus as error:
            if error.code != 409:
                raise
            return False
        return True

    async def _show(self, name: str, csr: str, pem: bytes, why: str) -> None:
        """Leave a CertificateSigningRequest, approved and with its certificate, for `kubectl get csr`."""
        serial = x509.load_pem_x509_certificate(pem).serial_number
        obj = _request(f"edgemesh-{name}-{serial:040x}"[: len(name) + 20], name, csr)
        path = f"{objects.REQUESTS}/{obj['metadata']['name']}"
        try:
            found = await self._api.create(objects.REQUESTS, obj)
        except ApiStatus as error:
            if error.code != 409:
                raise
            found = await self._api.get(path)
        status = found.get("status") or {}
        if not status.get("conditions"):
            approved = {"type": "Approved", "status": "True", "reason": "EdgeMeshJoin", "message": why}
            found = await self._api.update(f"{path}/approval", {**found, "status": {"conditions": [approved]}})
        if not status.get("certificate"):
            status = {**(found.get("status") or {}), "certificate": base64.b64encode(pem).decode()}
            await self._api.update(f"{path}/status", {**found, "status": status})

    async def _node(self, name: str, zone: str) -> None:
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"} | ({ZONE: zone} if zone else {})
        found = await objects.find(self._api, f"{objects.NODES}/{name}")
        if found is None:
            obj = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
            try:
                await self._api.create(objects.NODES, obj)
            except ApiStatus as error:
                if error.code != 409:
                    raise
        elif zone and ZONE not in (found["metadata"].get("labels") or {}):
            await self._api.patch(f"{objects.NODES}/{name}", {"metadata": {"labels": {ZONE: zone}}})

    # renewal

    async def _renew(self, request: RenewRequest, address: str) -> RenewAnswer:
        now = utc(self._clock())
        name = self._renewing(request)
        csr = check(request.csr, name)
        held = _certificate(request.certificate)
        if csr.public_key() != held.public_key():
            raise bad_request("a renewal keeps the key: the certificate request is for another one")
        if abs(request.time - self._clock()) > MAX_SKEW:
            raise bad_request(
                f"the node's clock says {_time(request.time)}, the cloud's {_time(self._clock())}: set it"
            )
        known = await self._record(name)
        if known is None or held.serial_number not in known.issued or held.public_key() != known.parsed().public_key():
            raise ApiError(GONE, "Gone", f"node {name} was deleted: it has to join anew, with a token")
        ended = (now - held.not_valid_after_utc).total_seconds()
        if ended > self._grace:
            raise forbidden(
                _NODE, name, f"its certificate ended {ended / 86400:.0f} days ago, which is past the grace of "
                f"{self._grace / 86400:.0f}: run 'edgemesh node delete {name}', then join anew"
            )  # fmt: skip
        pem, new = await self._certificate(name, csr, now)
        await self._show(name, request.csr, pem, "renewed with its certificate")
        if new:
            log.info("node %s has a new certificate, asked for from %s", name, address)
        return RenewAnswer(pem.decode(), self._authority.pem.decode())

    def _renewing(self, request: RenewRequest) -> str:
        """The node that asks, its key proven. Raises ApiError."""
        held = _certificate(request.certificate)
        key, whose = held.public_key(), user(held)
        name = whose.name.removeprefix(NODE_USER)
        if not self._authority.issued(held) or whose.name == name or not is_node_name(name):
            raise ApiError(401, "Unauthorized", "the certificate is not one of a node of this cluster")
        try:
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise InvalidSignature
            signature = base64.b64decode(request.signature, validate=True)
            key.verify(signature, renewal(request.csr, request.time), ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, binascii.Error, ValueError):
            raise ApiError(401, "Unauthorized", "the signature is not that of the certificate's key") from None
        return name


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"the body is not what is asked for: {error}") from None


def _certificate(pem: str) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        certificate.public_key()
        user(certificate)
    except Exception as error:  # whatever bytes from the network make the parser say
        raise bad_request(f"the certificate can't be read ({type(error).__name__}): X.509 in PEM") from None
    return certificate


def _cluster(found: Object | None) -> Cluster:
    """What the ConfigMap says. Raises ApiError where it is not there yet."""
    data: dict[str, Any] = dict((found or {}).get("data") or {})
    data["relays"] = [text.strip() for text in data.get("relays", "").split(",") if text.strip()]
    try:
        return msgspec.convert(data, Cluster)
    except msgspec.ValidationError:
        raise unavailable(
            "the cloud is not ready: its ConfigMap edgemesh-system/edgemesh is not there yet", 2
        ) from None


def _request(name: str, node: str, csr: str) -> Object:
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name, "labels": {NODE_LABEL: node}},
        "spec": {
            "request": base64.b64encode(csr.encode()).decode(),
            "signerName": SIGNER,
            "usages": ["digital signature", "client auth"],
        },
    }


def _time(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "no time at all"
