"""The engine's process: opens both sides and the control socket, starts the data threads, ends cleanly.

Invariants: the engine stores nothing; without configuration it listens on any port and has no peers. SIGTERM ends
it within a moment and leaves the TUN device, with its addresses and routes, to the engine that follows. A data
thread that fails ends the process with a message: whoever supervises it starts another.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunnel.engine import EngineTrouble
from tunnel.engine.configure import Configuration
from tunnel.engine.control import Control, listen
from tunnel.engine.forward import Forwarder
from tunnel.engine.state import State, hardware_ciphers
from tunnel.engine.tun import open_tun
from tunnel.engine.udp import UdpSocket
from tunnel.trains import BUFFER
from tunnel.wireguard.device import Device

log = logging.getLogger("edgemesh.engine")

_SWITCH = 0.0005
"""Seconds that one thread may keep the interpreter from another; Python's 5 ms would be seen in round trips."""

_ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says: the device, where its control socket is, and socket buffers in bytes."""

    device: str = "edgemesh-wg"
    socket_dir: Path = Path("/run/wireguard")
    buffer: int = BUFFER


def run(options: Options) -> int:
    """Run an engine until SIGTERM or SIGINT; gives the process's exit status."""
    path = options.socket_dir / f"{options.device}.sock"
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(listen(path))
            stack.callback(path.unlink, missing_ok=True)
            tun = open_tun(options.device)
            udp = UdpSocket(0, buffer=options.buffer)
        except EngineTrouble as trouble:
            log.error("%s", trouble)
            return 1
        state = State(Device(os.urandom, time.time), tun, udp, hardware_ciphers())
        control = Control(state, Configuration(state, options.buffer), listener)
        stack.callback(control.close)
        for kind in _ENDING:
            signal.signal(kind, lambda *_: control.stop())
        sys.setswitchinterval(_SWITCH)
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # signals are this thread's, which waits for them
        forwarder = Forwarder(state)
        _start("forward", forwarder.forward)
        _start("receive", forwarder.receive)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        log.info("engine of %s is ready, control socket %s", options.device, path)
        control.run()
    log.info("engine of %s ends; the device stays", options.device)
    return 0


def _start(name: str, work: Callable[[], None]) -> None:
    def guarded() -> None:
        try:
            work()
        except BaseException:
            log.critical("the %s thread failed, the engine ends", name, exc_info=True)
            logging.shutdown()
            os._exit(1)

    threading.Thread(target=guarded, name=name, daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `edgemesh engine`, also without the program around it: `python -m tunnel.engine.engine`."""
    default = Options()
    parser = argparse.ArgumentParser(prog="edgemesh engine", description="WireGuard in userspace")
    parser.add_argument("--device", default=default.device, help="name of the TUN device (default: %(default)s)")
    parser.add_argument(
        "--socket-dir", type=Path, default=default.socket_dir, help="where the control socket is (default: %(default)s)"
    )
    parser.add_argument(
        "--buffer", type=int, default=default.buffer, help="bytes of socket buffer to ask for (default: %(default)s)"
    )
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    return run(Options(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    sys.exit(main())
