"""The plainest noise, for teaching: independent normal noise in each pixel, clipped to [0, 1]."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from reconfair.keyed import generator
from reconfair.params import Section, Seed, off_default


class Gaussian(Section):
    """Normal noise of one standard deviation in every pixel; no scanner makes such noise."""

    kind: Literal["gaussian"]
    COLOUR: ClassVar = True  # images may have three channels
    sigma: Annotated[float, Field(ge=0, le=10)] = 0.1  # standard deviation; images lie within 0 and 1
    seed: Seed = 0

    @model_validator(mode="after")
    def _distinct(self):
        if float(name := f"{self.sigma:g}") != self.sigma:
            raise ValueError(f"sigma {self.sigma!r} and {name} would share the folder sigma-{name}; use {name}")
        return self

    @property
    def level(self) -> str:
        """Name of the noise level, such as ``sigma-0.1``; settings off the default are part of it."""
        return "_".join([f"sigma-{self.sigma:g}", *off_default(self, "seed")])


def measure(images, noise) -> np.ndarray:
    """The images as they are."""
    return images


def restore(images, ids, noise, size) -> np.ndarray:
    """Images with noise, clipped to [0, 1].

    Parameters
    ----------
    images : float32 array, shape (n, size, size) or (n, 3, size, size)
        Each channel has its own noise.
    ids : sequence of str
        One id per image; it keys the noise. Two levels draw the same noise at different strength.
    noise : Gaussian
    size : int
        Pixels a side.

    Returns
    -------
    float32 array, of the shape of `images`
    """
    streams = (generator(noise.seed, "noise", image_id) for image_id in ids)
    draws = np.array([stream.standard_normal(images.shape[1:], np.float32) for stream in streams])
    return np.clip(images + np.float32(noise.sigma) * draws, 0, 1, dtype=np.float32)


def steps(image, image_id, noise):
    """Show what is added to one image, by title: its absolute value, of the shape of the image."""
    drawn = generator(noise.seed, "noise", image_id).standard_normal(image.shape, np.float32)
    return {"size of the noise": noise.sigma * np.abs(drawn)}
