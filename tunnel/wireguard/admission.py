"""Which handshake messages are worth an X25519 (whitepaper 5.3).

    mac1 wrong                          dropped
    not under load                      admitted
    under load, mac2 missing or wrong   dropped, answered with a cookie
    under load, source too busy         dropped

Only messages with a right mac1 count as load: others cost a hash each, wherever they come from.
"""

from collections.abc import Callable

from tunnel.endpoint import Endpoint
from tunnel.wireguard.cookie import CookieChecker
from tunnel.wireguard.limiter import LoadMeter, SourceLimiter
from tunnel.wireguard.messages import CookieReply


class NotAdmitted(Exception):
    """A handshake message that is dropped; `reply` is to be sent to its source, if there is one."""

    def __init__(self, reason: str, reply: CookieReply | None = None) -> None:
        super().__init__(reason)
        self.reply = reply


class Admission:
    """The gate before one public key."""

    def __init__(self, public_key: bytes, random: Callable[[int], bytes]) -> None:
        self._checker = CookieChecker(public_key, random)
        self._load = LoadMeter()
        self._limiter = SourceLimiter()

    def under_load(self, now: float) -> bool:
        """Whether messages must carry a cookie now."""
        return self._load.under_load(now)

    def check(self, datagram: bytes, sender: int, source: Endpoint, now: float) -> None:
        """Let a whole handshake message from index `sender` pass, or raise NotAdmitted."""
        if not self._checker.check_mac1(datagram):
            raise NotAdmitted("mac1 is wrong")
        self._load.arrived(now)
        if not self._load.under_load(now):
            return
        if not self._checker.check_mac2(datagram, source, now):
            raise NotAdmitted("under load, and no cookie", self._checker.reply(datagram, sender, source, now))
        if not self._limiter.allow(source, now):
            raise NotAdmitted("under load, and too many from this source")
