"""What the data plane keeps with a keypair (`Keypair.frames`): its agreement, frame keys, and size of frames.

A frame dies whole with one of its datagrams, so frames get smaller as datagrams get lost: TCP's window at a loss of
p is about 1.2 / sqrt(p) packets, and one frame must be a small part of it. The receiver counts the frames that should
have come, by their counters, and those that came; both only of frames that opened, so that nobody else can make
frames small.

Invariants: frames are sent only after the agreement says so; feedback goes out only when a loss was seen, at most
each FEEDBACK_PAUSE.
"""

from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from tunnel.engine.agreement import FEEDBACK_PAUSE, Agreement, Cipher, Feedback, Offer
from tunnel.engine.frames import MAX_PARTS, PAYLOAD, TAG, Aead, FrameKeys
from tunnel.engine.tun import VNET, VNET_HEADER
from tunnel.wireguard.keypair import Keypair

_LABEL = b"edgemesh frames 1 "
_AEADS: dict[Cipher, type[AESGCM] | type[ChaCha20Poly1305]] = {
    Cipher.AES_256_GCM: AESGCM,
    Cipher.CHACHA20_POLY1305: ChaCha20Poly1305,
}


class FrameSize:
    """How many datagrams the frames to one peer may have; kept over sessions.

    `parts` is MAX_PARTS without loss and falls to 1, which means data messages of single packets.
    """

    WINDOW = 4096
    """Datagrams that the loss is judged by; older ones count half, and half again."""

    LEAST = 256
    """Datagrams that a judgement takes at least, lest one early loss looks like many."""

    LOSS = 0.04
    """Datagrams lost times datagrams a frame, about: a frame in twenty-five dies."""

    def __init__(self) -> None:
        self.parts = MAX_PARTS
        self._sent = 0.0
        self._lost = 0.0
        self._last_sent = 0
        self._last_lost = 0

    def new_session(self) -> None:
        """Counts begin at zero again; what was learnt stays."""
        self._last_sent = self._last_lost = 0

    def feedback(self, feedback: Feedback, sent: int) -> None:
        """Take the counts of a peer, `sent` datagrams of frames having been sent in this session."""
        lost = max(feedback.due - feedback.opened, 0)
        self._lost = max(self._lost + lost - self._last_lost, 0.0)
        self._last_lost = lost
        self.progress(sent)

    def progress(self, sent: int) -> None:
        """`sent` datagrams were sent in this session: those of which no loss was told arrived."""
        if sent <= self._last_sent and not self._lost:
            return
        self._sent += max(sent - self._last_sent, 0)
        self._last_sent = max(sent, self._last_sent)
        while self._sent > self.WINDOW:
            self._sent /= 2
            self._lost /= 2
        loss = self._lost / max(self._sent, self.LEAST)
        self.parts = min(max(int(self.LOSS / loss), 1), MAX_PARTS) if loss > self.LOSS / MAX_PARTS else MAX_PARTS

    def packets(self, data: bytearray) -> int:
        """How many packets of the segment from TUN in `data` a frame may hold."""
        if self.parts == MAX_PARTS:
            return 65_535
        _, _, _, size, start, _ = VNET_HEADER.unpack_from(data)
        headers = VNET + start + (data[VNET + start + 12] >> 4) * 4
        return max((self.parts * PAYLOAD - TAG - headers) // size, 1) if size else 1


class Session:
    """The frames of one keypair. `receiving` and `sending` are its frame keys once it may receive, and send."""

    __slots__ = (
        "_dropped",
        "_feedback_at",
        "_framed",
        "_keypair",
        "_overflowed",
        "_spilt",
        "_told",
        "agreement",
        "receiving",
        "sending",
        "size",
    )

    def __init__(
        self,
        keypair: Keypair,
        ciphers: Cipher,
        size: FrameSize,
        now: float,
        *,
        framed: bool,
        overflowed: Callable[[], int],
    ) -> None:
        """`overflowed` tells how much the receiving socket has dropped, of any peer's, for want of room."""
        self._keypair = keypair
        self._framed = framed
        self._told = 0
        self._overflowed = overflowed
        self._dropped = overflowed()  # at the last feedback
        self._spilt = 0  # frames of this session that it had no room for
        self._feedback_at = now
        self.size = size
        self.agreement = Agreement(ciphers, now)
        self.receiving: FrameKeys | None = None
        self.sending: FrameKeys | None = None
        size.new_session()

    @property
    def text(self) -> str:
        """What is sent now, for people: `packets`, or `segments`, the cipher, and datagrams a frame."""
        cipher = self.agreement.cipher
        return f"segments/{cipher.text}/{self.size.parts}" if self.sending and cipher else "packets"

    def use(self, framed: bool) -> None:
        """Send frames, or packets only, from now on."""
        self._framed = framed
        self._settle()

    def offered(self, offer: Offer) -> Offer | None:
        """Take the other end's offer; gives the answer to send."""
        answer = self.agreement.receive(offer)
        self._settle()
        return answer

    def opened(self, now: float) -> Feedback | None:
        """A frame was opened, so the other end has our offer; gives the feedback that is due."""
        if self.agreement.deadline is not None or self.sending is None:
            self.agreement.acknowledge()
            self._settle()
        keys = self.receiving
        if keys is None or keys.highest - keys.completed == self._told or now < self._feedback_at:
            return None
        lost, dropped = keys.highest - keys.completed, self._overflowed()
        self._spilt += max(min(lost - self._told, dropped - self._dropped), 0)
        self._told, self._dropped = lost, dropped
        self._feedback_at = now + FEEDBACK_PAUSE
        return Feedback(keys.highest, keys.completed + self._spilt)

    def told(self, feedback: Feedback) -> None:
        """Take the other end's feedback."""
        if self.sending is not None:
            self.size.feedback(feedback, self.sending.sent)

    def _settle(self) -> None:
        cipher = self.agreement.cipher
        if cipher is None:
            return
        if self.receiving is None:
            keypair = self._keypair
            self.receiving = FrameKeys(
                self._aead(cipher, keypair.initiator), self._aead(cipher, not keypair.initiator), keypair.remote_index
            )
        self.sending = self.receiving if self._framed and self.agreement.may_send else None

    def _aead(self, cipher: Cipher, initiator_to_responder: bool) -> Aead:
        key = self._keypair.derive(_LABEL + cipher.text.encode(), initiator_to_responder)
        return _AEADS[cipher](key)
