"""Whether this machine lets a bed be made: found out by making one, and said in a sentence with what to do.

Settings are read only to word the advice after something has failed, never to decide.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from e2e.lab.namespaces import Bed, BedError, environment

COMMANDS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
    "hostname": "hostname",
}
"""What the bed itself runs, and the Debian package that has it."""

TRY_TUN = """
import fcntl, os, struct, sys
try:
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"preflight", 0x5001))
except OSError as error:
    sys.exit(error.errno)
"""
"""Makes a TUN device with a virtio-net header (TUNSETIFF, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)."""

TRY_NFTABLES = """
table ip preflight {
    map m { type ipv4_addr . inet_service : ipv4_addr . inet_service; }
    chain c { type nat hook prerouting priority dstnat; dnat to ip daddr . tcp dport map @m; }
    chain d { type filter hook forward priority filter; ct state new accept; }
}
"""


def problem() -> str:
    """Why no bed can be made here and what to do, in a sentence; empty when all is well."""
    path = environment()["PATH"]
    if missing := sorted({COMMANDS[name] for name in COMMANDS if not shutil.which(name, path=path)}):
        return f"commands are missing: run 'apt-get install {' '.join(missing)}' as root."
    try:
        with Bed() as bed:
            host = bed.host("preflight", disk=True)
            return _without_tun(host.run(["/usr/bin/env", "python3", "-I", "-c", TRY_TUN], check=False).returncode) or (
                _without_nftables(host.run(["nft", "-f", "-"], input=TRY_NFTABLES, check=False).stderr)
            )
    except BedError as error:
        return _without_namespaces(str(error))


def _without_namespaces(said: str) -> str:
    last = said.strip().splitlines()[-1].removeprefix("namespaces can't be made: ")
    return f"namespaces of one's own are not allowed here ({last}): {_namespace_advice()}."


def _namespace_advice() -> str:
    if _reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "Ubuntu's AppArmor forbids them; allow them with "
            "'sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0'"
        )
    if _reads("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "allow them with 'sudo sysctl -w kernel.unprivileged_userns_clone=1'"
    if _reads("/proc/sys/user/max_user_namespaces") == "0":
        return "allow them with 'sudo sysctl -w user.max_user_namespaces=15000'"
    if _in_container():
        return "start this container with '--privileged --device /dev/net/tun', or run this outside of it"
    if _in_wsl():
        return "use WSL 2 with a current kernel: 'wsl --update', then 'wsl --set-version <distribution> 2'"
    return "run as root, or on a machine whose kernel has user namespaces (CONFIG_USER_NS)"


def _without_tun(number: int) -> str:
    if number == 0:
        return ""
    if number == errno.EACCES:
        what = "/dev/net/tun can't be opened by this user"
        advice = "let every user open it, as most distributions do, with 'sudo chmod 0666 /dev/net/tun', or run as root"
    else:
        what = f"/dev/net/tun can't be used ({os.strerror(number)})"
        advice = "load the module with 'sudo modprobe tun'"
        if _in_container():
            advice = "start this container with '--device /dev/net/tun'"
    return f"no tunnel device can be made, as {what}: {advice}."


def _without_nftables(said: str) -> str:
    if not said.strip():
        return ""
    reason = said.strip().splitlines()[0]
    if _in_wsl():
        advice = "update the kernel of WSL 2 with 'wsl --update'"
    elif _in_container():
        advice = "load them on the container's host with 'sudo modprobe -a nf_tables nft_chain_nat nft_ct'"
    else:
        advice = "load them with 'sudo modprobe -a nf_tables nft_chain_nat nft_ct', or use a kernel that has them"
    return f"the kernel's nftables can't be used ({reason}): {advice}."


def _reads(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError:
        return ""


def _in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _in_wsl() -> bool:
    return "microsoft" in _reads("/proc/sys/kernel/osrelease").lower()
