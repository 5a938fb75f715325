"""How two engines of ours agree on frames inside an encrypted session.

Both messages are the plaintext of a data message whose first nibble is zero: no IP version, so any other engine
drops it, and only the two ends of the session can make it.

    offer      01 'e' 'm' version | ciphers flags | zeros to 16 bytes
    feedback   02 'e' 'm' version | zeros to 8 | frames due (u64) | frames opened (u64) | zeros to 32 bytes

Each end offers when a session is ready, and again with growing pauses until the other says that it has the offer
(SEEN); an offer with ASK wants an answer. An end receives frames from when it has seen the other's offer, and sends
them from when it knows that its own was seen: whichever message is lost, no frame comes to an end that can't open it.
A frame that opens says SEEN as well.

Feedback is the receiver's count of frames that should have come and that came, from which the sender learns how
large frames may be (`session.FrameSize`).

Invariants: pure: messages and `now` in, messages and deadline out; offers of a session end after OFFERS.
"""

from dataclasses import dataclass
from enum import Flag
from struct import Struct

VERSION = 1

OFFER_PAUSE = 0.2
"""Seconds from the first offer to the second; each pause is twice the one before."""

OFFERS = 7
"""Offers of one session without an answer, over 12.6 s; then it stays with data messages, until the next session
or until the other end asks."""

FEEDBACK_PAUSE = 0.01
"""Seconds between two feedbacks of a session."""

_KIND_OFFER, _KIND_FEEDBACK = 1, 2
_MAGIC = b"em"
_OFFER = Struct("<B2sBBB10x")
_FEEDBACK = Struct("<B2sB4xQQ8x")


class Malformed(Exception):
    """A plaintext that is neither an IP packet nor one of these messages, or of a version not known."""


class Cipher(Flag):
    """What frames are sealed with; both have keys of 32 bytes and tags of 16."""

    CHACHA20_POLY1305 = 1
    AES_256_GCM = 2

    @property
    def text(self) -> str:
        """Name as the control socket shows and takes it."""
        return (self.name or "").lower().replace("_", "-")


BEST_FIRST = (Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305)
"""AES is offered only where the processor has it, and is then the faster by far."""

_ALL_CIPHERS = Cipher.AES_256_GCM | Cipher.CHACHA20_POLY1305


@dataclass(frozen=True, slots=True)
class Offer:
    """What an end can do. `seen`: it has the other's offer; `ask`: it does not know that its own was seen."""

    ciphers: Cipher
    seen: bool
    ask: bool

    def pack(self) -> bytes:
        """16 bytes."""
        return _OFFER.pack(_KIND_OFFER, _MAGIC, VERSION, self.ciphers.value, self.seen | self.ask << 1)


@dataclass(frozen=True, slots=True)
class Feedback:
    """Frames of a session that should have come so far (up to the highest counter) and that were opened."""

    due: int
    opened: int

    def pack(self) -> bytes:
        """32 bytes."""
        return _FEEDBACK.pack(_KIND_FEEDBACK, _MAGIC, VERSION, self.due, self.opened)


def parse(plaintext: bytes | memoryview) -> Offer | Feedback:
    """Read a message; later versions may use the zero bytes. Raises Malformed."""
    size = len(plaintext)
    if size < _OFFER.size:
        raise Malformed(f"message of {size} bytes")
    kind, magic, version, ciphers, flags = _OFFER.unpack_from(plaintext)
    if magic != _MAGIC or version != VERSION:
        raise Malformed(f"magic {magic!r}, version {version}")
    if kind == _KIND_OFFER:
        return Offer(Cipher(ciphers & _ALL_CIPHERS.value), bool(flags & 1), bool(flags & 2))
    if kind == _KIND_FEEDBACK and size >= _FEEDBACK.size:
        _, _, _, due, opened = _FEEDBACK.unpack_from(plaintext)
        return Feedback(due, opened)
    raise Malformed(f"kind {kind} of {size} bytes")


class Agreement:
    """One session's agreement. `cipher` is None until the other's offer came, and stays so if none is in common."""

    def __init__(self, ciphers: Cipher, now: float) -> None:
        self._ciphers = ciphers
        self._theirs: Cipher | None = None
        self._acknowledged = False
        self._left = OFFERS
        self._pause = OFFER_PAUSE
        self.deadline: float | None = now
        """When `poll` has an offer to send; None when there is no more to say."""

    @property
    def cipher(self) -> Cipher | None:
        """What frames of this session are sealed with."""
        common = self._ciphers & (self._theirs or Cipher(0))
        return next((cipher for cipher in BEST_FIRST if cipher in common), None)

    @property
    def may_send(self) -> bool:
        """Whether the other end can open frames by now."""
        return self._acknowledged and self.cipher is not None

    def poll(self, now: float) -> Offer | None:
        """The offer that is due, if one is."""
        if self.deadline is None or now < self.deadline:
            return None
        self._left -= 1
        self.deadline = now + self._pause if self._left else None
        self._pause *= 2
        return Offer(self._ciphers, self._theirs is not None, True)

    def receive(self, offer: Offer) -> Offer | None:
        """Take the other's offer; gives the answer to send, if it wants one."""
        if self._theirs is None:
            self._theirs = offer.ciphers
        if offer.seen:
            self.acknowledge()
        if offer.ask:
            return Offer(self._ciphers, True, not self._acknowledged)
        return None

    def acknowledge(self) -> None:
        """The other end has our offer: it said so, or sent a frame."""
        self._acknowledged = True
        self.deadline = None
