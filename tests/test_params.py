"""Parameters: what is left out is the paper's, and every mistake is named with what was expected."""

import re
import shlex
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from reconfair import data, params, recon, store
from reconfair.params import ParamsError, Source
from reconfair.run import every_product

ROOT = store.PACKAGE.parent
MRI, XRAY = {"name": "phantom_mri"}, {"name": "phantom_xray"}


def study(**sections):
    return params.study(**({"dataset": MRI} | sections))


def dialled(dial, attribute, group, value):
    return {"dataset": {**MRI, "dials": {dial: {attribute: {group: value}}}}}


def table(**settings):
    return {"dataset": {"name": "table", **settings}}


def write(folder, text, name="study.yaml"):
    path = folder / name
    path.write_text(text)
    return path


# --- what is left out ---


def test_networks_default_to_the_papers_training():
    unet = study().reconstruction.unet
    assert (unet.epochs, unet.batch_size, unet.lr, unet.channels, unet.depth) == (20, 16, 1e-3, 64, 4)
    segment = study().diagnosis.segment
    assert (segment.epochs, segment.batch_size, segment.lr) == (20, 8, 1e-3)


def test_classifier_defaults_to_the_papers_for_the_modality():
    mri = study().diagnosis.classify
    assert (mri.architecture, mri.epochs, mri.batch_size, mri.lr, mri.weight_decay) == ("resnet50", 20, 16, 1e-4, 0)
    xray = study(dataset=XRAY).diagnosis.classify
    assert (xray.architecture, xray.epochs, xray.lr, xray.weight_decay) == ("densenet121", 50, 1e-3, 1e-5)
    assert (xray.size, xray.value_range) == (224, (-1024, 1024))
    assert mri.pretrained and xray.pretrained


def test_a_named_setting_of_the_classifier_leaves_the_others_as_the_papers():
    classify = study(dataset=XRAY, diagnosis={"classify": {"epochs": 3}}).diagnosis.classify
    assert (classify.epochs, classify.architecture, classify.size) == (3, "densenet121", 224)


def test_statistics_and_fine_tuning_default_to_the_papers():
    whole = study(mitigation={})
    assert (whole.fairness.resamples, whole.fairness.eodd, whole.fairness.inference) == (1000, "mean", "closed_form")
    assert (whole.mitigation.epochs, whole.mitigation.lr_factor) == (10, 0.1)
    assert (whole.dataset.split, whole.dataset.size) == ((0.7, 0.1, 0.2), 256)


def test_noise_defaults_to_the_methods():
    kspace, sinogram = (study(noise={"kind": kind}).noise for kind in ("kspace", "sinogram"))
    assert (kspace.angles, kspace.magnitude) == ("golden", "complex")
    assert (sinogram.angles, sinogram.attenuation, sinogram.bowtie) == (256, 4, 0.2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lgg", "kspace"),
        ("phantom_mri", "kspace"),
        ("nih", "sinogram"),
        ("chexpert", "sinogram"),
        ("ucsf_pdgm", "kspace"),
    ],
)
def test_noise_defaults_to_that_of_the_modality(name, kind):
    assert study(dataset={"name": name}).noise.kind == kind


@pytest.mark.parametrize(
    ("name", "attributes"), [("phantom_mri", ("sex", "age_group", "race")), ("nih", ("sex", "age_group"))]
)
def test_attributes_default_to_those_that_the_dataset_records(name, attributes):
    whole = study(dataset={"name": name}, mitigation={})
    assert whole.attributes() == whole.attributes("mitigation") == attributes


def test_named_attributes_win():
    whole = study(fairness={"attributes": ["race_merged"]}, mitigation={})
    assert whole.attributes() == ("race_merged",) and whole.attributes("mitigation") == ("sex", "age_group", "race")


# --- what is derived ---


def test_an_mri_has_a_network_for_each_task():
    assert [(n.name, n.kind, n.tasks) for n in study().networks] == [
        ("grade", "classify", ("grade",)),
        ("type", "classify", ("type",)),
        ("tumour", "segment", ("tumour",)),
    ]


def test_a_radiograph_has_one_network_for_all_findings():
    (network,) = study(dataset=XRAY, diagnosis={"tasks": ["nodule", "effusion"]}).networks
    assert network[:3] == ("findings", "classify", ("nodule", "effusion"))


@pytest.mark.parametrize(
    ("noise", "level"),
    [
        ({"kind": "kspace"}, "x8"),
        ({"kind": "kspace", "acceleration": 4.5}, "x4.5"),
        ({"kind": "kspace", "angles": "uniform", "magnitude": "real_part"}, "x8_angles-uniform_magnitude-real_part"),
        ({"kind": "sinogram"}, "1e4"),
        ({"kind": "sinogram", "photons": 3000}, "3e3"),
        ({"kind": "sinogram", "photons": 1e5}, "1e5"),
        ({"kind": "sinogram", "photons": 12500}, "1.25e4"),
        ({"kind": "sinogram", "bowtie": 0.5, "seed": 3}, "1e4_bowtie-0.5_seed-3"),
    ],
)
def test_level_is_named_for_the_noise(noise, level):
    whole = study(noise=noise)
    assert whole.level == level and whole.name == f"phantom_mri/{level}"


def test_label_names_the_folder():
    assert study(dataset={**MRI, "label": "small"}).name == "small/x8"


def test_every_reconstructor_is_fine_tuned_unless_some_are_named():
    tried = ("reweight", "eodd", "adv")
    alone = study(mitigation={"models": ["unet"]}).mitigated
    assert alone == tuple(Source("unet", strategy) for strategy in tried)
    models = ("unet", "pix2pix", "sde")
    assert study(mitigation={}).mitigated == tuple(Source(model, strategy) for model in models for strategy in tried)
    assert study().mitigated == ()


def test_settings_tell_all_that_a_training_depends_on():
    whole = study(reconstruction={"seed": 5}, diagnosis={"seed": 6})
    assert whole.reconstruction.settings("unet")["seed"] == 5 and whole.reconstruction.settings("unet")["epochs"] == 20
    settings = whole.diagnosis.settings(whole.networks[0])
    assert (settings["seed"], settings["tasks"], settings["architecture"]) == (6, ["grade"], "resnet50")


def test_a_study_does_not_change_once_read():
    with pytest.raises(ValueError, match="frozen"):
        study().dataset.size = 64


# --- mistakes ---

# Sections, and what the error names: the key, the value and the nearest valid choice.
MISTAKES = {
    "section": ({"datset": MRI}, ["did you mean 'dataset'?"]),
    "key": (
        {"reconstruction": {"unet": {"epoch": 3}}},
        ["reconstruction.unet.epoch", "'reconstruction.unet'"],
    ),
    "nearest key": ({"reconstruction": {"unet": {"epoch": 3}}}, ["did you mean 'epochs'?"]),
    "key near none": (
        {"mitigation": {"zzz": 3}},
        ["mitigation.zzz", "strategies", "adversary_lr"],
    ),
    "key of a dataset": (
        {"dataset": {**MRI, "pateints": 9}},
        ["dataset.pateints", "'dataset'"],
    ),
    "key of another dataset": (
        {"dataset": {"name": "lgg", "patients": 90}},
        ["dataset.patients", "'dataset'"],
    ),
    "key of a noise": (
        {"noise": {"kind": "kspace", "angle": 3}},
        ["noise.angle", "'noise'", "did you mean 'angles'?"],
    ),
    "key of another noise": ({"noise": {"kind": "kspace", "photons": 9}}, ["noise.photons", "'noise'"]),
    "key of the dials": ({"dataset": {**MRI, "dials": {"contrst": {}}}}, ["dataset.dials.contrst"]),
    "key that names a dataset": ({"lgg": {}}, ["lgg: unknown key", "dataset", "noise"]),
    "key that names a noise": ({"noise": {"kind": "kspace", "sinogram": {}}}, ["noise.sinogram", "'noise'"]),
    "type": ({"fairness": {"seed": "x"}}, ["fairness.seed"]),
    "section that is none": ({"diagnosis": 3}, ["diagnosis", "3"]),
    "dataset that is none": ({"dataset": "lgg"}, ["dataset", "'lgg'"]),
    "list that is none": ({"fairness": {"attributes": "sex"}}, ["fairness.attributes"]),
    "range": (
        {"fairness": {"resamples": 5}},
        ["fairness.resamples", "99", "5"],
    ),
    "range of a rate": (
        {"reconstruction": {"unet": {"lr": 0}}},
        ["reconstruction.unet.lr", "0"],
    ),
    "not finite": (
        {"noise": {"kind": "sinogram", "photons": float("inf")}},
        ["noise.photons", "finite"],
    ),
    "not a number": ({"mitigation": {"lr_factor": float("nan")}}, ["mitigation.lr_factor"]),
    "size": ({"dataset": {**MRI, "size": 65}}, ["dataset.size", "16", "65"]),
    "length": (
        {"diagnosis": {"segment": {"decoder": [8, 8]}}},
        ["diagnosis.segment.decoder"],
    ),
    "label": ({"dataset": {**MRI, "label": "a/b"}}, ["dataset.label"]),
    "label too long for a file system": ({"dataset": {**MRI, "label": "x" * 300}}, ["dataset.label", "80"]),
    "choice": (
        {"fairness": {"eodd": "worstcase"}},
        ["'worstcase'", "did you mean 'worst_case'?"],
    ),
    "choice in a list": (
        {"reconstruction": {"models": ["unett"]}},
        ["reconstruction.models", "'unett'", "did you mean 'unet'?"],
    ),
    "dataset's name": (
        {"dataset": {"name": "lgg2"}},
        ["dataset.name", "'lgg2'", "did you mean 'lgg'?"],
    ),
    "noise's kind": ({"noise": {"kind": "kspac"}}, ["noise.kind", "'kspac'", "did you mean 'kspace'?"]),
    "no dataset's name": (
        {"dataset": {"size": 64}},
        ["dataset.name", "missing", "phantom_mri", "table"],
    ),
    "no dataset": ({"dataset": None}, ["dataset", "null"]),
    "split": ({"dataset": {**MRI, "split": [0.7, 0.1, 0.1]}}, ["split", "0.9"]),
    "split in two": ({"dataset": {**MRI, "split": [0.7, 0.3]}}, ["dataset.split: value 3 is missing"]),
    "unreachable": ({"noise": {"kind": "kspace", "acceleration": 1.1}}, ["1.3"]),
    "task": (
        {"diagnosis": {"tasks": ["grad"]}},
        ["diagnosis.tasks", "'grad'", "did you mean 'grade'?"],
    ),
    "task of another dataset": (
        {"dataset": XRAY, "diagnosis": {"tasks": ["tumour"]}},
        ["'tumour'"],
    ),
    "attribute": (
        {"fairness": {"attributes": ["rase"]}},
        ["'rase'", "did you mean 'race'?"],
    ),
    "attribute not recorded": (
        {"dataset": {"name": "nih"}, "fairness": {"attributes": ["race"]}},
        ["fairness.attributes", "'race'"],
    ),
    "merged attribute not recorded": (
        {"dataset": {"name": "nih"}, "mitigation": {"attributes": ["race_merged"]}},
        ["mitigation.attributes", "'race_merged'"],
    ),
    "model not in the study": (
        {"reconstruction": {"models": []}, "mitigation": {"models": ["unet"]}},
        ["mitigation.models", "'unet'"],
    ),
    "dial's attribute": (
        dialled("contrast", "sexx", "female", 0.1),
        ["'sexx'", "did you mean 'sex'?"],
    ),
    "dial's group": (
        dialled("prevalence", "sex", "femal", 0.1),
        ["prevalence.sex", "'femal'", "did you mean 'female'?"],
    ),
    "dial's range": (dialled("contrast", "sex", "female", -2), ["contrast.sex.female", "[-1, 1]", "-2"]),
    "dial's probability": (
        dialled("label_noise", "race", "Asian", -0.1),
        ["label_noise.race.Asian", "[0, 1]", "-0.1"],
    ),
    "dial's type": (
        dialled("contrast", "sex", "female", "a"),
        ["dataset.dials.contrast.sex.female"],
    ),
    "column's key": (
        table(sex={"column": "s", "valuse": {}}),
        ["dataset.sex.valuse", "'dataset.sex'", "did you mean 'values'?"],
    ),
    "task's key": (
        table(tasks={"grade": {"colum": "g"}}),
        ["dataset.tasks.grade.colum", "'dataset.tasks.grade'", "did you mean 'column'?"],
    ),
    "column of nothing": (table(age={"values": {}}), ["dataset.age.column"]),
    "sex that is none": (
        table(sex={"column": "s", "values": {"F": "femal"}}),
        ["dataset.sex.values.F", "'femal'", "did you mean 'female'?"],
    ),
    "label that is none": (
        table(tasks={"grade": {"column": "g", "values": {4: 2}}}),
        ["dataset.tasks.grade", "'4' is 2", "no entry is 0"],
    ),
    "age that is none": (
        table(age={"column": "a", "values": {"old": "very"}}),
        ["dataset.age.values.old"],
    ),
    "task of a column's name": (
        table(tasks={"split": "s"}),
        ["'split'"],
    ),
    "task of the mask": (table(mask={"column": "m", "task": "label"}), ["'label'"]),
    "task of a kept column": (table(keep=["label"]), ["'label'"]),
    "task that is no folder": (table(tasks={"a/b": "s"}), ["dataset.tasks.a/b"]),
    "no task": (table(tasks={}), ["dataset", "tasks", "mask"]),
    "no attribute": (table(sex=None, age=None, race=None), ["sex, age and race"]),
    "attribute of a table": (
        {**table(race=None), "fairness": {"attributes": ["race"]}},
        ["fairness.attributes", "'race'"],
    ),
    "task of a table": (
        {**table(tasks={"grade": "g"}), "diagnosis": {"tasks": ["grad"]}},
        ["diagnosis.tasks", "'grad'", "did you mean 'grade'?"],
    ),
    "file that is none": (table(file="a.xls"), ["dataset.file"]),
    "file outside": (table(file="../a.csv"), ["'../a.csv'"]),
    "file anywhere": (table(file="/a.csv"), ["'/a.csv'"]),
    "slices": (table(slices={"first": 5, "last": 4}), ["5", "4", "first"]),
    "window": (table(window=[5, 4]), ["[5, 4]"]),
    "percentiles": (table(percentiles=[0, 101]), ["dataset.percentiles.1", "100"]),
    "modality": (table(modality="ct"), ["dataset.modality", "'ct'"]),
    "release": (
        {"dataset": {"name": "chexpert", "release": "v1.0small"}},
        ["dataset.release", "'v1.0small'", "did you mean 'v1.0-small'?"],
    ),
    "key of CheXpert": (
        {"dataset": {"name": "chexpert", "unknown_rase": "drop"}},
        ["dataset.unknown_rase", "'dataset'", "did you mean 'unknown_race'?"],
    ),
    "named twice": ({"fairness": {"attributes": ["sex", "sex"]}}, ["'sex'"]),
    "negative seed": ({"diagnosis": {"seed": -1}}, ["diagnosis.seed", "-1"]),
    "negative seed of a dataset": ({"dataset": {**MRI, "seed": -1}}, ["dataset.seed", "-1"]),
    "truth value as number": ({"diagnosis": {"seed": True}}, ["diagnosis.seed", "True", "number"]),
    "split without validation": ({"dataset": {**MRI, "split": [1, 0, 0]}}, ["dataset", "split", "[1.0, 0.0, 0.0]"]),
    "range of one value": ({"diagnosis": {"classify": {"value_range": [0, 0]}}}, ["value_range", "[0.0, 0.0]"]),
    "half an intersection": ({"fairness": {"attributes": ["sex*"]}}, ["fairness.attributes", "''", "sex, age_group"]),
    "attribute without a name": ({"fairness": {"attributes": [""]}}, ["fairness.attributes", "''", "sex, age_group"]),
    "intersection with itself": ({"fairness": {"attributes": ["sex*sex"]}}, ["fairness.attributes", "'sex*sex'"]),
    "one strategy written twice": ({"mitigation": {"strategies": ["eodd@0.3", "eodd@0.30"]}}, ["'eodd@0.3'"]),
    "acceleration of another's folder": ({"noise": {"kind": "kspace", "acceleration": 8.0000001}}, ["8.0000001", "x8"]),
    "photons of another's folder": ({"noise": {"kind": "sinogram", "photons": 1e4 + 1e-5}}, ["photons", "10000.00001"]),
    "one strategy in two orders": ({"mitigation": {"strategies": ["eodd+adv", "adv+eodd"]}}, ["adv+eodd", "eodd+adv"]),
    "a usual strength written out": ({"mitigation": {"strategies": ["eodd", "eodd@1"], "lam": 1}}, ["'eodd@1'"]),
    "a strength of another script": ({"mitigation": {"strategies": ["eodd@\u0660.\u0663"]}}, ["strength", "eodd@0.3"]),
    "a strength with an underscore": ({"mitigation": {"strategies": ["eodd@1_0"]}}, ["'eodd@1_0'", "eodd@0.3"]),
    "an intersection twice": (
        {"fairness": {"attributes": ["sex*age_group", "age_group*sex"]}},
        ["fairness.attributes", "'age_group*sex'", "'sex*age_group'"],
    ),
    "a margin in percent": ({"fairness": {"margins": {"tpr": 5}}}, ["margins", "tpr", "0.05"]),
    "a seed of too many digits": ({"dataset": {**MRI, "seed": 10**20}}, ["dataset.seed"]),
    "a training twice": ({"two_stages": {"seeds": [1, 1]}}, ["two_stages", "seeds", "1 more than once"]),
    "an age beyond any": ({"dataset": {"name": "table", "age": {"column": "a", "values": {"x": 5000}}}}, ["120"]),
    "braces without an end": ({"dataset": {"name": "table", "image": "{x"}}, ["dataset.image", "{image_id}"]),
    "braces without a name": ({"dataset": {"name": "table", "image": "{}"}}, ["dataset.image", "{image_id}"]),
    "a fourth channel": ({"dataset": {"name": "table", "channel": 3}}, ["dataset.channel"]),
    "a task of too long a name": ({"dataset": {"name": "table", "tasks": {"x" * 99: "l"}}}, ["dataset.tasks", "80"]),
    "no section": ({"noise": None}, ["noise", "null", "{}", "noise: none"]),
    "null with dials": (
        {"dataset": {**MRI, "null": True, "dials": {"contrast": {"sex": {"female": 0.2}}}}},
        ["null: true", "dials"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_named(mistake):
    sections, words = MISTAKES[mistake]
    with pytest.raises(ParamsError) as error:
        study(**sections)
    assert all(word in str(error.value) for word in words), str(error.value)


CUTS = "expected median, none or a list of numbers, such as [25]"


def of_table(**settings):
    return {"dataset": {"name": "table", **settings}}


def of_labels(labels):
    return of_table(tasks={"s": {"column": "S", "labels": labels}})


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        *((of_table(attributes={"bmi": {"column": "b", "cuts": cuts}}), f"dataset.attributes.bmi.cuts: {CUTS}{end}")
          for cuts, end in ((25, ""), ("mean", "; did you mean 'median'?"), (["a"], ""), ([], ""), ([25, "b"], ""))),
        ({"dataset": {**MRI, "attributes": {"bmi": {"mean": 3, "sd": 1, "cuts": 25}}}},
         f"dataset.attributes.bmi.cuts: {CUTS}"),
        ({"dataset": {**MRI, "attributes": {"s": {"a": "x", "b": 0.5}}}}, "dataset.attributes.s.a: expected a number"),
        ({"synthesis": {"amount": "balanced"}}, "synthesis.amount: expected balance or a number; did you mean 'balance'?"),
        ({"synthesis": {"amount": -1}}, "synthesis.amount: expected balance or a number greater than 0"),
        ({"readers": {"fairread": {"rank": 2.5}}}, "readers.fairread.rank: expected energy or a whole number"),
        (of_labels({"I": "zero", "II": 1}), "dataset.tasks.s: labels: 'I' is 'zero', expected the number of a class"),
        (of_table(mask={"column": "m", "labels": {"x": "a"}}), "dataset.mask.labels.x: expected a whole number"),
        (of_table(folds=2.5), "dataset.folds: expected a whole number"),
        (of_table(window=[0, 1, 2]), "dataset.window: expected at most 2 values"),
        (of_table(channels="3"), "dataset.channels: '3' is text, expected 3 without quotes"),
        ({"compute": {"compile": "maybe"}}, "compute.compile: expected true or false"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_in_words(sections, sentence):
    with pytest.raises(ParamsError) as error:
        study(**sections)
    assert str(error.value).startswith(sentence) and len(str(error.value).splitlines()) == 1
    assert not any(word in str(error.value) for word in ("literal", "constrained", "tuple", "valid integer", "parse"))


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ParamsError) as error:
        params.study(datset=MRI, fairness={"resamples": 5, "eodd": "max"})
    assert len(str(error.value).splitlines()) == 4  # dataset missing, datset unknown, and two of fairness


# --- files ---


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset.patients", "'80'"),
        ("dataset.split", "['0.6', 0.2, 0.2]"),
        ("noise.acceleration", "'8'"),
        ("reconstruction.unet.lr", "'1e-3'"),
        ("fairness.min_cases", "'0100'"),
    ],
)
def test_text_in_place_of_a_number_is_refused(tmp_path, key, value):
    path = write(tmp_path, "dataset: {name: phantom_mri}\nnoise: {kind: kspace, acceleration: 8}\n")
    with pytest.raises(ParamsError) as error:
        params.load(path, [f"{key}={value}"])
    assert key in str(error.value) and value.strip("[").split(",")[0] in str(error.value)


def test_a_rate_that_yaml_reads_as_text_becomes_a_number(tmp_path):
    path = write(tmp_path, "dataset: {name: phantom_mri}\nreconstruction: {unet: {lr: 1e-3}}\n")
    assert params.load(path).reconstruction.unet.lr == 0.001


def test_overrides_win(tmp_path):
    path = write(tmp_path, "dataset: {name: phantom_mri}\nnoise: {kind: kspace, acceleration: 8}\n")
    overrides = ["noise.acceleration=4", "dataset.split=[0.6, 0.2, 0.2]", "reconstruction.unet.lr=1e-4"]
    whole = params.load(path, overrides)
    assert (whole.level, whole.dataset.split, whole.reconstruction.unet.lr) == ("x4", (0.6, 0.2, 0.2), 1e-4)


def test_a_params_file_that_is_not_there_is_looked_for_in_the_project(tmp_path, monkeypatch):
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "demo.yaml").write_text("dataset: {name: phantom_mri}\n")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / ".hidden.yaml").write_text("")
    for folder, word, expected in (
        (tmp_path, "demo", "'params/demo.yaml'"),
        (tmp_path / "notebooks", "params/demo.yaml", "'../params/demo.yaml'"),
        (tmp_path, "params/dmeo.yaml", "'demo.yaml'"),
        (tmp_path, "params", "params/demo.yaml"),
    ):
        monkeypatch.chdir(folder)
        with pytest.raises(ParamsError) as error:
            params.load(word)
        assert expected in str(error.value) and str(error.value).startswith(f"{word}: ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("acceleration=4", "--set acceleration=4: expected section.key=value, such as noise.acceleration=4"),
        ("noise.acceleration", "--set noise.acceleration: expected section.key=value"),
        ("noise.acelleration=4", "noise.acelleration: unknown key in 'noise'; did you mean 'acceleration'?"),
        ("noise.acceleration=0.5", "noise.acceleration: Input should be greater than or equal to 1"),
        ("noise.acceleration.x=4", "--set noise.acceleration.x=4"),
        ("dataset.split=[0.7", "--set dataset.split=[0.7"),
    ],
)
def test_wrong_override_is_named(tmp_path, override, message):
    path = write(tmp_path, "dataset: {name: phantom_mri}\nnoise: {kind: kspace, acceleration: 8}\n")
    with pytest.raises(ParamsError) as error:
        params.load(path, [override])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: [1", "not valid YAML"),
        ("- dataset", "expected sections such as 'dataset:', found list"),
        ("lgg", "expected sections such as 'dataset:', found str"),
        ("", "dataset: missing"),
        ("dataset: {name: lgg}\n1: 2", "1: unknown key"),
        ("dataset: {name: lgg, siez: 64}", "dataset.siez: unknown key in 'dataset'; did you mean 'size'?"),
    ],
)
def test_wrong_file_is_named_with_what_is_wrong(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ParamsError) as error:
        params.load(path)
    assert str(error.value).startswith(str(path)) and message in str(error.value)


def test_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "study.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ParamsError, match=r"study\.yaml: not valid YAML"):
        params.load(tmp_path / "study.yaml")


def test_missing_file_names_the_nearest(tmp_path):
    write(tmp_path, "", "lgg_x8.yaml")
    with pytest.raises(ParamsError, match=r"lgg_x4\.yaml.*did you mean 'lgg_x8\.yaml'\?"):
        params.load(tmp_path / "lgg_x4.yaml")


BOMB = ["a: &a [x, x, x, x, x, x, x, x, x]"]
BOMB += [f"{this}: &{this} [{', '.join([f'*{last}'] * 9)}]" for last, this in zip("abcdefgh", "bcdefghi", strict=True)]
HOSTILE = {
    "key that stands twice": ("dataset: {name: phantom_mri, size: 64, size: 128}\n", ["'size'", "line 1"]),
    "section that stands twice": ("dataset: {name: phantom_mri}\ndataset: {name: nih}\n", ["'dataset'", "line 2"]),
    "two keys of one number": ("dataset: {name: table, sex: {column: s, values: {1: male, 1.0: female}}}\n", ["'1.0'"]),
    "two keys of one truth": (
        "dataset: {name: table, tasks: {g: {column: g, labels: {yes: 1, true: 0}}}}\n",
        ["'true'"],
    ),
    "aliases of aliases": ("\n".join([*BOMB, "dataset: {name: phantom_mri, label: *i}"]), ["aliases"]),
    "list that holds itself": ("a: &a [*a]\n", ["aliases"]),
    "nested lists": ("a: " + "[" * 5000 + "]" * 5000, ["nested"]),
    "nested sections": ("a: " + "{a: " * 5000 + "1" + "}" * 5000, ["nested"]),
    "octal": ("dataset: {name: phantom_mri, patients: 0100}\n", ["0100", "'0100'", "line 1"]),
    "sexagesimal": ("dataset: {name: phantom_mri, patients: 1:30}\n", ["1:30", "'1:30'", "line 1"]),
    "two megabytes": ("dataset: {name: phantom_mri}\n#" + 2_000_000 * "x", ["100000 characters"]),
    "many keys": ("\n".join(f"k{number}: 1" for number in range(9_000)), ["5000 values"]),
    "many wrong keys": ("\n".join(f"dataseet{number}: 1" for number in range(2_000)), ["did you mean 'dataset'?"]),
    "a command": ("dataset: !!python/object/apply:os.system [ls]\n", ["line 1", "os.system"]),
}


@pytest.mark.parametrize(("text", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_reads_in_two_ways_or_has_no_end_is_refused_within_a_second(tmp_path, text, words):
    path, start = write(tmp_path, text), time.process_time()
    with pytest.raises(ParamsError) as error:
        params.load(path)
    assert time.process_time() - start < 1
    assert all(word in str(error.value) for word in ["study.yaml", *words]), str(error.value)[:500]
    assert len(str(error.value)) < 5_000


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1_000", 1000), ("-7", -7), ("1e-3", 1e-3), ("1.5E+3", 1500.0), (".5", 0.5), ("'0100'", "0100")],
)
def test_numbers_are_read_as_they_look(text, value):
    assert params.parsed(text) == value and type(params.parsed(text)) is type(value)


def test_without_noise_originals_alone_are_left(tmp_path):
    bare = params.load(write(tmp_path, "dataset: {name: phantom_mri}\nnoise: none\nmitigation: {}\n"))
    assert (bare.level, bare.models, bare.sources, bare.mitigated) == ("originals", (), (params.ORIGINAL,), ())


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"noise": {"acceleration": 4}},
        {"noise": "none"},
        {"noise": {"kind": "sinogram", "photons": 1e5}},
        {"dataset": {"split": (0.6, 0.2, 0.2), "label": "my-own"}, "reconstruction": {"models": ["unet"], "unet": {}}},
        {"mitigation": {}, "fairness": {"margins": {"eodd": np.float64(0.1)}, "attributes": ["sex*race", "sex"]}},
        {"dataset": {"dials": {"contrast": {"race": {"Native Hawaiian/Pacific Islander": -0.2}}}}},
    ],
)
def test_the_command_of_a_study_makes_the_very_same_study(sections):
    built = params.study(base="demo", **sections)
    words = shlex.split(built.command)
    assert words[:3] == ["reconfair", "run", "params/demo.yaml"] and set(words[3::2]) <= {"--set"}
    again = params.load(ROOT / words[2], words[4::2])
    assert again.model_dump(mode="json") == built.model_dump(mode="json")


# --- where real scans lie ---


def test_folder_of_scans_is_found_by_root_or_environment(tmp_path, monkeypatch):
    (tmp_path / "nih").mkdir()
    metadata = write(tmp_path / "nih", "Image Index\n", "Data_Entry_2017_v2020.csv")
    monkeypatch.setenv("RECONFAIR_DATA", str(tmp_path))
    assert study(dataset={"name": "nih"}).dataset.find() == metadata.parent.resolve()
    monkeypatch.setenv("RECONFAIR_DATA", "elsewhere")
    dataset = study(dataset={"name": "nih", "root": str(metadata.parent)}).dataset
    before = dataset.signature
    metadata.write_text("Image Index,Finding Labels\n")
    assert before != dataset.signature != ""


def test_a_large_metadata_file_is_read_once_for_all_products_of_a_study(tmp_path, monkeypatch):
    write(tmp_path, "Image Index\n", "Data_Entry_2017_v2020.csv")
    nih = study(dataset={"name": "nih", "root": str(tmp_path)})
    read, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or read_bytes(path))
    assert len(every_product(nih)) > 20
    assert read.count("Data_Entry_2017_v2020.csv") == 1


def test_a_product_that_many_need_is_put_together_once_until_its_place_or_its_metadata_change(tmp_path, monkeypatch):
    metadata = write(tmp_path, "Image Index\n", "Data_Entry_2017_v2020.csv")
    nih = study(dataset={"name": "nih", "root": str(tmp_path)})
    cohort = data.product(nih)
    assert data.product(nih) is cohort and cohort in recon.weights(nih, Source("unet")).needs
    sent = cloudpickle.loads(cloudpickle.dumps(nih))  # as a worker process gets it
    assert sent == nih and data.product(sent) == cohort and data.product(sent) is not cohort
    metadata.write_text("Image Index,Finding Labels\n")
    changed = data.product(nih)
    assert changed.fingerprint != cohort.fingerprint
    assert recon.weights(nih, Source("unet")).needs[0].fingerprint == changed.fingerprint
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path / "moved"))
    assert data.product(nih).folder.is_relative_to(tmp_path / "moved")


def test_folds_and_changed_copies_have_products_of_their_own():
    whole = study(dataset={**MRI, "folds": 2, "patients": 40})
    first, second = (recon.weights(fold, Source("unet")).folder for fold in whole.folds)
    assert first != second
    data.product(whole)
    other = whole.model_copy(update={"dataset": whole.dataset.model_copy(update={"label": "other"})})
    assert data.product(other).folder.parent.name == "other"


def test_a_changed_copy_has_settings_of_its_own():
    cohort = study(dataset={"name": "phantom_mri", "patients": 40}).dataset
    assert cohort.settings["patients"] == 40
    assert cohort.model_copy(update={"patients": 50}).settings["patients"] == 50


@pytest.mark.parametrize(
    ("name", "file", "where"),
    [
        ("lgg", Path("lgg/kaggle_3m/data.csv"), "kaggle.com"),
        ("nih", Path("nih/Data_Entry_2017_v2020.csv"), "nihcc.app.box.com"),
        ("chexpert", Path("chexpert/CheXpert-v1.0-small/train.csv"), "aimi.stanford.edu"),
        ("ucsf_pdgm", Path("ucsf_pdgm/UCSF-PDGM-metadata*.csv"), "cancerimagingarchive.net"),
        ("table", Path("table/cohort.csv"), "README, Your own scans"),
    ],
)
def test_missing_scans_say_what_was_looked_for_and_where_to_get_it(tmp_path, monkeypatch, name, file, where):
    monkeypatch.setenv("RECONFAIR_DATA", str(tmp_path))
    dataset = study(dataset={"name": name}).dataset
    with pytest.raises(ParamsError) as error:
        dataset.find()
    for said in (str(tmp_path / file), where, "dataset.root", "RECONFAIR_DATA"):
        assert said in str(error.value)
    assert dataset.signature == ""


def test_the_sde_trains_as_long_as_the_paper_has_it_for_the_modality_unless_told():
    assert study(dataset={"name": "nih"}).reconstruction.sde.epochs == 40
    assert study(dataset={"name": "lgg"}).reconstruction.sde.epochs == 300
    assert study(dataset={"name": "nih"}, reconstruction={"sde": {"epochs": 2}}).reconstruction.sde.epochs == 2


# --- readers ---


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"readers": {"strategies": ["oversampel"]}}, ["readers", "oversampel", "oversample"]),
        ({"readers": {"strategies": ["dro@-1"]}}, ["readers", "dro@-1"]),
        ({"readers": {"strategies": ["oversample@2"]}}, ["oversample@2", "[0, 1]"]),
        ({"readers": {"strategies": ["crop@2"]}}, ["crop@2", "no strength"]),
        ({"readers": {"strategies": ["cascade+fairread"]}}, ["cascade+fairread", "oversample"]),
        ({"readers": {"strategies": ["dro+dro"]}}, ["dro+dro", "twice"]),
        ({"readers": {"strategies": ["crop+thresholds"]}}, ["crop+thresholds", "fairread+thresholds"]),
        ({"readers": {"strategies": ["fcro", "fcro"]}}, ["fcro", "more than once"]),
        (
            {"readers": {"strategies": ["fairread"]}, "diagnosis": {"tasks": ["tumour"]}},
            ["fairread", "classify", "segment"],
        ),
        (
            {"readers": {"strategies": ["cascade"]}, "diagnosis": {"tasks": ["grade"]}},
            ["cascade", "segment", "classify"],
        ),
        ({"readers": {"thresholds": "youdn"}}, ["readers.thresholds", "youdn", "youden"]),
        ({"readers": {"fairread": {"rnk": 2}}}, ["readers.fairread.rnk", "rank"]),
    ],
)
def test_a_strategy_of_readers_that_cannot_be_is_refused(sections, said):
    with pytest.raises(ParamsError) as error:
        study(**sections)
    assert all(word in str(error.value) for word in said)


def test_readers_are_the_strategies_and_their_thresholds():
    made = study(readers={"strategies": ["fairread", "cascade", "dro+reweight@0.50"], "thresholds": "gmeans"})
    names = ("standard", "fairread", "cascade", "dro+reweight@0.5")
    assert made.reader_names == (*names, *(f"{name}+thresholds" for name in names if name != "cascade"))
    assert [network.name for network in made.networks_of("fairread")] == ["grade", "type"]
    assert [network.name for network in made.networks_of("cascade")] == ["tumour"]
    assert study().reader_names == ("standard",) and study(readers={}).readers.fairread.row == 125


def test_on_radiographs_each_finding_has_a_network_where_a_strategy_needs_it():
    made = study(dataset=XRAY, readers={"strategies": ["fcro", "dro"]})
    assert len(made.networks_of("fcro")) == 5 and len(made.networks_of("dro")) == 1
    amplified = study(dataset=XRAY, readers={"strategies": ["dro"], "amplify": 0.1})
    assert len(amplified.networks_of("dro")) == 5 and amplified.reader_names[1] == "oversample@0"


def test_every_pattern_of_a_setting_is_told_in_words():
    package = Path(params.__file__).parent
    used = {found for path in package.rglob("*.py") for found in re.findall(r'pattern=r"(.*?)"', path.read_text())}
    assert used == set(params.PATTERNS)


@pytest.mark.parametrize(
    ("section", "key", "words"),
    [
        ({"label": "a b"}, "dataset.label", ["letters", "'a b'"]),
        ({"label": 12}, "dataset.label", ["text", "12"]),
        ({"mask": "Mask"}, "dataset.mask", ["'mask: {column: ...}'", "'Mask'"]),
        ({"keep": "site"}, "dataset.keep", ["[site]"]),
        ({"tasks": ["grade", "type"]}, "dataset.tasks", ["{grade: ..., type: ...}"]),
        ({"folds": 1_000_000}, "folds", ["1000", "1000000"]),
    ],
)
def test_a_value_of_another_form_is_told_the_form(section, key, words):
    with pytest.raises(ParamsError) as error:
        params.study(dataset={"name": "table", **section})
    assert key in str(error.value) and all(word in str(error.value) for word in words)
    assert not any(word in str(error.value) for word in ("match pattern", "instance of", "valid tuple", "dictionary"))


def test_a_kind_of_noise_may_stand_alone():
    assert study(dataset=MRI, noise="gaussian").noise == study(dataset=MRI, noise={"kind": "gaussian"}).noise
    with pytest.raises(ParamsError, match=r"noise\.kind: 'kspce'.*'kspace'"):
        study(dataset=MRI, noise="kspce")


@pytest.mark.parametrize("section", ["mitigation", "readers"])
def test_no_strategy_at_all_is_refused(section):
    with pytest.raises(ParamsError, match=rf"{section}: strategies: \[\] names none"):
        params.study(dataset=MRI, **{section: {"strategies": []}})


def test_readers_take_attributes_of_your_own():
    dataset = {"name": "phantom_mri", "attributes": {"scanner": {"a": 0.6, "b": 0.4}}}
    readers = {"strategies": ["oversample", "fcro"], "attributes": ["scanner"]}
    study = params.study(dataset=dataset, noise="none", readers=readers)
    assert study.attributes("readers") == ("scanner",)
    with pytest.raises(ParamsError, match=r"readers.attributes.*'scaner'.*'scanner'"):
        params.study(dataset=dataset, noise="none", readers=readers | {"attributes": ["scaner"]})
