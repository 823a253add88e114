"""A generator of somebody else: a folder with a Stable Diffusion checkpoint, read by the package diffusers."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from reconfair import synthesis, training
from reconfair.keyed import seed_of
from reconfair.params import ParamsError, Study

PROMPT = {"mri": "a brain MRI slice of a patient, {cell}", "xray": "a chest radiograph of a patient, {cell}"}


def pipeline(folder: Path):
    """Load a Stable Diffusion checkpoint from a folder; nothing is downloaded.

    Raises
    ------
    ParamsError
        The package is not installed, or the folder holds no such checkpoint.
    """
    try:
        from diffusers import StableDiffusionPipeline
    except ImportError:
        raise ParamsError(
            "synthesis.diffusers: diffusers is not installed; pip install 'reconfair[diffusers]'"
        ) from None
    try:
        loaded = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None)
    except Exception as error:  # the library fails in many ways
        reason = str(error).splitlines()[0]
        raise ParamsError(f"synthesis.diffusers: {folder} holds no Stable Diffusion checkpoint ({reason})") from None
    loaded.set_progress_bar_config(disable=True)
    return loaded


def draw(study: Study, cells: np.ndarray, first: int = 0):
    """Yield images in batches, float32 as those of the cohort, of cells that are named in the prompt.

    Parameters
    ----------
    study : Study
    cells : ndarray of str
    first : int
        Number of the first image, from which its noise follows.
    """
    settings, shape = study.synthesis, study.dataset.shape
    model = pipeline(Path(settings.diffusers).expanduser()).to(training.device_of(study.compute))
    prompt = PROMPT.get(study.dataset.about.modality, "an image of a patient, {cell}")
    for start in range(0, len(cells), synthesis.BATCH):
        some = cells[start : start + synthesis.BATCH]
        seeds = [seed_of(settings.seed, "synthetic", "sample", first + start + number) for number in range(len(some))]
        made = model(
            [prompt.format(cell=cell) for cell in some],
            num_inference_steps=settings.steps,
            guidance_scale=synthesis.PUBLISHED_GUIDANCE if settings.as_published else settings.guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        ).images
        images = F.interpolate(torch.from_numpy(made).movedim(-1, 1), shape[-2:], mode="area").numpy()
        yield images if len(shape) == 3 else images.mean(1)
