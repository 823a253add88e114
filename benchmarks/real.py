"""What small studies of real scans show, every patient tested once, and how long they take.

    python benchmarks/real.py                                          # nih_1e4_small and lgg_x8_small, with the U-Net
    python benchmarks/real.py --params lgg_x8_small --models unet pix2pix sde
    python benchmarks/real.py --minutes 12                             # that long; killed and started again, it goes on

Needs ``RECONFAIR_DATA`` and the extra ``weights``. Chapters 01 to 05 of each params file are made without notebooks,
fold by fold, into the outputs, so that ``reconfair run`` goes on from there. Printed last are lines NAME=VALUE with the
95 % interval by patient, given the trained models, and the minutes of all products as they were stamped, with the
number of threads. They are added to results/real.txt with ``--keep``.
"""

import argparse
import platform
import time
from datetime import date
from pathlib import Path

import torch

from reconfair import judge, params, run, store

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "real.txt"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", nargs="+", default=["nih_1e4_small", "lgg_x8_small"])
    parser.add_argument("--models", nargs="+", default=["unet"])
    parser.add_argument("--minutes", type=float, default=1e9, help="start no product after so long")
    parser.add_argument("--keep", action="store_true", help="add the lines to results/real.txt")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    for name in arguments.params:
        file, models = ROOT / "params" / f"{name}.yaml", ",".join(arguments.models)
        study = params.load(file, [f"reconstruction.models=[{models}]", "mitigation=none"])
        products = [one for one in run.every_product(study) if one.chapter <= "05" and one.folder.name != "chapters"]
        for product in products:
            if time.monotonic() > end:
                break
            if not product.fresh:
                print(f"{product.key} ...", flush=True)
                store.make(product)
        if all(product.fresh for product in products):
            lines = [f"{name} {models}: {platform.machine()}, {torch.get_num_threads()} threads, {date.today()}"]
            lines += measured(name, study, products)
            print(*lines, sep="\n")
            if arguments.keep:
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write("\n".join([*lines, ""]))
        else:
            missing = [product.key for product in products if not product.fresh]
            print(f"{name}: {len(missing)} of {len(products)} products are missing; start again to go on")


def measured(name, study, products):
    """Lines NAME=VALUE: performance of everyone on each source, and minutes."""
    performance, _ = judge.judge(study)
    rows = performance[(performance.attribute == "all") & performance.metric.isin(["auroc", "dice", "psnr"])]
    for row in rows.itertuples():
        limits = f"{row.low:.3f} to {row.high:.3f}; {row.patients} patients"
        yield f"{name}_{row.metric}_{row.task}_{row.source}={row.value:.3f}  ({limits})"
    stamps = {product: product.read_stamp() for product in products}
    parts = {"reconstruction": ("03",), "diagnosis": ("04",), "in_all": ("01", "02", "03", "04", "05")}
    for part, chapters in parts.items():
        seconds = sum(stamp["seconds"] for product, stamp in stamps.items() if product.chapter in chapters)
        yield f"{name}_minutes_{part}={seconds / 60:.1f}"


if __name__ == "__main__":
    main()
