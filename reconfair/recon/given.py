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
    return [line for of in _sections(study) for line in elsewhere.check(study, *of)]


def notes(study: Study) -> list[str]:
    """What is no mistake and matters, of images that `check` accepts; see `elsewhere.notes`."""
    return [line for of in _sections(study) for line in elsewhere.notes(study, *of)]


def _sections(study: Study) -> list[tuple]:
    """Settings of all images made elsewhere, the key of their section, and which images of the cohort they need."""
    given = [(study.noise, "noise", "all")] if study.noise.kind == "given" else []
    others = [model for model in study.models if model not in study.trained]
    return given + [(getattr(study.reconstruction, model), f"reconstruction.{model}", "eval") for model in others]
