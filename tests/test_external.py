"""Classes in a file of the user's own: a dataset, a reconstructor and a remedy, without an edit of the package."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from smallest import make_everything

from reconfair import data, mitigation, params, recon, run, tables
from reconfair.params import ParamsError, Source

SECTIONS = {
    "dataset": {"name": "toys.py:Discs", "size": 32, "split": [0.5, 0.25, 0.25]},
    "noise": {"kind": "kspace", "acceleration": 4},
    "reconstruction": {"models": ["toys.py:Toy"], "toy": {"gain": 0.8}},
    "diagnosis": {
        "classify": {"architecture": "test_resnet", "pretrained": False, "size": 32, "epochs": 4, "lr": 5e-3}
    },
    "fairness": {"resamples": 99, "min_cases": 2},
    "mitigation": {"strategies": ["toys.py:Shrink@20", "reweight+toys.py:Shrink"], "epochs": 2, "lr_factor": 1},
    "compute": {"device": "cpu", "workers": 2},
}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder of the user's own, with the file of toys in it."""
    shutil.copy(Path(__file__).with_name("toys.py"), tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def changed(section: str, **keys) -> dict:
    return {**SECTIONS, section: {**SECTIONS[section], **keys}}


@pytest.mark.usefixtures("here", "outputs")
def test_a_study_of_classes_of_the_user_s_own_runs_up_to_chapter_06_with_worker_processes():
    study = params.study(**SECTIONS)
    assert study.name == "discs/x4" and study.models == ("toy",)
    assert [str(source) for source in study.mitigated] == ["toy-shrink@20", "toy-reweight+shrink"]
    made = make_everything(study)
    products = [product for product in run.every_product(study) if product.chapter <= "06"]
    assert all(product.fresh for product in products if product.folder.name != "chapters")
    assert len(made["cohort"]) == 80 and set(made["predictions"].task) == {"bright"}
    assert set(made["predictions"].source) == {"original", "noisy", "toy"}
    performance = tables.read("performance", mitigation.judged(study).folder)
    assert set(performance.strategy) == {"standard", "shrink@20", "reweight+shrink"}
    dark = np.load(mitigation.images(study, Source("toy", "shrink@20")).folder / "reconstructed.npy").mean()
    originals = data.load(study).images.astype(float).mean()
    assert 0.95 * originals < recon.reconstruct(study, "toy").astype(float).mean() < 1.05 * originals
    assert dark < 0.95 * originals


@pytest.mark.usefixtures("outputs")
def test_what_is_made_depends_on_the_text_of_the_file(here):
    study = params.study(**SECTIONS)
    products = data.product(study), recon.weights(study, Source("toy")), mitigation.weights(study, study.mitigated[0])
    for product in products:
        assert any(Path(name).name == "toys.py" for name in product.code)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("sections", "named"),
    {
        "class of a model": (changed("reconstruction", models=["toys.py:Toi"]), "'Toi'.*'Toy'"),
        "class of a dataset": (changed("dataset", name="toys.py:Disc"), "'Disc'.*'Discs'"),
        "class of a remedy": (changed("mitigation", strategies=["toys.py:Shrnk"]), "'Shrnk'.*'Shrink'"),
        "file of a model": (changed("reconstruction", models=["toyz.py:Toy"]), r"toyz\.py:Toy.*'toys\.py'"),
        "file of a dataset": (changed("dataset", name="toyz.py:Discs"), r"toyz\.py:Discs.*'toys\.py'"),
        "file of a remedy": (changed("mitigation", strategies=["toyz.py:Shrink"]), r"toyz\.py:Shrink.*'toys\.py'"),
        "remedy for a model": (changed("reconstruction", models=["toys.py:Shrink"]), "toys.py:Shrink.*Settings"),
        "model for a dataset": (changed("dataset", name="toys.py:Toy"), "toys.py:Toy.*about"),
        "dataset for a remedy": (changed("mitigation", strategies=["toys.py:Discs"]), "toys.py:Discs.*terms"),
        "key of a model": (changed("reconstruction", toy={"gian": 1}), r"reconstruction\.toy\.gian.*'gain'"),
        "key of a dataset": (changed("dataset", patiens=9), r"dataset\.patiens.*'patients'"),
        "value of a dataset": (changed("dataset", patients=9), r"dataset\.patients.*9"),
        "value of a model": (changed("reconstruction", toy={"gain": 0}), r"reconstruction\.toy\.gain.*0"),
        "strength of a remedy": (changed("mitigation", strategies=["toys.py:Shrink@-1"]), r"toys\.py:Shrink@-1"),
    }.values(),
)
def test_what_is_given_wrong_is_refused_with_its_key_and_the_nearest_that_is_right(sections, named):
    with pytest.raises(ParamsError, match=named) as error:
        params.study(**sections)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["UNet", "Noisy", "Original", "Seed", "Settings"])
def test_a_model_of_the_name_of_another_thing_is_refused(here, name):
    (here / "mine.py").write_text(f"from toys import Toy\nclass {name}(Toy): pass\n")
    with pytest.raises(ParamsError, match=rf"reconstruction\.models: 'mine\.py:{name}'"):
        params.study(**changed("reconstruction", models=[f"mine.py:{name}"], toy={}))


@pytest.mark.parametrize("name", ["Reweight", "Thresholds", "Standard"])
def test_a_remedy_of_the_name_of_another_strategy_is_refused(here, name):
    (here / "mine.py").write_text(f"from toys import Shrink\nclass {name}(Shrink): pass\n")
    with pytest.raises(ParamsError, match=rf"mitigation: strategies: 'mine\.py:{name}'"):
        params.study(**changed("mitigation", strategies=[f"mine.py:{name}"]))


def test_a_dataset_of_the_name_of_another_is_refused(here):
    (here / "mine.py").write_text("from toys import Discs\nclass LGG(Discs): pass\n")
    with pytest.raises(ParamsError, match=r"dataset\.name: 'mine\.py:LGG'"):
        params.study(**changed("dataset", name="mine.py:LGG"))


def test_two_models_of_one_name_are_refused(here):
    shutil.copy(here / "toys.py", here / "mine.py")
    with pytest.raises(ParamsError, match=r"reconstruction\.models: 'mine\.py:Toy'"):
        params.study(**changed("reconstruction", models=["toys.py:Toy", "mine.py:Toy"]))


def test_a_file_that_cannot_be_run_is_refused_with_the_reason(here):
    (here / "mine.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(ParamsError, match=r"mine\.py.*nothing_of_this_name"):
        params.study(**changed("reconstruction", models=["mine.py:Toy"]))


def test_a_file_is_that_of_the_folder_one_works_in(here, tmp_path_factory, monkeypatch):
    first = params.study(**SECTIONS)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "toys.py").write_text((here / "toys.py").read_text().replace("= 80", "= 90"))
    monkeypatch.chdir(elsewhere)
    assert (first.dataset.patients, params.study(**SECTIONS).dataset.patients) == (80, 90)
