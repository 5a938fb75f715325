"""The package's face: services in, the kernel's rules out.

Level-triggered: `Proxy` holds what should be, and its calls bring the kernel there. A call that fails leaves what
should be in memory and what is in the kernel working as before; the next call writes everything anew beside it and
switches. So does a start: the table of a process that ended goes on serving until one transaction replaces it, and
connections, which the kernel remembers apart from the table, go on through all of this.

The kernel belongs to others too: `nft flush ruleset` is how many a firewall begins its reload. `intact` finds that out
by the ruleset's generation, one short question, and looks at the table only when that has moved.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from . import conntrack
from .address import LayoutError, Prefix
from .change import Contents
from .layout import TABLE, generation_of
from .netlink import Netfilter, NetlinkError
from .nft import Kernel, KernelError, TooLargeError
from .service import Backend, NodeNetwork, Policy, Protocol, ServicePort

log = logging.getLogger(__name__)


class ProxyError(Exception):
    """The kernel isn't as it should be: what failed, where, what to do next. Calling again repairs."""


class ProxyStatus(msgspec.Struct, frozen=True):
    """How it stands: service ports and endpoints that should be, the error that keeps the kernel from it, if any,
    and since when (seconds of the Unix clock) there has been this error, or none."""

    services: int
    backends: int
    error: str | None
    since: float


class Proxy:
    """The service proxy of this network namespace. Nothing is done before the first call."""

    def __init__(self, network: NodeNetwork) -> None:
        self._network = network
        self._services: dict[str, ServicePort] = {}
        self._netfilter: Netfilter | None = None
        self._contents: Contents | None = None
        self._wanted = False
        self._generation = b""
        self._mark: tuple[bytes, ...] = ()
        self._error: str | None = None
        self._since = time.time()

    def apply(self, services: Mapping[str, ServicePort]) -> None:
        """Make `services`, by name, all that there is. Raises ProxyError."""
        self._services = dict(services)
        self._run(self._write_all)

    def update(self, changed: Iterable[ServicePort], gone: Iterable[str]) -> None:
        """Bring services in or up to date, drop others by name, in one transaction. Raises ProxyError."""
        changed, gone = list(changed), list(gone)
        for name in gone:
            self._services.pop(name, None)
        self._services.update((service.name, service) for service in changed)
        self._run(lambda: self._write_changes(changed, gone))

    def set_network(self, network: NodeNetwork) -> None:
        """The node's addresses or ranges changed. Raises ProxyError."""
        if network != self._network:
            self._network = network
            if self._contents or self._error:
                self._run(self._write_all)

    def intact(self) -> bool:
        """Whether the kernel has what was written: no call failed, and nobody else has taken rules away since.

        Takes some 20 µs, some 200 after a change of anybody's. When it says no, the next call writes everything anew.
        """
        if self._contents is None:
            return not self._wanted
        try:
            kernel = Kernel(self._opened())
            generation = kernel.generation()
            if generation == self._generation:
                return True
            if kernel.mark() == self._mark:
                self._generation = generation
                return True
            why = "rules or chains of it are gone"
        except (KernelError, OSError) as error:
            self.close()
            why = str(error)
        log.warning("nftables table %s is not as it was left (%s): writing it anew", TABLE, why)
        self._contents = None
        return False

    def status(self) -> ProxyStatus:
        """How it stands, without asking the kernel."""
        backends = sum(len(service.backends) for service in self._services.values())
        return ProxyStatus(len(self._services), backends, self._error, self._since)

    def close(self) -> None:
        """Let go of the kernel's socket; what is in the kernel stays and serves."""
        if self._netfilter:
            self._netfilter.close()
            self._netfilter = None

    def remove(self) -> None:
        """Drop the table: services are reached no more. Raises ProxyError."""
        self._services = {}
        self._run(self._drop_table)
        self._wanted = False

    def _run(self, work: Callable[[], None]) -> None:
        self._wanted = True
        try:
            work()
            if self._contents:
                self._mark = Kernel(self._opened()).mark()
        except (KernelError, NetlinkError, LayoutError, OSError) as error:
            self._contents = None
            self.close()  # the next call starts with a socket that has no answers left in it
            said = explain(error)
            if said != self._error:
                self._error, self._since = said, time.time()
            raise ProxyError(said) from error
        if self._error is not None:
            log.info("service rules are written again; the error was: %s", self._error)
            self._error, self._since = None, time.time()

    def _opened(self) -> Netfilter:
        if not self._netfilter:
            self._netfilter = Netfilter()
        return self._netfilter

    def _drop_table(self) -> None:
        Kernel(self._opened()).remove()
        self._contents = None

    def _write_all(self) -> None:
        """A new generation beside what is there, then a switch, then what was there goes."""
        netfilter = self._opened()
        kernel = Kernel(netfilter)
        self._contents = None
        kernel.make()
        there = [generation_of(name) or 0 for name in (*kernel.chains(), *kernel.sets())]
        contents = Contents(self._network, max(there, default=0) + 1)
        kernel.load(contents.load(self._services.values()))
        kernel.apply(contents.switch())
        kernel.load(contents.clean(kernel.chains(), kernel.sets()))
        self._contents = contents
        service_range = self._network.service_range
        present = contents.endpoints(conntrack.CLEANED)
        conntrack.clean(netfilter, present, Prefix.parse(service_range) if service_range else None)

    def _write_changes(self, changed: list[ServicePort], gone: list[str]) -> None:
        contents = self._contents
        if not contents:
            self._write_all()
            return
        netfilter = self._opened()
        change = contents.update(changed, gone)
        try:
            Kernel(netfilter).apply(change.operations)
        except TooLargeError:
            self._write_all()
        except KernelError as error:
            log.warning("the service rules are not as they were left (%s): writing them anew", error)
            self._write_all()
        else:
            conntrack.clean(netfilter, change.moved)


def explain(error: Exception) -> str:
    """What failed, where, and what to do next, in a sentence."""
    code = error.code if isinstance(error, KernelError | NetlinkError) else getattr(error, "errno", None)
    advice = _ADVICE.get(code or 0, "it is tried again with the next change")
    return f"service proxy (nftables table {TABLE}): {error}; {advice}"


_NO_NFTABLES = "this kernel has no usable nftables: load nf_tables, nft_nat and nf_conntrack, or use a newer kernel"
_ADVICE = {
    errno.EPERM: "run as root, or with CAP_NET_ADMIN in this network namespace",
    errno.EACCES: "run as root, or with CAP_NET_ADMIN in this network namespace",
    errno.EPROTONOSUPPORT: _NO_NFTABLES,
    errno.EAFNOSUPPORT: _NO_NFTABLES,
    errno.EOPNOTSUPP: _NO_NFTABLES,
    errno.ENOENT: _NO_NFTABLES,
    errno.ENOBUFS: "the kernel has no memory for it: free some, or have fewer services",
    errno.ENOMEM: "the kernel has no memory for it: free some, or have fewer services",
}


def probe() -> str | None:
    """Can services be translated here? Found out by doing, in a transaction that leaves nothing; a sentence if not."""
    endpoints = (Backend("192.0.2.1", 80), Backend("192.0.2.2", 80))
    one_of_each = [
        ServicePort("a", "192.0.2.10", Protocol.TCP, 1, endpoints),
        ServicePort("b", "192.0.2.10", Protocol.UDP, 2, endpoints, Policy.SOURCE_HASH),
        ServicePort("c", "192.0.2.10", Protocol.SCTP, 3, endpoints, Policy.ROUND_ROBIN),
        ServicePort("d", "192.0.2.10", Protocol.TCP, 4, endpoints, affinity=1),
        ServicePort("e", "192.0.2.10", Protocol.TCP, 5),
    ]
    contents = Contents(NodeNetwork("192.0.2.20", "192.0.2.128/25"), 1)
    operations = [*contents.load(one_of_each), *contents.switch()]
    try:
        netfilter = Netfilter()
        try:
            Kernel(netfilter, f"{TABLE}-probe").try_out(operations)
        finally:
            netfilter.close()
    except (KernelError, OSError) as error:
        return explain(error)
    return None
