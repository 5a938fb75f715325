"""Small files that are there whole or not at all, also after a crash."""

import contextlib
import os
import secrets


def replace(path: str | os.PathLike[str], data: bytes, mode: int = 0o600) -> None:
    """Put `data` at `path`, in place of what is there; the folder is made (0755) if it is missing. Raises OSError."""
    target = os.fspath(path)
    folder = os.path.dirname(target) or "."
    os.makedirs(folder, mode=0o755, exist_ok=True)
    draft = f"{target}.{os.getpid()}.{secrets.token_hex(4)}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            os.fchmod(fd, mode)
            file.flush()
            os.fsync(fd)
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(at)
    finally:
        os.close(at)


def read(path: str | os.PathLike[str], limit: int = 1 << 20) -> bytes | None:
    """A file's content, at most `limit` bytes; None if it isn't there. Raises OSError."""
    try:
        with open(path, "rb") as file:
            return file.read(limit)
    except FileNotFoundError:
        return None
