"""`edgemesh resolver`: the loop around the resolver, and all its sockets.

One thread, one epoll: datagrams and connections on the listening address, sockets towards upstreams, the Unix socket
of the agent. Nothing in it waits for anything but epoll; the table's file is written by a thread. It starts from that
file, before it knows of any agent, so imports are few: no trio, no dnslib, no cryptography.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import socket
import time
from errno import EACCES, EADDRINUSE, EPERM
from pathlib import Path
from select import EPOLLIN
from typing import NamedTuple

import msgspec

from dns import tablefile
from dns.commands import Commands, Unavailable
from dns.control import Done, GetStatus, Message, Refused, Replace, Status, Update, UpstreamStatus
from dns.datagrams import Address, Datagrams
from dns.forward import Close, Reply, Send
from dns.loop import Loop
from dns.outbound import Outbound
from dns.resolvconf import LOOK_AGAIN, LOOK_SOON, ResolvConf
from dns.resolver import Resolver
from dns.tablefile import TableFile
from dns.tcp import Connection, TcpServer

RECEIVE_BUFFER = 1 << 20
"""Bytes asked for; the kernel gives what net.core.rmem_max allows."""
BACKLOG = 128
MAX_FAULTS = 5
"""Wrong names told in one refusal."""

log = logging.getLogger("edgemesh.resolver")


class Options(msgspec.Struct, frozen=True):
    """What `edgemesh resolver` can be told."""

    listen: str = "169.254.96.16"
    port: int = 53
    socket: Path = Path("/run/edgemesh/resolver.sock")
    table: Path = Path("/var/lib/edgemesh/dns.table")
    resolv_conf: Path = Path("/etc/resolv.conf")


class _UdpClient(NamedTuple):
    address: Address


class Server:
    """Everything that is open, put together; `run` until `stop`."""

    def __init__(self, options: Options) -> None:
        self.resolver = Resolver(os.urandom, self._look)
        self._options = options
        self._since = time.time()
        self._stopping = False
        self._loop = Loop()
        self._conf = ResolvConf(options.resolv_conf, {options.listen})
        self._looked = 0.0
        self._file = TableFile(options.table)
        self._outbound = Outbound(self._loop, self._received, self._failed)
        self._commands = Commands(self._loop, options.socket, self._handle)
        try:
            udp, tcp = bind(options.listen, options.port)
        except Unavailable:
            self._commands.close()
            self._loop.close()
            raise
        if kept := tablefile.load(options.table):
            self.resolver.replace(*kept)
        self._datagrams = Datagrams(udp)
        self._tcp = TcpServer(self._loop, tcp, self._ask_tcp)
        self._loop.watch(udp.fileno(), EPOLLIN, self._ready_udp)

    def run(self) -> None:
        """Serve until `stop` has been called."""
        forwarder = self.resolver.forwarder
        while not self._stopping:
            due = [at for at in (forwarder.deadline(), self._file.due, self._tcp.deadline()) if at is not None]
            self._loop.turn(min(due) if due else None)
            now = self._loop.now
            if (deadline := forwarder.deadline()) is not None and deadline <= now:
                forwarder.advance(now)
                if forwarder.troubled:
                    self._look()
            self._act()
            self._tcp.advance(now)
            if self._file.due is not None and self._file.due <= now:
                self._file.advance(now, self._packed)

    def stop(self) -> None:
        """End `run` after this turn."""
        self._stopping = True

    def wake_by(self, number: int) -> None:
        """End when this descriptor becomes readable (a signal has come)."""
        self._loop.watch(number, EPOLLIN, lambda _: self.stop())

    def close(self) -> None:
        """Close everything; what is not on disk yet is written."""
        self._commands.close()
        self._tcp.close()
        self._outbound.close_all()
        self._datagrams.sock.close()
        self._file.finish(self._packed)
        self._loop.close()

    def _packed(self) -> bytes:
        table = self.resolver.table
        return tablefile.pack(table.zones.values(), table.names.values())

    def _ready_udp(self, _events: int) -> None:
        self._datagrams.serve(self.resolver, self._ask_udp)

    def _ask_udp(self, message: bytes, address: Address) -> bytes | None:
        return self.resolver.ask_udp(message, _UdpClient(address), self._loop.now)

    def _ask_tcp(self, message: bytes, connection: Connection) -> bytes | None:
        return self.resolver.ask_tcp(message, connection, self._loop.now)

    def _look(self) -> None:
        """See whether the upstreams are others now."""
        forwarder = self.resolver.forwarder
        wait = LOOK_SOON if forwarder.troubled else LOOK_AGAIN
        if self._looked and self._loop.now - self._looked < wait:
            return
        self._looked = self._loop.now
        forwarder.troubled = False
        before = self._conf.problem
        if (found := self._conf.look()) is not None:
            forwarder.upstreams.set(found)
            log.info("upstreams: %s", ", ".join(found) or "none")
        if self._conf.problem and self._conf.problem != before:
            log.warning("%s", self._conf.problem)

    def _act(self) -> None:
        """Do what the forwarder wants done."""
        while effects := self.resolver.forwarder.effects():
            for effect in effects:
                if isinstance(effect, Send):
                    self._outbound.send(effect)
                elif isinstance(effect, Close):
                    self._outbound.close(effect.attempt)
                else:
                    self._reply(effect)

    def _reply(self, reply: Reply) -> None:
        client = reply.client
        if isinstance(client, _UdpClient):
            self._datagrams.send(reply.message, client.address)
        elif isinstance(client, Connection):
            client.reply(reply.message)

    def _received(self, attempt: int, message: bytes) -> None:
        self.resolver.forwarder.received(attempt, message, self._loop.now)

    def _failed(self, attempt: int, reason: str) -> None:
        self.resolver.forwarder.failed(attempt, reason, self._loop.now)

    def _handle(self, message: Message) -> Message:
        """Do what the agent says."""
        if isinstance(message, GetStatus):
            return self._status()
        revision = self.resolver.table.revision
        if isinstance(message, Replace):
            faults = self.resolver.replace(message.zones, message.names)
        elif isinstance(message, Update):
            faults = self.resolver.update(message.changed, message.gone)
        else:
            return Refused(f"a {type(message).__name__} is no request")
        if self.resolver.table.revision != revision:
            self._file.changed(self._loop.now)
        if not faults:
            return Done()
        more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
        reason = "; ".join(faults[:MAX_FAULTS]) + more
        log.warning("names that were skipped: %s", reason)
        return Refused(reason)

    def _status(self) -> Status:
        self._look()
        resolver, forwarder = self.resolver, self.resolver.forwarder
        problems = [self._conf.problem]
        if self._file.problem:
            problems.append(f"{self._file.path} can't be written: {self._file.problem}")
        return Status(
            since=self._since,
            names=len(resolver.table.names),
            zones=len(resolver.table.zones),
            queries=resolver.queries,
            hits=resolver.hits,
            failures=forwarder.failures,
            cached=len(forwarder.cache),
            pending=len(forwarder),
            upstreams=tuple(
                UpstreamStatus(each.address, each.ok, each.error, each.latency, each.asked)
                for each in forwarder.upstreams.all
            ),
            problems=tuple(filter(None, problems)),
        )


def bind(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """The UDP and the TCP socket, even where no device has the address yet. Raises Unavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    tcp = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        for sock in (udp, tcp):
            # 15 is IP_FREEBIND, 78 IPV6_FREEBIND (linux/in.h, in6.h)
            level, option = (socket.IPPROTO_IPV6, 78) if family == socket.AF_INET6 else (socket.IPPROTO_IP, 15)
            sock.setsockopt(level, option, 1)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        for sock in (udp, tcp):
            sock.bind((host, port))
        tcp.listen(BACKLOG)
    except OSError as fault:
        udp.close()
        tcp.close()
        if fault.errno == EADDRINUSE:
            do = "another DNS server has it (ss -lunp shows which): end that, or set another address or port"
        elif fault.errno in (EACCES, EPERM):
            do = "this user may not bind it: run as root, or with CAP_NET_BIND_SERVICE"
        else:
            do = "set another address or port"
        raise Unavailable(f"{host} port {port} can't be bound ({fault.strerror or fault}): {do}") from None
    return udp, tcp


def run(options: Options) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    _more_descriptors()
    try:
        server = Server(options)
    except Unavailable as fault:
        log.error("%s", fault)
        return 1
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.wake_by(reading)
    log.info("answers on %s port %d, %d names", options.listen, options.port, len(server.resolver.table.names))
    # what is there stays: the collector need not look at it again
    gc.collect()
    gc.freeze()
    try:
        server.run()
    finally:
        server.close()
        signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)
    return 0


def _more_descriptors() -> None:
    """Each question in flight has a socket or a few: allow as many as may be had."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536) if most != resource.RLIM_INFINITY else 65536, most))
