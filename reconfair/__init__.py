"""ReconFair: what image reconstruction does to a diagnosis, and to whom."""

__version__ = "0.1.0"
