"""What the tests share: real scans where they are at hand, and the demos at their smallest size."""

import os
from pathlib import Path

import pytest
from smallest import PARAMS, SMALLEST

from reconfair import data, diagnosis, mitigation, noise, params, recon


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real scans."""
    folder = os.environ.get("RECONFAIR_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RECONFAIR_DATA does not name a folder of real scans")
    return Path(folder)


@pytest.fixture
def outputs(tmp_path, monkeypatch) -> Path:
    """An empty output root of the test's own."""
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def smallest(tmp_path_factory):
    """The MRI demo at its smallest, run up to chapter 06 without notebooks; its output root is set."""
    folder = tmp_path_factory.mktemp("smallest")
    study = params.load(PARAMS / "demo.yaml", SMALLEST["demo"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(folder))
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
        yield study
