"""Which servers resolv.conf means."""

from __future__ import annotations

import os
from pathlib import Path

from dns.resolvconf import MAX_UPSTREAMS, ResolvConf, nameservers


def test_lines() -> None:
    text = """
# a comment
; another
search shop.svc.cluster.local
nameserver 192.0.2.1
nameserver   2001:db8::1 # said twice
nameserver fe80::1%lo
nameserver fe80::1%no-such-device
nameserver example.com
nameserver
options ndots:5
 nameserver 192.0.2.2
nameserver 192.0.2.1
"""
    assert nameservers(text) == ["192.0.2.1", "2001:db8::1", "fe80::1%lo", "192.0.2.2"]


def test_own_addresses_are_left_out_and_changes_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    conf = ResolvConf(path, {"169.254.96.16"}, tmp_path / "absent")
    assert conf.look() == []
    assert "can't be read" in conf.problem
    path.write_text("nameserver 169.254.96.16\nnameserver 192.0.2.1\n")
    assert conf.look() == ["192.0.2.1"]
    assert conf.problem == ""
    assert conf.look() is None
    path.write_text("nameserver 169.254.96.16\n")
    os.utime(path, ns=(1, 1))
    assert conf.look() == []
    assert "names no server but this one" in conf.problem
    replaced = tmp_path / "new"
    replaced.write_text("nameserver 192.0.2.2\n")
    replaced.rename(path)
    assert conf.look() == ["192.0.2.2"]


def test_behind_the_stub(tmp_path: Path) -> None:
    path, behind = tmp_path / "resolv.conf", tmp_path / "behind"
    path.write_text("nameserver 127.0.0.53\n")
    conf = ResolvConf(path, set(), behind)
    assert conf.look() == []
    behind.write_text("nameserver 192.0.2.1\nnameserver 127.0.0.53\n")
    assert conf.look() == ["192.0.2.1"]
    behind.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    assert conf.look() == ["192.0.2.1", "192.0.2.2"]


def test_their_number_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("".join(f"nameserver 192.0.2.{i}\n" for i in range(50)))
    assert len(ResolvConf(path, set()).look() or ()) == MAX_UPSTREAMS


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(b"\xff\xfe\nnameserver 192.0.2.1\nnameserver 192.0.2.\0\n")
    assert ResolvConf(path, set()).look() == ["192.0.2.1"]
