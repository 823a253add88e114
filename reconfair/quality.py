"""Image quality against the original: PSNR and SSIM of each image, data range 1."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from reconfair import store


def psnr(original: np.ndarray, image: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal images."""
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(original, image, data_range=1))


def ssim(original: np.ndarray, image: np.ndarray) -> float:
    """Structural similarity with the Gaussian window of Wang et al. (2004), within [-1, 1]."""
    return float(
        structural_similarity(
            original, image, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def rate(table: pd.DataFrame, originals, images, source: str, strategy: str = "standard") -> pd.DataFrame:
    """Rows of the quality table for images that belong to the rows of a cohort table.

    Parameters
    ----------
    table : DataFrame
        (n rows) of a cohort.
    originals, images : array_like
        (n, size, size); read one by one, so that memory-mapped arrays stay on disk. Images are
        clipped to [0, 1] before they are compared.
    source, strategy : str
        What made the images.
    """

    def both(at: int) -> tuple[float, float]:
        original = np.asarray(originals[at], np.float32)
        image = np.asarray(images[at], np.float32).clip(0, 1)
        return psnr(original, image), ssim(original, image)

    with ThreadPoolExecutor() as pool:
        rated = list(store.progress(pool.map(both, range(len(table))), f"quality of {source}", len(table)))
    columns = table[["image_id", "patient_id", "split"]].reset_index(drop=True)
    return columns.assign(source=source, strategy=strategy, psnr=[r[0] for r in rated], ssim=[r[1] for r in rated])
