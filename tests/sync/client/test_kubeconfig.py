"""Kubeconfig files: what is taken, and what is refused in which words."""

import base64
from pathlib import Path

import pytest

from sync.client.kubeconfig import Access, KubeconfigError, load, of_master

FILE = """apiVersion: v1
kind: Config
current-context: site
clusters:
- name: one
  cluster:
    server: https://api.example:6443/
    certificate-authority: ca.crt
- name: other
  cluster: {server: "https://203.0.113.1"}
contexts:
- name: site
  context: {cluster: one, user: node}
users:
- name: node
  user:
    client-certificate: pki/node.crt
    client-key: /srv/node.key
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "ca.crt").write_text("the CA")
    found = tmp_path / "kubeconfig"
    found.write_text(FILE)
    return found


def test_files_are_beside_it(path: Path) -> None:
    access = load(path)
    assert access == Access(
        server="https://api.example:6443",
        ca="the CA",
        certificate=str(path.parent / "pki/node.crt"),
        key="/srv/node.key",
    )
    assert load(path, master="https://10.0.0.1:1").server == "https://10.0.0.1:1"


def test_inline_data_and_tokens(path: Path) -> None:
    def data(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    path.write_text(
        FILE.replace("certificate-authority: ca.crt", f"certificate-authority-data: {data('CA')}")
        .replace("client-certificate: pki/node.crt", f"client-certificate-data: {data('certificate')}")
        .replace("client-key: /srv/node.key", f"client-key-data: {data('key')}\n    tokenFile: token\n    token: t0ken")
    )
    access = load(path)
    assert (access.ca, access.certificate_pem, access.key_pem, access.certificate) == ("CA", "certificate", "key", "")
    assert (access.token_file, access.token) == (str(path.parent / "token"), "t0ken")
    assert "key" not in repr(access)
    assert "t0ken" not in repr(access)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "current-context: site",
            "current-context: nowhere",
            "'nowhere', which is not among contexts; one of",
        ),
        ("current-context: site", "", "'current-context' is missing"),
        ("cluster: one", "cluster: none", "context.cluster: names 'none', which is not among clusters; one of"),
        ("user: node}", "user: nobody}", "context.user: names 'nobody'"),
        (
            "server: https://api.example:6443/",
            "server: http://api.example",
            "has no TLS, and is not on this machine",
        ),
        ("server: https://api.example:6443/", "server: ftp://x", "clusters[one].cluster.server: 'ftp://x' is not the"),
        ("server: https://api.example:6443/", "server: https://api.example:port", "is not a URL"),
        ("server: https://api.example:6443/", "server: 1", "clusters[one].cluster.server: 1 is a number; text"),
        ("server: https://api.example:6443/", "servre: x", "clusters[one].cluster: 'server' is missing"),
        ("certificate-authority: ca.crt", "certificate-authority: no.crt", "no.crt can't be read: No such file"),
        ("certificate-authority: ca.crt", "certificate-authority-data: '?'", "is not base64 of PEM text; what"),
        ("certificate-authority: ca.crt", "insecure-skip-tls-verify: true", "an unknown server is not trusted"),
        (
            "certificate-authority: ca.crt",
            "proxy-url: http://proxy.example",
            "cluster.proxy-url: is not supported; proxies",
        ),
        ("    client-key: /srv/node.key\n", "", "users[node].user: has a client certificate or a key without"),
        (
            "client-key:",
            "exec: {command: x}\n    client-key:",
            "user.exec: is not supported; programs",
        ),
        ("client-key:", "username: u\n    client-key:", "passwords are not sent"),
        ("kind: Config", "kind: Config\n---\na: b", "has 2 documents; one kubeconfig"),
        ("clusters:", "clusters: [", ":5: "),
    ],
)
def test_mistakes(path: Path, old: str, new: str, text: str) -> None:
    assert old in FILE
    path.write_text(FILE.replace(old, new, 1))
    with pytest.raises(KubeconfigError) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert text in str(caught.value)


def test_absent_and_empty(path: Path) -> None:
    with pytest.raises(KubeconfigError, match="nowhere: can't be read: No such file"):
        load(path.with_name("nowhere"))
    path.write_text("")
    with pytest.raises(KubeconfigError, match="has 0 documents; one kubeconfig"):
        load(path)


def test_a_url_alone() -> None:
    assert of_master("http://127.0.0.1:10550/").server == "http://127.0.0.1:10550"
    assert of_master("127.0.0.1:10550").server == "http://127.0.0.1:10550"
    assert of_master("api.example:6443").server == "https://api.example:6443"
    with pytest.raises(KubeconfigError, match=r"kubeAPIConfig.master: .*10\.0\.0\.1' has no TLS"):
        of_master("http://10.0.0.1")
