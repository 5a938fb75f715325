"""A node's certificate is renewed before it ends: at 70 to 90 % of its life, each node at a time of its own.

The key stays; the new certificate replaces the old one in one step, and the API's client reads it for its next
connection. A node that was away past its certificate's end renews all the same, within the cloud's grace, since the
request is signed by its key and needs no certificate that is still good. `due` and `retry` are pure.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from pathlib import Path

import trio

from edgemesh import files
from edgemesh.join.messages import Cluster, RenewAnswer, RenewRequest, renewal

EARLIEST, LATEST = 0.7, 0.9
"""Of a certificate's life."""
BEGIN_AFTER = 5.0
"""Seconds after the agent's start: what it imports is not paid for by the first call."""
LOOK_AGAIN = 3600.0
"""Seconds: no sleep is longer, since a clock may be set."""
TIMEOUT = 30.0
"""Seconds, for each answer."""
FIRST_RETRY, LAST_RETRY = 60.0, 3600.0

log = logging.getLogger("edgemesh.renewal")


class RenewalError(Exception):
    """The certificate was not renewed; the message says why. `code` is the cloud's HTTP status, 0 without an answer."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


def due(begins: float, ends: float, name: str, serial: int) -> float:
    """When to renew: always the same for one certificate, spread over nodes. All in seconds since the epoch."""
    digest = hashlib.sha256(f"{name}/{serial:x}".encode()).digest()
    part = EARLIEST + (LATEST - EARLIEST) * int.from_bytes(digest[:4]) / 2**32
    return begins + (ends - begins) * part


def retry(failures: int) -> float:
    """Seconds until the next attempt after so many that failed in a row (1 and more)."""
    return min(FIRST_RETRY * 2.0 ** min(failures - 1, 16), LAST_RETRY)


class Renewal:
    """The task of an agent. `problem` is why the last attempt failed, empty if it did not."""

    def __init__(self, state_dir: str, name: str) -> None:
        self._pki = Path(state_dir, "pki")
        self._name = name
        self.problem = ""
        self._looked = False
        self._retry_at = 0.0
        self.renewed = trio.Event()
        """Set at the next renewal, and then another one."""

    @property
    def problems(self) -> list[str]:
        """For the status."""
        if not self.problem:
            return []
        return [f"the certificate is not renewed: {self.problem}; tried again at {self._clock()}"]

    @property
    def advice(self) -> str:
        """What is done, or to be done, about a certificate that the API does not take; empty while that is unknown."""
        if not self._looked:
            return ""
        if self.problem:
            return f"its renewal is tried again at {self._clock()}"
        return "if this node was deleted, run 'edgemesh join' with a new token"

    async def run(self) -> None:
        """Renew until cancelled; a node that has not joined has nothing to renew."""
        if not (self._pki / "node.crt").exists():
            self._looked = True
            return
        await trio.sleep(BEGIN_AFTER)
        failures = 0
        while True:
            try:
                wait = await self._when() - time.time()
                if wait <= 0:
                    await self._renew()
                    wait = LOOK_AGAIN
                    self.renewed.set()
                    self.renewed = trio.Event()
                self.problem, failures = "", 0
            except (RenewalError, OSError) as error:
                failures += 1
                why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
                if why != self.problem:
                    log.warning("the certificate is not renewed: %s", why)
                self.problem, wait = why, retry(failures)
                self._retry_at = time.time() + wait
            self._looked = True
            await trio.sleep(min(wait, LOOK_AGAIN))

    def _clock(self) -> str:
        return time.strftime("%H:%M:%S UTC", time.gmtime(self._retry_at))

    async def _when(self) -> float:
        return await trio.to_thread.run_sync(_when, self._pki, self._name)  # x509 is slow to import

    async def _renew(self) -> None:
        await renew(self._pki, self._name)
        log.info("the certificate is renewed")


async def renew(pki: Path, name: str, seconds: float = TIMEOUT) -> None:
    """Ask for a new certificate, and keep it; one that is not due yet is given again. Raises RenewalError, OSError."""
    url, ca, request = await trio.to_thread.run_sync(_request, pki, name, time.time())
    answer = await _post(url, ca, request, seconds)
    await trio.to_thread.run_sync(_keep, pki, name, answer, ca)


def _when(pki: Path, name: str) -> float:
    from cryptography import x509

    try:
        held = x509.load_pem_x509_certificate((pki / "node.crt").read_bytes())
    except ValueError:
        raise RenewalError(f"{pki / 'node.crt'} is no certificate: restore it, or join anew") from None
    return due(held.not_valid_before_utc.timestamp(), held.not_valid_after_utc.timestamp(), name, held.serial_number)


def _request(pki: Path, name: str, now: float) -> tuple[str, str, RenewRequest]:
    """The join URL, the CA in PEM, and a renewal's request."""
    import msgspec
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    from edgemesh.join import csr, trust

    try:
        key = csr.read_key((pki / "node.key").read_bytes())
        cluster = msgspec.json.decode((pki / "cluster.json").read_bytes(), type=Cluster)
        ca, certificate = (pki / "ca.crt").read_text(), (pki / "node.crt").read_text()
    except (csr.CsrError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RenewalError(f"{pki} is damaged ({error}): restore it, or join anew") from None
    if not trust.is_join_url(cluster.join):
        raise RenewalError(
            f"{pki / 'cluster.json'}: {cluster.join!r} is no join URL, such as https://cloud.example:10002"
        )
    text = csr.make(key, name)
    signature = key.sign(renewal(text, now), ec.ECDSA(hashes.SHA256()))
    return cluster.join, ca, RenewRequest(certificate, text, now, base64.b64encode(signature).decode())


async def _post(url: str, ca: str, request: RenewRequest, seconds: float) -> RenewAnswer:
    import msgspec

    from sync.client.connection import Api, ApiStatus, ApiUnreachable
    from sync.client.kubeconfig import Access

    try:
        async with Api(Access(server=url.rstrip("/"), ca=ca), request_timeout=seconds) as api:
            body = await api.request("POST", "/renew", body=msgspec.json.encode(request))
            return msgspec.json.decode(body, type=RenewAnswer)
    except ApiStatus as error:
        raise RenewalError(f"the cloud refuses: {error.message}", error.code) from None
    except ApiUnreachable as error:
        raise RenewalError(str(error)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise RenewalError(f"{url} does not answer as a cloud does") from None


def _keep(pki: Path, name: str, answer: RenewAnswer, ca: str) -> None:
    from edgemesh.join import csr, trust

    try:
        trust.check_certificate(answer.certificate, name, csr.read_key((pki / "node.key").read_bytes()), ca)
    except (trust.JoinError, csr.CsrError) as error:
        raise RenewalError(f"the cloud's answer is not taken: {error}") from None
    if files.read(pki / "node.crt") != answer.certificate.encode():
        files.replace(pki / "node.crt", answer.certificate.encode(), 0o644)
