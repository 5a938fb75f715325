"""Which objects of an API are believed: a MeshNode only with a proof that its key is the node's.

The API is not the authority on keys, the cluster's CA is. So a MeshNode whose proof does not hold is left out, and
the one that was accepted before stays, as long as its own proof holds; a revoked one goes at once. The list of the
revoked is signed by the CA too: an older one, or none, in place of what was seen changes nothing. Everything else
passes as it is.

What a snapshot holds was vetted when it came, so a start does not wait for it. Whether a certificate has ended is the
clock's word, so what is refused is looked at again too: a clock that was wrong must not cost a site its peers. Where
this node's own copy of the CA can't be read nothing new is accepted, and nothing that was is dropped.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterable

from edgemesh.names import REVOKED_CONFIG, SYSTEM_NAMESPACE
from edgemesh.proof import ProofError, Verifier
from sync.client.manifests import Changes
from sync.client.wire import Followed
from sync.resources.kinds import ConfigMap, Key, MeshNode, Resource

REVOKED = Key("ConfigMap", SYSTEM_NAMESPACE, REVOKED_CONFIG)
FOLLOWED = Followed(ConfigMap, "configmaps", SYSTEM_NAMESPACE, f"metadata.name={REVOKED_CONFIG}")
"""The list of the revoked, as a kind to follow."""
LOOK_AGAIN = 600.0
"""Seconds after which what was accepted is looked at again, for certificates that ended."""

log = logging.getLogger(__name__)


class Vetting:
    """`known` are the objects of before, vetted then."""

    def __init__(self, verifier: Verifier, known: Iterable[Resource] = ()) -> None:
        self._verifier = verifier
        self._accepted: dict[str, MeshNode] = {}
        self._crl = ""
        self._untaken = ""  # a list of before, not read yet: that costs an import
        self._looked = 0.0
        self._waiting: dict[str, MeshNode] = {}  # what is refused at present
        self.refused: dict[str, str] = {}
        """Nodes whose MeshNode is refused, and why."""
        self.trouble = ""
        """What is wrong with the list of the revoked."""
        for resource in known:
            if isinstance(resource, MeshNode):
                self._accepted[resource.metadata.name] = resource
            elif isinstance(resource, ConfigMap) and resource.key == REVOKED:
                self._untaken = resource.data.get("crl", "")

    @property
    def serials(self) -> dict[str, int]:
        """The highest serial of each node seen, to be kept with the snapshot."""
        return self._verifier.seen

    @property
    def problems(self) -> list[str]:
        """What is refused at present."""
        refused = [f"MeshNode {name}: refused: {reason}" for name, reason in sorted(self.refused.items())]
        return [*refused, *([self.trouble] if self.trouble else [])]

    def take(self, changes: Changes, now: float) -> Changes:
        """The changes to believe; `now` in seconds since the epoch."""
        passed = Changes([], [])
        if self._untaken:
            self._revoke(self._untaken)
            self._untaken = ""
        news = False
        for resource in changes.changed:
            if isinstance(resource, ConfigMap) and resource.key == REVOKED and self._revoke(resource.data.get("crl")):
                passed.changed.append(resource)
                news = True
        if news or abs(now - self._looked) > LOOK_AGAIN:
            self._looked = now
            coming = {key.name for key in (*(each.key for each in changes.changed), *changes.gone)}
            self._look_again(coming, passed, now)
        for resource in changes.changed:
            if isinstance(resource, MeshNode):
                self._meet(resource, passed, now)
            elif not isinstance(resource, ConfigMap):
                passed.changed.append(resource)
        for key in changes.gone:
            if key.kind == "MeshNode":
                for known in (self._accepted, self._waiting, self.refused):
                    known.pop(key.name, None)
                self._verifier.forget(key.name)
            if key == REVOKED:
                self._trouble("the API has it no more")
            else:
                passed.gone.append(key)
        return passed

    def _look_again(self, coming: set[str], passed: Changes, now: float) -> None:
        """Of those that are refused only what has not just come, or gone."""
        for name, node in list(self._accepted.items()):
            if reason := self._ended(node, now):
                self._drop(name, reason, passed)
        for name, node in list(self._waiting.items()):
            if name not in self._accepted and name not in coming:
                self._meet(node, passed, now)

    def _meet(self, node: MeshNode, passed: Changes, now: float) -> None:
        name = node.metadata.name
        try:
            reason = self._verifier.check(node, now)
        except ProofError as error:  # this node's own CA certificate
            reason = str(error)
        if not reason:
            if self.refused.pop(name, ""):
                log.info("MeshNode %s: accepted, its proof holds now", name)
            self._waiting.pop(name, None)
            self._accepted[name] = node
            passed.changed.append(node)
            return
        self._waiting[name] = node
        self._refuse(name, reason)
        before = self._accepted.get(name)
        if before is not None and (ended := self._ended(before, now)):
            self._drop(name, ended, passed)

    def _ended(self, node: MeshNode, now: float) -> str:
        """Why what was accepted is to go; empty if it stays."""
        try:
            return self._verifier.check(node, now)
        except ProofError:
            return ""

    def _drop(self, name: str, reason: str, passed: Changes) -> None:
        self._refuse(name, reason)
        node = self._accepted.pop(name)
        self._waiting.setdefault(name, node)
        passed.gone.append(node.key)

    def _refuse(self, name: str, reason: str) -> None:
        if self.refused.get(name) != reason:
            log.warning("MeshNode %s: refused: %s", name, reason)
        self.refused[name] = reason

    def _revoke(self, text: str | None) -> bool:
        """Bring a list of the revoked (base64 of DER) into effect; whether it is other than before."""
        if not text or text == self._crl:
            reason = "" if text else "there is none in it"
        else:
            try:
                reason = self._verifier.revocations(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError):
                reason = "it is not base64"
            except ProofError as error:
                reason = str(error)
        self._trouble(reason)
        if reason or text == self._crl:
            return False
        self._crl = text or ""
        return True

    def _trouble(self, reason: str) -> None:
        """What is wrong with the list that the API has; empty if nothing is."""
        trouble = f"{REVOKED}: {reason}: the list of before stays in force" if reason else ""
        if trouble and trouble != self.trouble:
            log.warning("%s", trouble)
        self.trouble = trouble
