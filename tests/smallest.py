"""The demos at their smallest size: the same code in seconds."""

from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from reconfair import data, judge, mitigation, run, store
from reconfair.store import PACKAGE

PARAMS = PACKAGE.parent / "params"
HELD = PACKAGE.parent / "tests" / "held"  # a small study whose numbers are committed
SMALLEST = {
    "demo": [
        "dataset.patients=80",
        "reconstruction.unet.channels=4",
        "reconstruction.unet.depth=2",
        "reconstruction.unet.epochs=2",
        "reconstruction.pix2pix.channels=4",
        "reconstruction.pix2pix.epochs=1",
        "reconstruction.sde.channels=8",
        "reconstruction.sde.depth=2",
        "reconstruction.sde.epochs=1",
        "reconstruction.sde.evaluations=3",
        "diagnosis.classify.epochs=1",
        "diagnosis.classify.size=32",
        "diagnosis.segment.epochs=1",
        "fairness.resamples=99",
        "fairness.min_cases=2",
        "mitigation.epochs=1",
        "readers.strategies=[fairread, cascade]",
        "readers.fairread.epochs=1",
        "readers.fairread.latent=8",
        "synthesis.baselines=[]",
        "synthesis.min_images=1",
        "synthesis.iterations=4",
        "synthesis.tuning=2",
        "synthesis.pairs=4",
        "synthesis.judged=4",
        "synthesis.steps=2",
        "synthesis.classifiers=[boosting]",
    ],
    "demo_xray": [
        "dataset.patients=120",
        "reconstruction.unet.channels=4",
        "reconstruction.unet.depth=2",
        "reconstruction.unet.epochs=1",
        "reconstruction.pix2pix.channels=4",
        "reconstruction.pix2pix.epochs=1",
        "reconstruction.sde.channels=8",
        "reconstruction.sde.depth=2",
        "reconstruction.sde.epochs=1",
        "reconstruction.sde.evaluations=3",
        "diagnosis.classify.epochs=1",
        "diagnosis.classify.size=32",
        "fairness.resamples=99",
        "fairness.min_cases=2",
        "mitigation.epochs=1",
        "synthesis.baselines=[]",
        "synthesis.min_images=1",
        "synthesis.iterations=4",
        "synthesis.tuning=2",
        "synthesis.pairs=4",
        "synthesis.judged=4",
        "synthesis.steps=2",
        "synthesis.classifiers=[boosting]",
    ],
}


def make_everything(study) -> dict:
    """Run a study up to chapter 06 without notebooks, with one thread, into RECONFAIR_OUTPUTS.

    Returns
    -------
    dict of DataFrame
        ``cohort``, and ``predictions`` and ``quality`` of all sources and strategies.
    """
    with one_thread():
        for product in run.every_product(study):
            if product.chapter <= "06" and product.folder.name != "chapters":
                store.make(product)
    read = [*judge.predictions(study), *(mitigation.predictions(study, source) for source in study.mitigated)]
    tables = {"predictions": judge.collect("predictions", read)}
    tables["quality"] = judge.collect("quality", mitigation.qualities(study))
    return {"cohort": data.load(study).table, **tables}


@contextmanager
def one_thread():
    """Compute with one thread, whatever OMP_NUM_THREADS is: the order of sums, and so every digit, is then fixed."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
