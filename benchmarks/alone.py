"""How long each chapter takes that is opened alone in a fresh clone, with nothing made before.

    python benchmarks/alone.py [01 05 ...] [--again]

Each notebook is executed as it stands, without ``reconfair run``, in an empty output folder: everything it needs is
made on demand. A notebook that was measured before with the same code on the same processor is not run again, so a
benchmark that was stopped goes on. Every measurement is a row of ``benchmarks/results/alone.csv``.

alone_01, alone_02, ...
    Seconds from the start of the kernel to its end. At most 60 on two quiet cores, 120 for chapters 08 and 09.
alone_01_cpu, ...
    Seconds of processor time, user and system: on a busy machine they say more than the clock does.
alone_worst
    The longest of all chapters, in seconds.
"""

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import nbformat
import pandas as pd
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "alone.csv"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", metavar="01", help="numbers of chapters; left out: all")
    parser.add_argument("--again", action="store_true", help="measure again what was measured with the same code")
    arguments = parser.parse_args()
    notebooks = sorted(path.with_suffix(".ipynb") for path in (ROOT / "notebooks").glob("[01]*.py"))
    numbers = [path.name[:2] for path in notebooks]
    unknown = set(arguments.chapters) - set(numbers)
    if unknown:
        sys.exit(f"no chapter {min(unknown)}; there are {', '.join(numbers)}")
    for path in notebooks:
        number = path.name[:2]
        if arguments.chapters and number not in arguments.chapters:
            continue
        row = {"notebook": path.stem, "code": code_of(path), "processor": processor(), "cores": cores()}
        measured = None if arguments.again else earlier(row)
        if measured is None:
            measured = row | measure(path)
            table = pd.concat([read(), pd.DataFrame([measured])], ignore_index=True)
            table.to_csv(RESULTS, index=False)
        print(f"alone_{number}={measured['seconds']:.1f}\nalone_{number}_cpu={measured['cpu_seconds']:.1f}", flush=True)
    latest = read().drop_duplicates("notebook", keep="last")
    print(f"alone_worst={latest.seconds.max():.1f}")


def measure(path: Path) -> dict:
    """Execute a notebook in an empty output folder; its time, and how busy the machine was before."""
    notebook, load = nbformat.read(path, as_version=4), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RECONFAIR_OUTPUTS"] = folder
        start, used = time.monotonic(), processor_time()
        NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(path.parent)}}).execute()
        seconds, used = time.monotonic() - start, processor_time() - used
    date = time.strftime("%Y-%m-%dT%H:%M")
    return {"seconds": round(seconds, 1), "cpu_seconds": round(used, 1), "load": round(load, 1), "date": date}


def processor_time() -> float:
    """Seconds of user and system time of all children that have ended: the kernel and its processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def code_of(path: Path) -> str:
    """Hash of the notebook, the package and the base study."""
    files = [path, ROOT / "params" / "class.yaml", *sorted((ROOT / "reconfair").rglob("*.py"))]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def processor() -> str:
    """Model of the processor, as the system names it."""
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def read() -> pd.DataFrame:
    """All measurements so far."""
    return pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=["notebook", "seconds"])


def earlier(row: dict) -> dict | None:
    """The last measurement with the same notebook, code and hardware."""
    rows = read()
    for key, value in row.items():
        rows = rows[rows[key] == value] if key in rows else rows[:0]
    return rows.iloc[-1].to_dict() if len(rows) else None


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


if __name__ == "__main__":
    main()
