"""Chapter 06: mitigation. Fine-tune the reconstructor; the diagnosis stays frozen.

A strategy is one remedy or several joined by ``+``, each with its strength after ``@`` where it is not the usual one:
``reweight``, ``eodd@0.3``, ``reweight+adv``. `penalties` brings remedies into the training of a reconstructor. The
strategy ``thresholds`` leaves the images alone and moves the decision, for comparison.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from reconfair import data, diagnosis, judge, recon, remedies, store
from reconfair.params import ParamsError, Reader, Source, Study, external, file_of, is_external
from reconfair.store import Product


@store.once
def weights(study: Study, source: Source, against: str = "standard") -> Product:
    """A reconstructor that a strategy has fine-tuned, the frozen readers being those of strategy `against`."""
    settings = study.mitigation.model_dump(mode="json", exclude={"strategies", "models", "lam"})
    words, usual = study.remedies(source), against == "standard"
    readers = [diagnosis.weights(study, Reader(network, against)) for network in study.networks_of(against)]
    place = str(source) if usual else f"{source}~{against}"
    return Product(
        chapter="06" if usual else "09",
        run=study.name,
        folder=store.outputs() / study.name / study.fold / "sources" / place,
        name="weights",
        write=partial(_finetune, study, source, against),
        parameters=settings | {"remedies": words},
        code=(
            "reconfair.training",
            __name__,
            f"{__name__}.penalties",
            "reconfair.remedies.remedy",
            *(str(file_of(word)) if is_external(word) else f"reconfair.remedies.{word}" for word in words),
            "reconfair.keyed",
        ),
        needs=(recon.weights(study, source.standard), *readers),
        job=study.job(place),
        work=partial(recon.training_work, study, source, study.mitigation.epochs),
        command=study.command,
    )


@store.once
def images(study: Study, source: Source, against: str = "standard") -> Product:
    """What a fine-tuned reconstructor makes of the val and test images."""
    return recon.product(study, source, weights(study, source, against))


@store.once
def predictions(study: Study, source: Source) -> Product:
    """What the readers say of a mitigated source."""
    if source.strategy == "thresholds":
        from reconfair.mitigation import thresholds

        return thresholds.product(study, source)
    return diagnosis.product(study, source, images(study, source))


def products(study: Study) -> list[Product]:
    """What this chapter makes."""
    made = []
    for fold in study.folds:
        for source in study.mitigated:
            if source.strategy != "thresholds":
                made += [weights(fold, source), images(fold, source)]
            made.append(predictions(fold, source))
    return [*made, judged(study)] if made else []


def check(study: Study) -> list[str]:
    """Name each remedy of the user's own that cannot be loaded, and models that lack gradients which a remedy needs."""
    mistakes, words = [], [word for source in study.mitigated for word in study.remedies(source)]
    for network in study.networks:
        usual = [word for word in words if network.model.endswith(".onnx") and not is_external(word)]
        if asking := [word for word in usual if remedies.find(word).terms]:
            fault = f"'{asking[0]}' needs gradients of diagnosis.models.{network.name}, and ONNX has none"
            mistakes.append(f"mitigation.strategies: {fault}")
    for word in filter(is_external, words):
        try:
            external(word)
        except ParamsError as error:
            mistakes.append(f"mitigation.strategies: {error}")
    return list(dict.fromkeys(mistakes))


def judged(study: Study) -> Product:
    """The tables with the mitigated sources beside the standard ones; without mitigation, those of chapter 05."""
    if not study.mitigated:
        return judge.product(study)
    read = [predictions(fold, source) for fold in study.folds for source in study.mitigated]
    read, rated = judge.predictions(study) + read, qualities(study)
    return judge.judged(study, "06", "mitigated", read, rated)


def qualities(study: Study) -> list[Product]:
    """Products that rate images: of the standard sources, then of the mitigated ones."""
    tuned = [source for source in study.mitigated if source.strategy != "thresholds"]
    return judge.qualities(study) + [images(fold, source) for fold in study.folds for source in tuned]


def mitigate(study: Study, source: Source) -> None:
    """Bring everything of one mitigated source up to date, from fine-tuning to predictions, in every fold.

    Raises
    ------
    ParamsError
        The standard weights are missing and take long to make.
    ValueError
        An attribute is the same for every training image.
    """
    for fold in study.folds:
        if source.strategy != "thresholds":
            store.make(weights(fold, source))
            store.make(images(fold, source))
        store.make(predictions(fold, source))


def groups(study: Study) -> pd.DataFrame:
    """Attributes of the images that train the reconstruction."""
    table = data.load(study).table
    chosen = table.iloc[data.rows(table, "recon")][list(study.attributes("mitigation"))]
    constant = [attribute for attribute in chosen if chosen[attribute].nunique() < 2]
    if constant:
        raise ValueError(
            f"mitigation.attributes: '{constant[0]}' is the same for all {len(chosen)} training images, so there is "
            "nothing to balance; leave it out"
        )
    if chosen.dropna().empty:
        raise ValueError(
            f"mitigation.attributes: no training image has all of {', '.join(chosen)}, so there is nothing to balance; "
            "name fewer attributes"
        )
    return chosen


def _finetune(study: Study, source: Source, against: str, folder: Path) -> None:
    from reconfair.mitigation.penalties import Penalties

    groups(study)  # refuses an attribute that does not vary
    settings = study.mitigation
    module = recon.load(study, source.model).train().requires_grad_(True)
    changes = {"epochs": settings.epochs, "seed": settings.seed, "lr": module.settings["lr"] * settings.lr_factor}
    module.settings = module.settings | changes
    penalties = Penalties(study, module, study.remedies(source), against)
    recon.fit(study, module, folder, str(source), settings.epochs, penalties.shares(), penalties)
