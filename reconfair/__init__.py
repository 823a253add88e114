"""ReconFair: what image reconstruction does to a diagnosis, and to whom.

``import reconfair as rf`` reaches every room (``rf.data``, ``rf.noise``, ...); a room is imported
when it is first used, so that a chapter pays only for what it needs.
"""

from importlib import import_module

__version__ = "0.1.0"
ROOMS = ("data", "diagnosis", "fairness", "figures", "mitigation", "noise", "params", "quality", "recon", "report")
ROOMS += ("store", "tables", "truth")


def __getattr__(room: str):
    if room not in ROOMS:
        raise AttributeError(f"module 'reconfair' has no attribute '{room}'")
    return import_module(f"reconfair.{room}")
