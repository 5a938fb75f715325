#!/bin/sh
# Everything that the demo and the tests need: Debian packages and the virtual environment. Run again, it
# finds all there and does nothing. Peers of tests and benchmarks are not installed here: see `make peers`.
set -eu
cd "$(dirname "$0")/.."

PYTHON=/usr/bin/python3   # Debian's: one under a home directory can't be read by other users
PACKAGES="python3-venv iproute2 nftables conntrack iputils-ping procps util-linux mount hostname
    wireguard-tools bind9-dnsutils curl iperf3 tcpdump"

installed=" $(dpkg-query -W -f '${Package}:${Status} ' $PACKAGES 2>/dev/null || true)"
missing=""
for package in $PACKAGES; do
    case $installed in
        *" $package:install ok installed "* | *" $package:hold ok installed "*) ;;
        *) missing="$missing $package" ;;
    esac
done

if [ -n "$missing" ]; then
    install="apt-get install -y --no-install-recommends$missing"
    as_root=""
    if [ "$(id -u)" != 0 ]; then
        as_root=sudo
        if ! command -v sudo >/dev/null || { ! sudo -n true 2>/dev/null && ! [ -t 0 ]; }; then
            echo "setup: these Debian packages are missing, and only root can install them. Run as root:" >&2
            echo "  apt-get update && $install" >&2
            exit 1
        fi
    fi
    echo "setup: installing Debian packages${as_root:+ with sudo}:$missing"
    $as_root apt-get update -q >/dev/null
    $as_root env DEBIAN_FRONTEND=noninteractive $install >/dev/null
fi

stamp=.venv/.ready
if [ -f "$stamp" ] && [ "$stamp" -nt constraints.txt ] && [ "$stamp" -nt pyproject.toml ]; then
    exit 0
fi
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "setup: $("$PYTHON" --version) is too old: 3.11 or later is needed, which Debian 12 has" >&2
    exit 1
fi
echo "setup: making the virtual environment in .venv, about half a minute"
# one without the stamp was never finished
[ -f "$stamp" ] || "$PYTHON" -m venv --clear .venv
# 'compat' puts the checkout on the path by a .pth file: the finder that setuptools would install instead
# is imported at every start and costs each of our processes 10 ms
PIP_CONSTRAINT="$PWD/constraints.txt" .venv/bin/python -m pip install -q --disable-pip-version-check \
    --config-settings editable_mode=compat -e '.[test]'
touch "$stamp"
