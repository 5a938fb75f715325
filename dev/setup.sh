#!/bin/sh
# Everything that the demo and the tests need: Debian packages and the virtual environment. Run again, it
# finds all there and does nothing. Peers of tests and benchmarks are not installed here: see `make peers`.
set -eu
cd "$(dirname "$0")/.."

PYTHON=/usr/bin/python3   # Debian's: one under a home directory can't be read by other users
PACKAGES="python3-venv iproute2 nftables libnftables1 conntrack iputils-ping procps util-linux mount
    wireguard-tools bind9-dnsutils curl iperf3 ethtool"

missing=""
for package in $PACKAGES; do
    case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
        *" installed") ;;
        *) missing="$missing $package" ;;
    esac
done

if [ -n "$missing" ]; then
    install="apt-get install -y --no-install-recommends$missing"
    if [ "$(id -u)" = 0 ]; then
        echo "setup: installing Debian packages:$missing"
        apt-get update -q >/dev/null
        DEBIAN_FRONTEND=noninteractive $install >/dev/null
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }; then
        echo "setup: installing Debian packages with sudo:$missing"
        sudo apt-get update -q >/dev/null
        sudo env DEBIAN_FRONTEND=noninteractive $install >/dev/null
    else
        echo "setup: these Debian packages are missing, and only root can install them. Run as root:" >&2
        echo "  apt-get update && $install" >&2
        exit 1
    fi
fi

stamp=.venv/.ready
if [ -f "$stamp" ] && [ "$stamp" -nt constraints.txt ] && [ "$stamp" -nt pyproject.toml ]; then
    exit 0
fi
echo "setup: making the virtual environment in .venv"
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
# 'compat' puts the checkout on the path by a .pth file: the finder that setuptools would install instead
# is imported at every start and costs each of our processes 10 ms
PIP_CONSTRAINT="$PWD/constraints.txt" .venv/bin/python -m pip install -q --disable-pip-version-check \
    --config-settings editable_mode=compat -e '.[test]'
touch "$stamp"
