"""Which ciphers are offered, by what the processor says of itself."""

from pathlib import Path

import pytest

from tunnel.engine.agreement import Cipher
from tunnel.engine.state import hardware_ciphers

CHACHA = Cipher.CHACHA20_POLY1305
BOTH = CHACHA | Cipher.AES_256_GCM


@pytest.mark.parametrize(
    ("text", "ciphers"),
    [
        ("model name\t: x\nflags\t\t: fpu pclmulqdq aes avx\n", BOTH),
        ("flags\t\t: fpu avx\nbugs\t\t: aes pclmulqdq\n", CHACHA),
        ("Features\t: fp asimd aes pmull sha1\n", BOTH),
        ("Features\t: fp asimd\n", CHACHA),
        ("", CHACHA),
    ],
)
def test_aes_is_offered_where_the_processor_has_it(tmp_path: Path, text: str, ciphers: Cipher) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert hardware_ciphers(path) == ciphers


def test_without_cpuinfo_chacha_is_offered(tmp_path: Path) -> None:
    assert hardware_ciphers(tmp_path / "none") == CHACHA
