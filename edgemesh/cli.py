"""The command line: one command, a role or a question each; imports what the subcommand needs and no more.

Start-up is a target (an agent answers its first call 400 ms after exec), so every role's modules are imported
by its own function here, after the arguments were read.

Exit status: 0 done, or healthy; 1 failed, or not healthy; 2 wrong arguments or configuration, or no agent to ask.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVarTuple

from edgemesh import cluster_cli

if TYPE_CHECKING:
    from edgemesh.config import Config, Notice
    from edgemesh.identity import Identity

Args = TypeVarTuple("Args")

CONFIG = Path("/etc/edgemesh/config/edgemesh-agent.yaml")
RELAY_LISTEN = "0.0.0.0:20006"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; `argv` without the program's name."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["demo"]:  # the demo has a command line of its own, and the program does not import it
        os.execv(sys.executable, [sys.executable, "-m", "e2e.demo", *words[1:]])
    if words[:1] == ["engine"]:  # so has the engine, which also runs without the program
        from tunnel.engine import engine

        return engine.main(words[1:])
    options = parser().parse_args(words)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """All subcommands; `run` of what was read is the function that does it."""
    top = argparse.ArgumentParser(
        prog="edgemesh", description="Any workload at any site calls any other by its Kubernetes name."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    agent = commands.add_parser("agent", help="run this node: follow objects, decide, apply")
    _config_option(agent)
    agent.add_argument(
        "--manifests", type=Path, metavar="DIR", help="directory of Kubernetes manifests to follow, in place of an API"
    )
    agent.add_argument("--node-name", metavar="NAME", help="this node's name (default: $NODE_NAME, or the host's)")
    agent.add_argument(
        "--print-meshnode",
        action="store_true",
        help="make this node's key and port where there are none, print its MeshNode manifest, and end",
    )
    agent.add_argument(
        "--mesh-address",
        metavar="IP",
        help="with --print-meshnode: its mesh address (default: computed from its name, in commonConfig.meshCIDR)",
    )
    agent.add_argument("--pod-range", default="", metavar="CIDR", help="with --print-meshnode: its pod range")
    agent.add_argument(
        "--lan-address",
        action="append",
        metavar="IP",
        help="with --print-meshnode: its address inside its own network; repeatable (default: found)",
    )
    agent.set_defaults(run=_agent)

    resolver = commands.add_parser("resolver", help="answer DNS questions for this node")
    _config_option(resolver)
    resolver.add_argument("--resolv-conf", type=Path, default=Path("/etc/resolv.conf"), metavar="FILE")
    resolver.set_defaults(run=_resolver)

    commands.add_parser("engine", help="run WireGuard in userspace, with a UAPI socket as `wg` expects")

    relay = commands.add_parser("relay", help="answer STUN and pass sealed packets on between nodes")
    relay.add_argument("--listen", default=RELAY_LISTEN, metavar="IP:PORT", help=f"default {RELAY_LISTEN}, UDP")
    source = relay.add_mutually_exclusive_group()
    source.add_argument(
        "--manifests",
        type=Path,
        metavar="DIR",
        help="directory with the MeshNode manifests of the nodes to admit; no others are",
    )
    source.add_argument(
        "--kubeconfig",
        type=Path,
        metavar="FILE",
        help="the API with the MeshNodes to admit, if their proofs hold (default: node.kubeconfig in --state-dir)",
    )
    relay.add_argument(
        "--state-dir",
        type=Path,
        default=Path("/var/lib/edgemesh"),
        metavar="DIR",
        help="where an API's nodes are kept, and where pki/ca.crt is, which proves them (default %(default)s)",
    )
    relay.set_defaults(run=_relay)

    status = commands.add_parser("status", help="show this node, its peers and paths, services, resolver")
    _config_option(status)
    status.add_argument("--json", action="store_true", help="one JSON document")
    status.set_defaults(run=_status)

    cluster_cli.add(commands)
    commands.add_parser("demo", help="see it all work, in a private bed on this machine: edgemesh demo --help")
    return top


def _config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help=f"EdgeMeshAgent configuration (default {CONFIG}; without that file, the defaults)",
    )


def _fail(message: object, status: int = 1) -> int:
    print(f"edgemesh: {message}", file=sys.stderr)
    return status


def _loop(expected: type[Exception], role: Callable[[*Args], Awaitable[None]], *args: *Args) -> int:
    """Run a role until it ends; an error of the expected kind is said in its own words, any other with its trace."""
    import trio

    try:
        trio.run(role, *args)
    except expected as error:
        return _fail(error)
    except BaseExceptionGroup as group:
        expected_ones, others = group.split(expected)
        if others or not expected_ones:
            raise
        first: BaseException = expected_ones
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        return _fail(first)
    return 0


def _config(options: argparse.Namespace) -> tuple[Config, list[Notice]]:
    """The configuration file named on the command line, or the usual one if there is one, or the defaults."""
    from edgemesh.config import load

    path = options.config_file or (CONFIG if CONFIG.exists() else None)
    name = getattr(options, "node_name", None)
    environ = {**os.environ, "NODE_NAME": name} if name else os.environ
    return load(str(path) if path else None, environ)


def _agent(options: argparse.Namespace) -> int:
    from edgemesh import identity
    from edgemesh.config import ConfigError

    try:
        config, notices = _config(options)
    except ConfigError as error:
        return _fail(error, 2)
    try:
        who = identity.load(config.state_dir)
    except identity.IdentityError as error:
        return _fail(error)
    if options.print_meshnode:
        return _print_meshnode(options, config, who)
    from edgemesh.agent import AgentError, run

    for notice in notices:
        logging.getLogger("edgemesh").warning("%s", notice)
    return _loop(AgentError, run, config, notices, who, options.manifests)


def _print_meshnode(options: argparse.Namespace, config: Config, who: Identity) -> int:
    from ipaddress import ip_address, ip_network

    from edgemesh.identity import lan_addresses, print_meshnode
    from sync.controllers.addresses import Claim, allocate
    from sync.resources.kinds import Key
    from tunnel.links import LinkError

    own = Key("MeshNode", "", config.node_name)
    try:
        mesh_address = options.mesh_address or allocate([Claim(own)], config.mesh_range).addresses[own]
        for text in (mesh_address, *(options.lan_address or ())):
            ip_address(text)
        if options.pod_range:
            ip_network(options.pod_range)
        found = options.lan_address or lan_addresses(config)
    except ValueError as error:
        return _fail(error, 2)
    except LinkError as error:
        return _fail(error)
    print(
        print_meshnode(
            config.node_name,
            who,
            addresses=found,
            relays=[f"{host}:{port}" for host, port in config.relay_addresses],
            mesh_addresses=[mesh_address],
            pod_ranges=[options.pod_range] if options.pod_range else [],
        ),
        end="",
    )
    return 0


def _resolver(options: argparse.Namespace) -> int:
    from dns.server import Options, run
    from edgemesh.config import ConfigError

    try:
        config, _ = _config(options)
    except ConfigError as error:
        return _fail(error, 2)
    listen, port = config.dns_listen
    return run(
        Options(
            listen=listen,
            port=port,
            socket=Path(config.resolver_socket),
            table=Path(config.table_file),
            resolv_conf=options.resolv_conf,
        )
    )


def _relay(options: argparse.Namespace) -> int:
    from ipaddress import ip_address

    from edgemesh.relay import run
    from sync.resources.validate import split_host_port
    from tunnel.endpoint import Address
    from tunnel.relay.forward import RelayError

    host, port = split_host_port(options.listen, 20006)
    try:
        ip_address(host)
    except ValueError:
        return _fail(f"--listen {options.listen}: an address and a port, such as {RELAY_LISTEN}", 2)
    if options.manifests:
        return _loop(RelayError, run, Address(host, port), options.manifests)
    from edgemesh.cluster import Location
    from sync.client.kubeconfig import KubeconfigError

    kubeconfig = options.kubeconfig or options.state_dir / "node.kubeconfig"
    if not (options.kubeconfig or kubeconfig.exists()):
        return _fail("say which nodes to admit: --manifests DIR, or --kubeconfig FILE", 2)
    where = Location(str(kubeconfig), "", str(options.state_dir.absolute()))
    try:
        where.authorities(where.access())
    except KubeconfigError as error:
        return _fail(error, 2)
    return _loop(RelayError, run, Address(host, port), where)


def _status(options: argparse.Namespace) -> int:
    import time

    from edgemesh import status
    from edgemesh.config import ConfigError

    try:
        config, _ = _config(options)
        answer = status.ask(Path(config.agent_socket))
    except ConfigError as error:
        return _fail(error, 2)
    except status.StatusError as error:
        return _fail(error, 2)
    if options.json:
        print(status.to_json(answer))
    else:
        status.show(answer, time.time())
    return 0 if answer.healthy else 1
