"""Reading scans from files: one clear error that names the file, one scale, one size."""

from pathlib import Path

import numpy as np
from PIL import Image
from skimage.transform import resize


def read(path: Path) -> np.ndarray:
    """Read a PNG, JPEG or TIFF as stored: (height, width) or (height, width, channels).

    Raises
    ------
    ValueError
        The file is missing, truncated or no image; it is named.
    """
    try:
        with Image.open(path) as file:
            return np.asarray(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as an image ({error})") from None


def scaled(image: np.ndarray, size: int) -> np.ndarray:
    """Min-max scale to [0, 1] and resize to (size, size) with anti-aliasing; a constant image is black."""
    image = image.astype(np.float32)
    low, high = image.min(), image.max()
    image = (image - low) / (high - low) if high > low else np.zeros_like(image)
    return image if image.shape == (size, size) else resize(image, (size, size), anti_aliasing=True).clip(0, 1)


def mask(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a mask to (size, size): a pixel belongs to it where more than half of its area does."""
    inside = (image > 0).astype(np.float32)
    return (inside if inside.shape == (size, size) else resize(inside, (size, size), anti_aliasing=True)) > 0.5
