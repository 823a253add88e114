"""Chapter 06: mitigation. Fine-tune the reconstructor; the diagnosis stays frozen.

A strategy is one part or several joined by ``+``, each with its strength after ``@`` where it is not
the default: ``reweight``, ``eodd@0.3``, ``reweight+adv``. What each does stands in the module of its name:

- ``reweight`` draws images unequally, ``dro`` weighs their losses unequally;
- ``eodd`` and ``adv`` add a penalty, what the frozen networks see in the reconstructions;
- ``thresholds`` leaves the images alone and moves the decision, for comparison.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from reconfair import data, diagnosis, recon, store
from reconfair.params import Study


def finetune(study: Study, model: str, strategy: str) -> Path:
    """Fine-tune `model` from its standard weights by `strategy` unless that is fresh; return its folder.

    Raises
    ------
    ParamsError
        The standard weights are missing, or of another configuration.
    ValueError
        An attribute is the same for every training image.
    """
    product = store.flow(study)[f"{store.variant(model, strategy)}/model"]
    return store.make(product, partial(_finetune, study, model, strategy))


def mitigate(study: Study, model: str, strategy: str) -> None:
    """Bring everything of one strategy up to date, from fine-tuning to predictions."""
    if strategy == "thresholds":
        from reconfair.mitigation import thresholds

        product = store.flow(study)[f"{store.variant(model, strategy)}/predictions"]
        store.make(product, partial(thresholds.write, study, model))
        return
    finetune(study, model, strategy)
    recon.reconstruct(study, model, strategy)
    diagnosis.predict(study, model, strategy)


def groups(study: Study) -> pd.DataFrame:
    """Attributes of the images that train the reconstruction, missing ones as ``unknown``."""
    table = data.load(study).table
    chosen = table.iloc[data.rows(table, "recon")][list(study.attributes("mitigation"))]
    constant = [attribute for attribute in chosen if chosen[attribute].nunique() < 2]
    if constant:
        raise ValueError(
            f"mitigation.attributes: '{constant[0]}' is the same for all {len(chosen)} training images, so there is "
            "nothing to balance; leave it out"
        )
    return chosen.fillna("unknown")


def _finetune(study: Study, model: str, strategy: str, part: Path) -> None:
    from reconfair.mitigation.penalties import Penalties
    from reconfair.mitigation.reweight import weights

    settings, parts, grouped = study.mitigation, study.mitigation.parts(strategy), groups(study)
    module = recon.load(study, model).train().requires_grad_(True)
    module.settings = {
        **module.settings,
        "lr": module.settings["lr"] * settings.lr_factor,
        "epochs": settings.epochs,
        "seed": settings.seed,
    }
    shares = weights(grouped, parts["reweight"]).to_numpy() if parts.get("reweight") else None
    penalties = Penalties(study, module, parts)
    recon.fit(study, module, part, store.variant(model, strategy), settings.epochs, shares, penalties)
