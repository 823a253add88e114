"""How fast images are degraded, beside scikit-image and deepinv, on one thread of this machine.

Run ``python benchmarks/noise.py`` with the extra ``bench`` installed; it takes about four minutes. Every
ratio is of the same 256-pixel images in the same run, the best of several repetitions:

low_dose_vs_skimage
    scikit-image's ``radon`` and ``iradon`` (256 angles, Hann) over our Radon transform, noise and
    filtered back-projection: how many times as fast ours is.
low_dose_vs_deepinv
    The same over deepinv's batched ``Tomography`` operator and its ``fbp``.
three_doses_vs_one
    Time of three doses of the same images over that of one.
kspace_vs_fft
    Time of a bare pair of real FFTs over that of radial undersampling.
peak_gb_200k
    Peak of the memory that the system cannot reclaim (anonymous; mapped files can be dropped at any time)
    while chapter 02 degrades and rates a cohort, extrapolated to 200,000 images from two sizes.

``--slow-disk`` measures ``peak_gb_200k`` alone, in about four minutes, with a disk that takes ten times as long to
write images as the cores take to compute them. So that the disk is slow for a long time, there are many images that
are made quickly: `Ramps`, and undersampling. The same is measured with a fast disk. As a control, results are also
left to pile up before the slow disk: a measure that does not see this would not see a fault either.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "RECONFAIR_PROGRESS": os.devnull}

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pandas as pd
from scipy import fft

from reconfair import data, noise, params, store
from reconfair.noise import CHUNK
from reconfair.noise.kspace import KSpace
from reconfair.noise.sinogram import Sinogram

SIZE, BATCH, DOSES = 256, 32, (1e5, 1e4, 3e3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slow-disk", action="store_true", help="measure the memory alone, with a slow disk")
    arguments = parser.parse_args()
    if arguments.slow_disk:
        small, large, fast = memory(2_000, "slow"), memory(8_000, "slow"), memory(8_000, "fast")
        control = memory(8_000, "slow", "piled")
        results = {"slow_minus_fast_gb": large[1] - fast[1], "piled_minus_slow_gb": control[1] - large[1]}
    else:
        results, small, large = speed(pictures()), memory(600), memory(1800)
    for name, value in {**results, "peak_gb_200k": extrapolated(small, large, 200_000)}.items():
        print(f"{name}={value:.3g}")


def pictures() -> np.ndarray:
    """A batch of chest phantoms."""
    study = params.study(dataset={"name": "phantom_xray", "size": SIZE, "patients": 100})
    return data.images_of(data.cohort_table(study)[:BATCH], study.dataset)[0].astype(np.float32)


def speed(images: np.ndarray) -> dict[str, float]:
    ids = [str(at) for at in range(len(images))]
    doses = [Sinogram(kind="sinogram", photons=dose) for dose in DOSES]
    radial = KSpace(acceleration=8)
    ours = per_image("Radon, noise, FBP (ours)", lambda: noise.degrade(images, ids, doses[1]), len(images), 7)
    three = per_image("three doses (ours)", lambda: noise.levels(images, ids, doses), len(images), 7)
    kspace = per_image("radial k-space (ours)", lambda: noise.degrade(images, ids, radial), len(images), 15)
    pair = per_image("bare FFT pair", lambda: fft.irfft2(fft.rfft2(images), (SIZE, SIZE)), len(images), 15)
    return {
        "low_dose_vs_skimage": per_image("Radon, FBP (scikit-image)", lambda: skimage(images[:2]), 2, 2) / ours,
        "low_dose_vs_deepinv": per_image("Radon, FBP (deepinv)", deepinv(images), len(images), 2) / ours,
        "three_doses_vs_one": three / ours,
        "kspace_vs_fft": pair / kspace,
    }


def per_image(what: str, function, images: int, repetitions: int) -> float:
    """Seconds per image, the best of some repetitions after a first that fills caches."""
    function()
    times = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    print(f"{what:28} {1000 * min(times) / images:9.2f} ms an image")
    return min(times) / images


def skimage(images: np.ndarray) -> None:
    from skimage.transform import iradon, radon

    theta = np.arange(256) * 180 / 256
    for image in images:
        iradon(radon(image, theta, circle=False), theta, filter_name="hann", circle=False, output_size=SIZE)


def deepinv(images: np.ndarray):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deepinv.physics import Tomography

        torch.set_num_threads(1)
        operator, tensor = Tomography(angles=256, img_width=SIZE, normalize=False), torch.from_numpy(images)[:, None]
    return lambda: operator.fbp(operator.A(tensor))


class Ramps(params.Dataset):
    """A cohort of images that cost nothing, a patient each."""

    patients: int
    about = params.About("mri", "patient", {"bright": "classify"}, ("sex",), "", (), "")

    def read_table(self) -> pd.DataFrame:
        """Half of the patients of each sex and label."""
        number = np.arange(self.patients)
        ids = pd.Series(number, dtype=str)
        known = {"sex": np.where(number % 2, "female", "male"), "bright": number // 2 % 2 * 1.0}
        return pd.DataFrame({"image_id": ids, "patient_id": ids, "age": 50.0, "race": "none", **known})

    def read_image(self, row) -> tuple[np.ndarray, None]:
        """A ramp from left to right, and no mask."""
        return np.tile(np.linspace(0, 1, self.size, dtype=np.float32), (self.size, 1)), None


def memory(patients: int, disk: str = "", results: str = "") -> tuple[int, float]:
    """Images, and peak anonymous memory in GB, of chapter 02 in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        worker = [sys.executable, __file__, "measure", str(patients), disk, results]
        said = subprocess.run(worker, env=os.environ | {"RECONFAIR_OUTPUTS": folder}, capture_output=True, check=True)
    images, peak, seconds = said.stdout.split()[-3:]
    rate = f"{int(images) / float(seconds):.0f} images a second on {os.cpu_count()} cores, with PSNR and SSIM"
    what = ", ".join(["chapter 02", *[f"{disk} disk"] * bool(disk), *[f"results {results}"] * bool(results)])
    print(f"{what}, {int(images)} images: {float(peak):.3f} GB, {rate}", flush=True)
    return int(images), float(peak)


def extrapolated(small: tuple[int, float], large: tuple[int, float], images: int) -> float:
    return large[1] + (images - large[0]) * max(large[1] - small[1], 0) / (large[0] - small[0])


def piled(function, items, *_, **__):
    """In place of `store.parallel`: everything is computed, however long results wait to be taken."""
    with ThreadPoolExecutor() as pool:
        yield from pool.map(function, items)


def measure(patients: int, disk: str, results: str) -> None:
    name, kind = (f"{Path(__file__).resolve()}:Ramps", "kspace") if disk else ("phantom_xray", "sinogram")
    study = params.study(dataset={"name": name, "size": SIZE, "patients": patients}, noise={"kind": kind})
    cohort, ended, peaks = data.prepare(study), Event(), []
    if disk == "slow":
        chunk, ids = np.asarray(cohort.images[:CHUNK]), cohort.table.image_id.to_numpy()[:CHUNK]
        noise.degrade(chunk, ids, study.noise)  # builds the tables that later calls share
        begun = time.monotonic()
        noise.degrade(chunk, ids, study.noise)
        pause, append = 10 * (time.monotonic() - begun) / os.cpu_count(), store.Growing.append
        store.Growing.append = lambda file, rows: (time.sleep(pause), append(file, rows))
    if results == "piled":
        store.parallel = piled
    Thread(target=watch, args=(ended, peaks)).start()
    begun = time.monotonic()
    noise.prepare(study)
    ended.set()
    print(len(cohort.images), max(peaks), time.monotonic() - begun)


def watch(ended: Event, peaks: list[float]) -> None:
    while not ended.wait(0.02):
        with open("/proc/self/status") as status:
            peaks += [int(line.split()[1]) / 1024**2 for line in status if line.startswith("RssAnon")]


if __name__ == "__main__":
    measure(int(sys.argv[2]), *sys.argv[3:]) if sys.argv[1:2] == ["measure"] else main()
