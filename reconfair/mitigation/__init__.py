"""Chapter 06: mitigation. Fine-tune the reconstructor; the diagnosis stays frozen.

A strategy is a module of this folder with one function, ``adapt(module, groups)``. It returns the
reconstructor, its loss changed or not, and the weights with which training images are drawn.
"""

from functools import partial
from importlib import import_module
from pathlib import Path

import pandas as pd

from reconfair import data, recon, store
from reconfair.params import Study


def finetune(study: Study, model: str, strategy: str) -> Path:
    """Fine-tune `model` from its standard weights by `strategy` unless that is fresh; return its folder."""
    product = store.flow(study)[f"{store.variant(model, strategy)}/model"]
    return store.make(product, partial(_finetune, study, model, strategy))


def groups(study: Study) -> pd.DataFrame:
    """Attributes of the images that train the reconstruction, missing ones as ``unknown``."""
    table = data.load(study).table
    chosen = table.iloc[data.rows(table, "recon")][list(study.attributes("mitigation"))]
    return chosen.fillna("unknown")


def _finetune(study: Study, model: str, strategy: str, part: Path) -> None:
    settings = study.mitigation
    module = recon.load(study, model).train().requires_grad_(True)
    module.settings = {
        **module.settings,
        "lr": module.settings["lr"] * settings.lr_factor,
        "epochs": settings.epochs,
        "seed": settings.seed,
    }
    module, weights = import_module(f"reconfair.mitigation.{strategy}").adapt(module, groups(study))
    recon.fit(study, module, part, store.variant(model, strategy), settings.epochs, weights)
