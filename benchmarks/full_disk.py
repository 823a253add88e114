"""A disk that is full in the middle of each chapter: what is lost, and does the study end as it would have?

    sudo python benchmarks/full_disk.py            # Linux, as root: it mounts a file system in memory

The smallest study of all chapters runs twice, chapter by chapter: once undisturbed, and once on a file system that has
room for half of what the chapter writes. There the chapter must end with an error that says so; then the file system
grows, and the same command runs again. The last lines, kept in ``results/full_disk.txt``:

- ``full_disk_chapters``: chapters that ran out of space;
- ``full_disk_told``: of these, how many said so in a line, with an exit status other than 0;
- ``full_disk_damaged``: products that ``status --verify`` called damaged after any of the failures (0);
- ``full_disk_resumed``: chapters that ended well when there was room again;
- ``full_disk_differ``: tables of the study that are not, byte for byte, those of the undisturbed run (0).
"""

import errno
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from smallest import SMALLEST  # noqa: E402  the demo in seconds

SETTINGS = [word for setting in SMALLEST["demo"] for word in ("--set", setting)]
SPARE = 100_000  # bytes: folders and the log of a run take some


def main():
    counts = Counter(full_disk_chapters=0, full_disk_told=0, full_disk_damaged=0, full_disk_resumed=0)
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder, "whole"), Path(folder, "small")
        whole.mkdir(), small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", small], check=True)
        try:
            for chapter in range(1, 11):
                counts.update(fill(whole, small, f"{chapter:02d}"))
            tables = [path.relative_to(whole) for path in sorted(whole.rglob("*.parquet"))]
            differ = [path for path in tables if not same(whole / path, small / path)]
        finally:
            subprocess.run(["umount", small], check=True)
    print(*(f"{name}={value}" for name, value in counts.items()), sep="\n")
    print(f"full_disk_differ={len(differ)} of {len(tables)}", *differ, sep="\n  ")


def fill(whole: Path, small: Path, chapter: str) -> Counter:
    """Run a chapter with room for half of what it writes, then with enough."""
    before = used(whole)
    status, output = reconfair(whole, "run", "--only", chapter)
    if status:
        sys.exit(output)
    written = used(whole) - before
    resize(small, used(small) + written // 2 + SPARE)
    status, output = reconfair(small, "run", "--only", chapter)
    lines = [line for line in output.splitlines() if os.strerror(errno.ENOSPC) in line]
    resize(small, 4 << 30)
    damaged = int(re.search(r"(\d+) damaged", reconfair(small, "status", "--verify")[1])[1])
    again = reconfair(small, "run", "--only", chapter)[0]
    print(
        f"chapter {chapter} writes {written / 1e6:.1f} MB; with half of it: status {status}, {lines[-1:]}", flush=True
    )
    told = status != 0 and bool(lines)
    counted = {"chapters": int(status != 0), "told": int(told), "damaged": damaged, "resumed": int(again == 0)}
    return Counter({f"full_disk_{name}": value for name, value in counted.items()})


def reconfair(outputs: Path, command: str, *options: str) -> tuple[int, str]:
    """Exit status and output of a command on the small study."""
    words = [sys.executable, "-m", "reconfair.run", command, "params/demo.yaml", *SETTINGS, *options]
    environment = os.environ | {"RECONFAIR_OUTPUTS": str(outputs), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def resize(folder: Path, size: int) -> None:
    """Let the file system that is mounted at a folder hold so many bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


def used(folder: Path) -> int:
    """Bytes that the files under a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def same(one: Path, other: Path) -> bool:
    """Whether two files are there and hold the same."""
    return other.exists() and one.read_bytes() == other.read_bytes()


if __name__ == "__main__":
    main()
