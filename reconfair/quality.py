"""Image quality against the original: PSNR, SSIM and, where its weights are present, LPIPS; data range 1."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from statsmodels.stats.oneway import anova_oneway

from reconfair import store

CHUNK = 32


def psnr(original: np.ndarray, image: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, of the mean squared error over all channels; infinite for equal images."""
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(original, image, data_range=1))


def ssim(original: np.ndarray, image: np.ndarray) -> float:
    """Structural similarity with the Gaussian window of Wang et al. (2004), within [-1, 1].

    Images are (s, s), or (3, s, s): then the mean over the channels.
    """
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    channel = 0 if original.ndim == 3 else None
    return float(structural_similarity(original, image, data_range=1, channel_axis=channel, **how))


def lpips_weights() -> Path:
    """Where torchvision looks for the weights of the AlexNet on which LPIPS rests; they are not part of any package."""
    cache = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
    return Path(os.environ.get("TORCH_HOME", Path(cache) / "torch")) / "hub/checkpoints/alexnet-owt-7be5be79.pth"


def lpips(originals, images, rows=None) -> np.ndarray:
    """Learned perceptual distance of Zhang et al. (2018), AlexNet, of each image; 0 is equal.

    Parameters
    ----------
    originals, images : array_like
        (n, size, size) or (n, 3, size, size); read a few at a time.
    rows : pair of ndarray of int, optional
        Which originals and which images are compared; by default all, in order.

    Raises
    ------
    FileNotFoundError
        The weights are not where `lpips_weights` says.
    """
    import torch
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    if not lpips_weights().is_file():
        raise FileNotFoundError(f"{lpips_weights()}: LPIPS needs these weights of torchvision's alexnet; none found")
    rows = rows or (np.arange(len(images)),) * 2
    measure = LearnedPerceptualImagePatchSimilarity("alex", reduction="none", normalize=True)
    with torch.inference_mode():
        for start in store.progress(range(0, len(rows[1]), CHUNK), "LPIPS"):
            pair = [torch.from_numpy(some) for some in _pair(originals, images, rows, start)]
            measure.update(*(some if some.ndim == 4 else some[:, None].expand(-1, 3, -1, -1) for some in pair))
        return measure.compute().flatten().numpy()


def rate(table: pd.DataFrame, originals, images, source: str, strategy: str = "standard", rows=None) -> pd.DataFrame:
    """Rows of the quality table for images that belong to the rows of a cohort table.

    Parameters
    ----------
    table : DataFrame
        (n rows) of a cohort.
    originals, images : array_like
        (n, size, size) or (n, 3, size, size); read a few at a time, so that arrays stay on disk. Both
        are clipped to [0, 1] before they are compared. Missing images (NaN) are left out.
    source, strategy : str
        What made the images.
    rows : ndarray of int, or pair of them, optional
        (n,): which of `originals` belongs to each image, or which of `originals` and which of `images` belong to each
        row of the table; by default all, in order.
    """
    order = np.arange(len(table))
    rows = rows if isinstance(rows, tuple) else (order if rows is None else rows, order)
    there = np.flatnonzero(np.isfinite(images[(rows[1], *[0] * (images.ndim - 1))]))
    rows, table = tuple(some[there] for some in rows), table.iloc[there]
    starts = range(0, len(table), CHUNK)
    rated = store.parallel(partial(_rated, originals, images, rows), starts, f"quality of {source}", threads=True)
    columns = table[["image_id", "patient_id", "split"]].reset_index(drop=True)
    columns = columns.assign(source=source, strategy=strategy)
    columns[["psnr", "ssim"]] = np.concatenate([np.empty((0, 2)), *rated])
    if len(table) and lpips_weights().is_file():
        columns["lpips"] = lpips(originals, images, rows)
    return columns


def by_group(rated: pd.DataFrame, table: pd.DataFrame, attributes) -> pd.DataFrame:
    """Mean quality of each group with a normal 95 % interval over patients.

    Images that equal their original have an infinite PSNR. They enter no mean; they are counted. Of several sources the
    rows are made `comparable` first.

    Parameters
    ----------
    rated : DataFrame
        Rows as `rate` returns them, of one source.
    table : DataFrame
        The cohort.
    attributes : sequence of str

    Returns
    -------
    DataFrame
        Rows ``attribute, group, metric, value, low, high, patients``, and ``infinite``, the number of images left
        out because their value is infinite, or missing.
    """
    patients, traits = _by_patient(rated, table)
    rows = []
    for attribute in attributes:
        for group, members in patients.groupby(traits[attribute]):
            for metric in members.columns.intersection(["psnr", "ssim"], sort=False):
                values = members[metric].dropna()
                value, half = values.mean(), 1.96 * values.sem()
                row = {"value": value, "low": value - half, "high": value + half, "patients": len(values)}
                row["infinite"] = int(members[f"{metric}_infinite"].sum())
                rows.append({"attribute": attribute, "group": group, "metric": metric, **row})
    return pd.DataFrame(rows)


def comparable(rated: pd.DataFrame) -> pd.DataFrame:
    """Leave out of every source what one of them has infinite or missing, so that means are of the same images.

    Parameters
    ----------
    rated : DataFrame
        Rows as `rate` returns them, of several sources.

    Returns
    -------
    DataFrame
        The same rows; what is left out is missing.
    """
    values = rated[rated.columns.intersection(["psnr", "ssim"])]
    return rated.assign(**values.where(np.isfinite(values).groupby(rated.image_id.to_numpy()).transform("all")))


def gaps(rated: pd.DataFrame, table: pd.DataFrame, attributes) -> pd.DataFrame:
    """Largest difference in mean PSNR between the groups of each attribute, with Welch's test over patients.

    Parameters
    ----------
    rated, table, attributes
        As in `by_group`.

    Returns
    -------
    DataFrame
        Rows ``attribute, best, worst`` (groups), ``gap`` (dB), ``percent`` of the mean PSNR, and ``p``, that
        all groups have the same mean; groups of one patient are left out.
    """
    patients, traits = _by_patient(rated, table)
    psnr = patients.psnr.dropna()
    rows = []
    for attribute in attributes:
        groups = {group: values for group, values in psnr.groupby(traits[attribute]) if len(values) > 1}
        if len(groups) > 1:
            means = pd.Series({group: values.mean() for group, values in groups.items()})
            row = {"best": means.idxmax(), "worst": means.idxmin(), "gap": np.ptp(means)}
            p = anova_oneway(list(groups.values()), use_var="unequal").pvalue
            rows.append({"attribute": attribute, **row, "percent": 100 * np.ptp(means) / psnr.mean(), "p": p})
    return pd.DataFrame(rows, columns=["attribute", "best", "worst", "gap", "percent", "p"])


def _by_patient(rated: pd.DataFrame, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean quality of each patient over finite values, the number of infinite ones, and the patients' attributes."""
    values = rated[rated.columns.intersection(["psnr", "ssim"])]
    finite = values.where(np.isfinite(values)).groupby(rated.patient_id.to_numpy()).mean()
    infinite = (~np.isfinite(values)).groupby(rated.patient_id.to_numpy()).sum().add_suffix("_infinite")
    patients = finite.join(infinite).rename_axis("patient_id")
    traits = table.drop_duplicates("patient_id").set_index("patient_id").reindex(patients.index)
    return patients, traits


def _pair(originals, images, rows, start: int) -> list[np.ndarray]:
    """Some originals and the images to compare with them, float32 within [0, 1]."""
    some = [array[of[start : start + CHUNK]] for array, of in zip((originals, images), rows, strict=True)]
    return [np.asarray(each, np.float32).clip(0, 1) for each in some]


def _rated(originals, images, rows, start: int) -> np.ndarray:
    pairs = zip(*_pair(originals, images, rows, start), strict=True)
    return np.array([(psnr(original, image), ssim(original, image)) for original, image in pairs])
