"""Reconstructions made elsewhere, such as those of a scanner: nothing is trained here."""

from reconfair import store
from reconfair.data import elsewhere
from reconfair.params import Source, Study
from reconfair.store import Product


class Given(elsewhere.Given):
    """Reconstructions of the validation and test images, read from files."""


def product(study: Study, source: Source) -> Product:
    """The images of a model that is not trained here, and their quality."""
    settings = getattr(study.reconstruction, source.model)
    return elsewhere.product(
        study,
        settings,
        source.model,
        "eval",
        chapter="03" if study.noise.kind != "none" else "04",  # without noise there is no chapter 03
        run=study.name,
        folder=store.outputs() / study.name / study.fold / "sources" / source.model,
        name="reconstructed",
        job=study.job(source.model),
        code=(__name__,),
    )


def check(study: Study) -> list[str]:
    """Name folders and images that are not there: reconstructions made elsewhere, and noisy images."""
    lines = elsewhere.check(study, study.noise, "noise", "all") if study.noise.kind == "given" else []
    for model in study.models:
        if model not in study.trained:
            lines += elsewhere.check(study, getattr(study.reconstruction, model), f"reconstruction.{model}", "eval")
    return lines
