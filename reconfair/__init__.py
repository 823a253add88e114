"""ReconFair: what image reconstruction does to a diagnosis, and to whom.

``import reconfair as rf`` reaches every room (``rf.data``, ``rf.noise``, ...). The rooms imported here register the
settings of what they hold; the others, and everything that needs torch, are imported when they are first used.
"""

from importlib import import_module

from reconfair import data, noise, params, recon, remedies, store, synthesis, tables  # noqa: F401

__version__ = "0.2.0"
ROOMS = (
    "diagnosis",
    "fair_diagnosis",
    "fairness",
    "figures",
    "judge",
    "mitigation",
    "perceptual",
    "quality",
    "report",
    "truth",
    "two_stages",
    "words",
)


def __getattr__(room: str):
    if room not in ROOMS:
        raise AttributeError(f"module 'reconfair' has no attribute '{room}'")
    return import_module(f"reconfair.{room}")
