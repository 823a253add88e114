"""Noisy images made elsewhere, such as a second scan at a quarter of the dose; nothing is simulated."""

from typing import ClassVar

from pydantic import Field

from reconfair.data import elsewhere


class Given(elsewhere.Given):
    """Noisy images read from files."""

    COLOUR: ClassVar = True  # images may have three channels
    level: str = Field(
        "given", pattern=r"^[A-Za-z0-9_.]+$", max_length=80
    )  # names the noise level, the folder of its outputs
