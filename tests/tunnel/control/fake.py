"""A UAPI socket that answers as it is told, and remembers what it was asked."""

from collections import deque
from pathlib import Path

import trio

OK = b"errno=0\n\n"


class FakeUapi:
    """Answers each operation with the next of `answers` (then with OK), in pieces of `piece` bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[list[str]] = []
        self.answers: deque[bytes] = deque()
        self.piece = 65536
        self.extras = True
        self.connections = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        listening = trio.socket.socket(trio.socket.AF_UNIX)
        with listening:
            await listening.bind(str(self.path))
            listening.listen(8)
            task_status.started()
            async with trio.open_nursery() as nursery:
                while True:
                    client, _ = await listening.accept()
                    self.connections += 1
                    nursery.start_soon(self._serve, client)

    async def _serve(self, client: trio.socket.SocketType) -> None:
        with client:
            buffer = b""
            while part := await client.recv(65536):
                buffer += part
                while b"\n\n" in buffer:
                    request, _, buffer = buffer.partition(b"\n\n")
                    answer = self._answer(request.decode().split("\n"))
                    for at in range(0, len(answer), self.piece):
                        await client.send(answer[at : at + self.piece])
                    if not answer:
                        return

    def _answer(self, lines: list[str]) -> bytes:
        if "endpoint=127.0.0.1:9" in lines:
            return OK if self.extras else b"errno=-22\n\n"
        self.asked.append(lines)
        return self.answers.popleft() if self.answers else OK
