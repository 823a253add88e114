"""The demos at their smallest size: the same code in seconds."""

from reconfair.store import PACKAGE

PARAMS = PACKAGE.parent / "params"
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
