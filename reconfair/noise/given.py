"""Noisy images made elsewhere, such as a second scan at a quarter of the dose; nothing is simulated."""

from typing import ClassVar

from pydantic import Field, field_validator

from reconfair.data import elsewhere

TAKEN = ("cohort", "noise", "readers", "originals", "synthesis")  # folders beside those of the levels


class Given(elsewhere.Given):
    """Noisy images read from files."""

    COLOUR: ClassVar = True  # images may have three channels
    # Names the noise level, the folder of its outputs.
    level: str = Field("given", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.]*$", max_length=80)

    @field_validator("level")
    @classmethod
    def _is_free(cls, level: str) -> str:
        if level.lower() in TAKEN:
            raise ValueError(f"'{level}' is a folder of every dataset; give the level another name")
        return level
