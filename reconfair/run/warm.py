"""Jobs and kernels as forks of one process that has imported everything: they start in no time.

    python -P reconfair/run/warm.py SOCKET                     serve, until the process that started it ends
    python -P reconfair/run/warm.py SOCKET run PARAMS ...      as ``reconfair run PARAMS ...``, in a fork of the server
    python -P reconfair/run/warm.py SOCKET kernel -f FILE      as ``ipykernel -f FILE``, in another

A process that only asks starts at once: this file imports nothing large, and is run by its path, because ``-m`` would
import the package. Without a server, the work is done in the asking process.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from socketserver import ForkingMixIn, StreamRequestHandler, UnixStreamServer

COMMAND = (sys.executable, "-P", __file__)


class _Job(StreamRequestHandler):
    """A request, in a process of its own: command line, environment and folder of who asks, and its output."""

    def handle(self):
        import torch

        from reconfair import store

        _, given, *_ = socket.recv_fds(self.request, 1, 2)
        words, environment, folder = json.loads(self.rfile.readline())
        for stream, descriptor in enumerate(given, start=1):
            os.dup2(descriptor, stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment | {"RECONFAIR_WARM": self.server.server_address})
        torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", torch.get_num_threads())))
        os.setpgid(0, 0)  # it ends with its own worker processes, and with no other job
        threading.Thread(target=self._end_with_asker, daemon=True).start()
        store.end_with(os.getppid())  # the server, which ends with its batch; the asker then ends with this process
        status = work(words)
        sys.stdout.flush()
        self.request.sendall(bytes([status]))

    def _end_with_asker(self):
        self.rfile.read()
        os.killpg(0, signal.SIGKILL)


class _Server(ForkingMixIn, UnixStreamServer):
    max_children = 10_000
    parent = os.getppid()

    def service_actions(self):
        super().service_actions()
        if os.getppid() != self.parent:
            os._exit(0)


def work(words: list[str]) -> int:
    """Do what a command line says, and return its exit status."""
    if words[0] != "kernel":
        from reconfair import run

        return run.main(words)
    import pandas as pd
    from ipykernel.kernelapp import IPKernelApp

    pd.set_option("display.max_columns", 20)  # as pandas has it where a kernel imports it
    IPKernelApp.launch_instance(words[1:], parent_handle=os.getppid())
    return 0


def sockets() -> tempfile.TemporaryDirectory:
    """Return a folder for sockets: systems allow their paths about 100 characters, fewer than some TMPDIR has."""
    usual = tempfile.gettempdir()
    return tempfile.TemporaryDirectory(prefix="reconfair-", dir=usual if len(usual) < 60 else "/tmp")


@contextlib.contextmanager
def served(wanted: bool = True):
    """Meanwhile the kernels of this process are forks of a server of its own.

    A batch has its server already. Forks are safe on Linux, and where no GPU is used: elsewhere nothing is served.
    """
    if not wanted or sys.platform != "linux" or "RECONFAIR_WARM" in os.environ:
        yield
        return
    with sockets() as folder:
        path = f"{folder}/server"
        with subprocess.Popen([*COMMAND, path], start_new_session=True) as server:  # Ctrl-C is for who asks
            os.environ["RECONFAIR_WARM"] = path
            try:
                yield
            finally:
                del os.environ["RECONFAIR_WARM"]
                server.kill()


def serve(path: str) -> None:
    """Import all that jobs need, then fork for each that asks; who asks earlier waits."""
    with _Server(path, _Job) as server:
        sys.modules.setdefault("rfc3987_syntax", None)
        os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # read once, by the import
        import nbconvert  # noqa: F401
        import papermill  # noqa: F401

        from reconfair import figures, run, store  # noqa: F401
        from reconfair.diagnosis import classify, segment  # noqa: F401
        from reconfair.recon import pix2pix, sde, unet  # noqa: F401

        for path in store.PACKAGE.rglob("*.py"):  # fingerprints are of the code that is imported, not of later edits
            name = path.relative_to(store.PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
            store.source(name.removesuffix(".__init__"))
        server.serve_forever()


def ask(path: str, words: list[str], patience: float = 5) -> int:
    """Have the server do what a command line says, and return its exit status.

    Whoever asks ends with the process that started it, and the work ends with whoever asks.
    """
    parent = os.getppid()
    if words[0] == "kernel":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is interrupted before it is asked to end
        parent = int(os.environ.get("JPY_PARENT_PID", parent))  # that may have ended already
    with socket.socket(socket.AF_UNIX) as connection:
        deadline = time.monotonic() + patience
        while connection.connect_ex(path):
            if time.monotonic() > deadline:
                return work(words)
            time.sleep(0.05)
        socket.send_fds(connection, [b"."], [1, 2])
        connection.sendall(json.dumps([words, dict(os.environ), os.getcwd()]).encode() + b"\n")
        while not select.select([connection], [], [], 1)[0]:
            if os.getppid() != parent:
                return 1
        return (connection.recv(1) or b"\x01")[0]


if __name__ == "__main__":
    sys.exit(ask(sys.argv[1], sys.argv[2:]) if sys.argv[2:] else serve(sys.argv[1]))
