"""What the tests share: real scans where they are at hand, and a study that is run once for all."""

import os
from pathlib import Path

import pytest
from smallest import HELD, make_everything

from reconfair import params, training


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real scans."""
    folder = os.environ.get("RECONFAIR_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RECONFAIR_DATA does not name a folder of real scans")
    return Path(folder)


@pytest.fixture(autouse=True)
def every_epoch_is_written(monkeypatch):
    """A slow disk would let a training skip its last checkpoint, which tests of resuming compare."""
    monkeypatch.setattr(training, "MOMENT", float("inf"))


@pytest.fixture
def outputs(tmp_path, monkeypatch) -> Path:
    """An empty output root of the test's own."""
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The held study, run up to chapter 06, and the tables that it leaves; its output root is set."""
    study = params.load(HELD / "study.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(tmp_path_factory.mktemp("smallest")))
        yield study, make_everything(study)


@pytest.fixture(scope="session")
def smallest(made):
    """A finished study, small enough for a minute."""
    return made[0]
