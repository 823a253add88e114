"""The demos at their smallest size: the same code in seconds."""

from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from reconfair import data, diagnosis, judge, mitigation, noise, recon
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
        data.prepare(study)
        noise.prepare(study)
        for model in study.reconstruction.models:
            recon.train(study, model)
            recon.reconstruct(study, model)
        for network in study.networks:
            diagnosis.train(study, network)
        for source in ("original", "noisy", *study.reconstruction.models):
            diagnosis.predict(study, source)
        for model, strategy in study.mitigated:
            mitigation.mitigate(study, model, strategy)
    tables = {name: judge.collect(study, name, mitigated=True) for name in ("predictions", "quality")}
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
