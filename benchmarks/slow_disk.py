"""Two thousand products on a slow disk: how long do commands take, and does any of them hang?

    python benchmarks/slow_disk.py             # Linux with /dev/fuse and libfuse (Debian: libfuse2), extra bench

The disk is a folder behind a file system in user space. As on a network disk far away, each question about a name
(its size and date, opening, listing, renaming, ...) waits for 2 ms, only the places of names are remembered (30 s), and
20 MB/s are written and read. In it lie 80 finished runs, 2,020 products, as `overhead.finish` leaves them. Then the
smallest study of all chapters runs there, is killed in the middle, and runs again. A command hangs if it takes more
than ten minutes. The last lines, kept in ``results/slow_disk.txt``:

- ``slow_disk_products``: finished products on the disk;
- ``slow_disk_status_seconds``, ``slow_disk_verify_seconds``: of ``reconfair status``, and with ``--verify``; behind
  each how many times those on a fast disk it is;
- ``slow_disk_run_seconds``: of the study, in both runs, with the same ratio;
- ``slow_disk_differ``: tables of the study that are not, byte for byte, those of a fast disk (0);
- ``slow_disk_hangs``: commands that took more than ten minutes (0).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import overhead

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from smallest import SMALLEST  # noqa: E402  the demo in seconds

STUDY = ["params/demo.yaml", *(word for setting in SMALLEST["demo"] for word in ("--set", setting))]
RUNS, DELAY, RATE, DEADLINE = 80, 0.002, 20e6, 600  # runs; seconds a question; bytes a second; seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mount", nargs=2, metavar=("FOLDER", "AT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mount:
        return mount(*arguments.mount)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("params", "behind", "slow", "fast"):
            (folder / part).mkdir()
        os.environ["RECONFAIR_OUTPUTS"] = str(folder / "behind")
        overhead.finish(folder / "params", RUNS)
        disk = subprocess.Popen([sys.executable, __file__, "--mount", folder / "behind", folder / "slow"])
        try:
            while not os.path.ismount(folder / "slow"):
                time.sleep(0.1)
            print(*measured(folder), sep="\n")
        finally:
            subprocess.run(["umount", "--lazy", folder / "slow"], check=True)
            disk.wait(60)
    return None


def measured(folder: Path) -> list[str]:
    """Commands on the slow disk and on a fast one, as lines of the results."""
    files, seconds = sorted(map(str, (folder / "params").glob("*.yaml"))), {}
    for disk in ("behind", "slow"):
        seconds["status", disk] = command(folder / disk, "status", *files)
        seconds["verify", disk] = command(folder / disk, "status", *files, "--verify")
    seconds["run", "fast"] = command(folder / "fast", "run", *STUDY)
    killed = command(folder / "slow", "run", *STUDY, deadline=seconds["run", "fast"] / 2)
    seconds["run", "slow"] = killed + command(folder / "slow", "run", *STUDY)
    tables = [path.relative_to(folder / "fast") for path in sorted((folder / "fast").rglob("*.parquet"))]
    differ = [path for path in tables if not same(folder / "fast" / path, folder / "behind" / path)]
    lines = [f"slow_disk_products={sum(1 for _ in (folder / 'behind').glob('site*/**/*.product.json'))}"]
    for what, fast in (("status", "behind"), ("verify", "behind"), ("run", "fast")):
        slow = seconds[what, "slow"]
        lines.append(f"slow_disk_{what}_seconds={slow:.3g}  ({slow / seconds[what, fast]:.2g} times a fast disk)")
    lines.append(f"slow_disk_differ={len(differ)} of {len(tables)}")
    return [*lines, f"slow_disk_hangs={sum(value >= DEADLINE for value in seconds.values())}"]


def command(outputs: Path, name: str, *words: str, deadline: float = DEADLINE) -> float:
    """Seconds of a command, which is killed after `deadline`."""
    environment = os.environ | {"RECONFAIR_OUTPUTS": str(outputs), "RECONFAIR_PROGRESS": os.devnull}
    begun = time.monotonic()
    running = subprocess.Popen(
        [sys.executable, "-m", "reconfair.run", name, *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        if status := running.wait(deadline):
            sys.exit(f"{name} on {outputs.name} ended with {status}")
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, 9)
        running.wait()
    what = f"{name} --verify" if "--verify" in words else name
    print(f"{what} on {outputs.name}: {time.monotonic() - begun:.1f} s", flush=True)
    return time.monotonic() - begun


def same(one: Path, other: Path) -> bool:
    """Whether two files are there and hold the same."""
    return other.exists() and one.read_bytes() == other.read_bytes()


def mount(folder: str, at: str) -> None:
    """Show a folder at another place, slowly, until it is unmounted there."""
    from mfusepy import FUSE

    FUSE(slow(folder), at, foreground=True, attr_timeout=0, entry_timeout=30)


def slow(folder: str):
    """The operations of a file system that shows `folder`."""
    from mfusepy import FuseOSError, Operations

    def asks(operation):
        """Let an operation wait, and let its errors be those of the file system."""

        def answer(self, path, *arguments):
            time.sleep(DELAY)
            try:
                return operation(folder + path, *arguments)
            except OSError as error:
                raise FuseOSError(error.errno) from None

        return answer

    def status(path, handle=None):
        asked = os.lstat(path) if handle is None else os.fstat(handle)
        names = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
        dates = {f"st_{kind}time": getattr(asked, f"st_{kind}time_ns") for kind in "acm"}
        return {name: getattr(asked, name) for name in names} | dates

    class Slow(Operations):
        use_ns = True
        getattr, readdir = asks(status), asks(lambda path, handle: [".", "..", *os.listdir(path)])
        mkdir, rmdir, unlink, chmod = asks(os.mkdir), asks(os.rmdir), asks(os.unlink), asks(os.chmod)
        open, create = asks(os.open), asks(lambda path, mode: os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode))
        truncate = asks(lambda path, length, handle=None: os.truncate(path, length))
        utimens = asks(lambda path, times=None: os.utime(path, ns=times))
        rename = asks(lambda path, to: os.rename(path, folder + to))  # mfusepy gives the old name first

        def read(self, path, size, offset, handle):
            time.sleep(size / RATE)
            return os.pread(handle, size, offset)

        def write(self, path, data, offset, handle):
            time.sleep(len(data) / RATE)
            return os.pwrite(handle, data, offset)

        def release(self, path, handle):
            os.close(handle)
            return 0

        def statfs(self, path):
            asked = os.statvfs(folder)
            return {name: getattr(asked, name) for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail")}

    return Slow()


if __name__ == "__main__":
    main()
