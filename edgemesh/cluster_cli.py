"""The command line's part about the cluster: cloud, join, token, node. Imports what a subcommand needs when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgemesh.ranges import CLUSTER_DOMAIN, MESH_RANGE, POD_RANGE, SERVICE_RANGE

if TYPE_CHECKING:
    from datetime import datetime

    from sync.client.connection import Api

T = TypeVar("T")

CLOUD_STATE = Path("/var/lib/edgemesh-cloud")
ADMIN = CLOUD_STATE / "admin.kubeconfig"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands."""
    _add_cloud(commands)
    _add_join(commands)

    token = commands.add_parser("token", help="tokens that new nodes join by: create, list, revoke")
    actions = token.add_subparsers(required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a token, and print the command to run on the new node")
    create.add_argument("--node", default="", metavar="NAME", help="good for a node of this name only")
    create.add_argument("--ttl", default="24h", metavar="TIME", help="how long it is good: 24h (default), 30m, 7d")
    create.set_defaults(run=_token_create)
    actions.add_parser("list", help="the tokens that are good, without their secrets").set_defaults(run=_token_list)
    revoke = actions.add_parser("revoke", help="make a token useless; nodes that joined by it stay")
    revoke.add_argument("id", metavar="ID")
    revoke.set_defaults(run=_token_revoke)

    node = commands.add_parser("node", help="the cluster's nodes: list, delete")
    node_actions = node.add_subparsers(required=True, metavar="ACTION")
    node_actions.add_parser("list", help="all nodes, their keys and certificates").set_defaults(run=_node_list)
    delete = node_actions.add_parser("delete", help="cut a node off everywhere: its certificate and its objects")
    delete.add_argument("name", metavar="NAME")
    delete.set_defaults(run=_node_delete)

    for parsers in (actions, node_actions):
        for parser in parsers.choices.values():
            parser.add_argument(
                "--kubeconfig", type=Path, metavar="FILE", help=f"default $KUBECONFIG, or {ADMIN} if it is there"
            )


def _add_cloud(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    cloud = commands.add_parser("cloud", help="a Kubernetes API on one file, joining, and the mesh's controllers")
    cloud.add_argument("--state-dir", type=Path, default=CLOUD_STATE, metavar="DIR", help="default %(default)s")
    cloud.add_argument("--listen", default="0.0.0.0:6443", metavar="IP:PORT", help="the API (default %(default)s)")
    cloud.add_argument("--join-listen", default="0.0.0.0:10002", metavar="IP:PORT", help="default %(default)s")
    cloud.add_argument(
        "--advertise",
        action="append",
        default=[],
        metavar="HOST",
        help="where nodes reach this machine; repeatable, the first is told them (default: the host's name)",
    )
    cloud.add_argument(
        "--relay", action="append", default=[], metavar="HOST:PORT", help="a relay that nodes are told of; repeatable"
    )
    cloud.add_argument("--service-range", default=SERVICE_RANGE, metavar="CIDR", help="default %(default)s")
    cloud.add_argument("--pod-range", default=POD_RANGE, metavar="CIDR", help="a /24 a node (default %(default)s)")
    cloud.add_argument("--mesh-range", default=MESH_RANGE, metavar="CIDR", help="default %(default)s")
    cloud.add_argument("--cluster-domain", default=CLUSTER_DOMAIN, metavar="NAME", help="default %(default)s")
    cloud.add_argument("--node-grace", default="40s", metavar="TIME", help="until a silent node is lost: %(default)s")
    cloud.add_argument(
        "--renewal-grace",
        default="30d",
        metavar="TIME",
        help="past its certificate's end in which a node may still renew it: %(default)s",
    )
    there = cloud.add_argument_group("beside a cluster that is there: as its signer and controller, without an API")
    there.add_argument("--kubeconfig", type=Path, metavar="FILE", help="the cluster's, with the rights of deploy/rbac")
    there.add_argument(
        "--ca-cert",
        type=Path,
        metavar="FILE",
        help="with it: the CA whose clients that API believes (its --client-ca-file), /etc/kubernetes/pki/ca.crt",
    )
    there.add_argument("--ca-key", type=Path, metavar="FILE", help="its key, /etc/kubernetes/pki/ca.key")
    cloud.set_defaults(run=_cloud)


def _cloud(options: argparse.Namespace) -> int:
    from edgemesh.cloud.options import OptionError, read
    from edgemesh.cloud.role import CloudError, run

    try:
        run(read(options))
    except OptionError as error:
        return _fail(error, 2)
    except CloudError as error:
        return _fail(error)
    return 0


def _add_join(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    join = commands.add_parser("join", help="make this machine a node of a cluster")
    join.add_argument("url", nargs="?", default="", metavar="URL", help="the cloud's, such as https://192.0.2.1:10002")
    where = join.add_mutually_exclusive_group()
    where.add_argument("--token", metavar="T", help="as 'edgemesh token create' prints it (default: $EDGEMESH_TOKEN)")
    where.add_argument("--token-file", type=Path, metavar="FILE", help="a file with the token, '-' for standard input")
    join.add_argument("--node-name", metavar="NAME", help="this node's name (default: $NODE_NAME, or the host's)")
    join.add_argument("--zone", default="", metavar="ZONE", help="its site: topology.kubernetes.io/zone of its Node")
    join.add_argument("--relay", action="store_true", help="run a relay here, too: this machine has a public address")
    join.add_argument("--state-dir", type=Path, metavar="DIR", help="default /var/lib/edgemesh")
    join.add_argument("--config-dir", type=Path, metavar="DIR", help="default /etc/edgemesh/config")
    join.add_argument("--systemd-dir", type=Path, metavar="DIR", help="default /etc/systemd/system")
    join.add_argument("--no-systemd", action="store_true", help="write no systemd units")
    join.add_argument("--print", action="store_true", help="show the systemd units only: nothing is done")
    join.set_defaults(run=_join)


def _fail(message: object, status: int = 1) -> int:
    print(f"edgemesh: {message}", file=sys.stderr)
    return status


def _join(options: argparse.Namespace) -> int:
    import socket

    from edgemesh.join.files_of_node import Places
    from edgemesh.join.join import Wish, join, program
    from edgemesh.join.trust import JoinError
    from edgemesh.join.units import units

    given = {name: getattr(options, name) for name in ("state_dir", "config_dir", "systemd_dir")}
    places = Places(**{name: path.absolute() for name, path in given.items() if path})
    name = options.node_name or os.environ.get("NODE_NAME") or socket.gethostname().lower()
    try:
        if options.print:
            for unit in units(places, name, program(), relay=options.relay):
                print(f"# {unit.path}\n{unit.text}")
            return 0
        token = options.token or os.environ.get("EDGEMESH_TOKEN", "")
        if options.token_file:
            file = sys.stdin if str(options.token_file) == "-" else options.token_file.open()
            with file:
                token = file.read(4096).strip()
        wish = Wish(
            url=options.url,
            token=token,
            name=name,
            zone=options.zone,
            places=places,
            systemd=not options.no_systemd,
            relay=options.relay,
        )
        join(wish)
    except JoinError as error:
        return _fail(error)
    except (OSError, UnicodeDecodeError) as error:
        return _fail(f"the token in {options.token_file} can't be read: {error}", 2)
    return 0


def _with_api(options: argparse.Namespace, action: Callable[[Api], Awaitable[T]]) -> T | int:
    """Do something at the API; an exit status, after a message, where it failed."""
    import trio

    from edgemesh.nodes import CommandError
    from sync.client.connection import Api, ApiStatus, ApiUnreachable
    from sync.client.kubeconfig import KubeconfigError, load

    environment = os.environ.get("KUBECONFIG")
    path = options.kubeconfig or (Path(environment) if environment else ADMIN)
    if not options.kubeconfig and not environment and not ADMIN.exists():
        return _fail(f"which cluster? Give --kubeconfig, or set KUBECONFIG; on the cloud's machine it is {ADMIN}", 2)

    async def run() -> T:
        async with Api(load(path)) as api:
            return await action(api)

    try:
        return trio.run(run)
    except KubeconfigError as error:
        return _fail(error, 2)
    except ApiStatus as error:
        return _fail(f"the API refuses: {error.message}")
    except ApiUnreachable as error:
        return _fail(f"the API can't be reached: {error}")
    except CommandError as error:
        return _fail(error)


def _now() -> datetime:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def _token_create(options: argparse.Namespace) -> int:
    from edgemesh import nodes, token

    try:
        life = token.duration(options.ttl)
    except token.TokenError as error:
        return _fail(f"--ttl: {error}", 2)
    made = _with_api(options, lambda api: nodes.create_token(api, _now(), node=options.node, life=life))
    if isinstance(made, int):
        return made
    print(made.command)
    print(
        f"the token {made.id} is good until {token.spell(made.expires)}; run that as root on the node", file=sys.stderr
    )
    return 0


def _token_list(options: argparse.Namespace) -> int:
    from edgemesh import nodes, token

    found = _with_api(options, lambda api: nodes.list_tokens(api, _now()))
    if isinstance(found, int):
        return found
    _table(("ID", "NODE", "EXPIRES"), [(each.id, each.node or "any", token.spell(each.expires)) for each in found])
    return 0


def _token_revoke(options: argparse.Namespace) -> int:
    from edgemesh import nodes

    done = _with_api(options, lambda api: nodes.revoke_token(api, options.id))
    if isinstance(done, int):
        return done
    print(f"token {options.id.partition('.')[0]} revoked")
    return 0


def _node_list(options: argparse.Namespace) -> int:
    from edgemesh import nodes

    found = _with_api(options, nodes.list_nodes)
    if isinstance(found, int):
        return found
    _table(
        ("NAME", "STATUS", "ZONE", "ADDRESS", "CERTIFICATE UNTIL", "KEY"),
        [
            (
                *(each.name, each.ready or "-", each.zone or "-", each.address or "-"),
                *(f"{each.ends:%Y-%m-%d}" if each.ends else "-", each.key or "-"),
            )
            for each in found
        ],
    )
    return 0


def _node_delete(options: argparse.Namespace) -> int:
    from edgemesh import nodes

    done = _with_api(options, lambda api: nodes.delete_node(api, options.name))
    if isinstance(done, int):
        return done
    print(f"{options.name}: {', '.join(done)}")
    return 0


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
