"""Write docs/parameters.md from the settings classes: every key of a params file, its default and what it means.

    python docs/make_parameters.py            # write the page
    python docs/make_parameters.py --check    # exit status 1 where the page is out of date

The meaning of a key is its entry in `MEANINGS`, else the comment beside it in the code.
A key without either is an error.
"""

import ast
import inspect
import sys
import tokenize
from io import StringIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import reconfair  # noqa: F401  its rooms register their settings
from reconfair import params
from reconfair.data import phantom, table

PAGE = Path(__file__).with_name("parameters.md")
HEAD = """# Every parameter

<!-- docs/make_parameters.py writes this page. Do not edit it by hand. -->

A params file has one section for each chapter. A key that you leave out takes the default below. `reconfair check
FILE` names every wrong key and the nearest valid one. The settings of the paper are the defaults; some of them depend
on the modality:

| key | MRI | X-ray |
|---|---|---|
| `noise.kind` | `kspace` | `sinogram` |
| `reconstruction.sde.epochs` | 300 | 40 |
{classifier}
| `mitigation.lam` | 1 | 0.005 |

The outputs of each run hold a file `run.yaml` with every value that this run used.
"""
# By key, or by class and key, where the comment in the code is absent or too short for this page.
MEANINGS = {
    "Synthesis.epochs": "of vit and resnet; null: as diagnosis.classify",
    "name": "which dataset, or a class of your own such as `my_data.py:MyHospital`",
    "label": "name of the output folder; empty: the name of the dataset",
    "split": "share of patients in train, val and test; with folds, train and val share in this proportion",
    "folds": "number of folds of the patients, each tested by models that trained on the others; null: one split",
    "training": "whether reconstruction and diagnosis train on the same patients (`shared`) or not (`parted`); null: "
    "`parted` by X-ray, `shared` by MRI",
    "outlined": "true: train on images alone in which something is outlined, since other slices may not show the label",
    "linear_probe": "true: first fit the last layer alone to features of the pretrained network; epochs 0: no more",
    "age_boundary": "years; the oldest age of the younger group; null: the median over patients",
    "on_bad_image": "`error` stops at an image that cannot be read; `skip` leaves it out and lists it in `skipped.csv`",
    "size": "pixels a side",
    "seed": "seed of the random numbers of this section",
    "root": "folder of the dataset; empty: its folder under `RECONFAIR_DATA`",
    "patients": "number of simulated patients",
    "slices": "which slices of a volume are images, see below; null: each file is one image",
    "PhantomMRI.slices": "slices of each patient",
    "PhantomXray.slices": "without effect: a patient has one to three radiographs",
    "dials": "planted bias, see below",
    "null": "true: attributes are independent of everything, so the true disparity is exactly zero",
    "scarce": "share of the patients of a group that never train the reconstruction",
    "release": "which release of CheXpert the folder holds: images 390 pixels wide, or the full resolution",
    "CheXpert.blank": "`nan`: a finding that the report does not mention is unknown; `zero`: it is absent",
    "unknown_race": "patients of unknown race: `keep` leaves them out of the analyses of race only, `drop` out of all",
    "file": "the table in `root` (CSV, TSV, TXT, XLSX or Parquet); its paths are relative to `root`",
    "modality": "`mri`: undersampled k-space; `xray`: few photons",
    "unit": "unit of a decision; null: the patient for MRI, the image for X-ray",
    "image": "column with the image file: PNG, JPEG, TIFF, BMP, NIfTI or NPY; any other suffix is read as DICOM",
    "patient": "column with the patient; all images of a patient are in one split",
    "sex": "column with the sex; null: not recorded",
    "age": "column with the age in years, or in DICOM's form such as 058Y; null: not recorded",
    "race": "column with the race, any groups; null: not recorded",
    "tasks": "tasks by name: a column with 1 and 0, or a column and the meaning of its entries",
    "Diagnosis.tasks": "tasks of this study; empty: every task of the dataset",
    "mask": "column with files of outlines, see below; null: none",
    "keep": "columns to carry along, such as the scanner",
    "channel": "channel of colour images, counted from 0; null: their grey value",
    "window": "stored values that become black and white; null: `percentiles` decides",
    "percentiles": "percentiles of each file that become black and white",
    "FairREAD.column": "weight of the column loss",
    "column": "column of the table",
    "values": "meaning of each entry; null stands for unknown",
    "Trait.values": "meaning of each entry; null stands for unknown; with `cuts`, null is the only one",
    "task": "name of the task",
    "Mask.blank": "a row without a file: `error` refuses it, `background` means that there is nothing to outline",
    "inside": "values of the mask that lie inside the outline; null: every value but 0; ambiguous masks are refused",
    "Mask.labels": "regions by the value that outlines them, such as `{1: lv, 2: myo}`; each is a task to segment",
    "where": "rows that count, by column, such as `{view: [PA, AP]}`; all others are left out",
    "fit": "an image that is not square is padded with black, cut to its middle, or squeezed",
    "geometry": "`check`: image and mask must lie in the same place; `ignore`: their pixels are matched as stored",
    "links": "symbolic links to images that lead out of `root`",
    "first": "first slice, counted from 0",
    "last": "last slice, included",
    "step": "distance between slices",
    "axis": "axis that the slices cut; NIfTI: 0 axial, 1 coronal, 2 sagittal; other files: as stored",
    "kind": "which noise; `noise: none` judges originals alone",
    "acceleration": "acceleration factor R: a share of about 1/R of k-space is sampled; 1: all of it",
    "photons": "photons at each detector bin before the object",
    "KSpace.angles": "angles between the spokes; `uniform` is the paper's published code",
    "Sinogram.angles": "number of projection angles over 180 degrees",
    "attenuation": "line integral of attenuation across an image of ones",
    "bowtie": "exposure at the edge of the detector relative to its centre",
    "magnitude": "how the complex image becomes real; `real_part` is the paper's published code",
    "physics": "how the dose acts; `as_published` is the paper's published code",
    "sigma": "standard deviation of the noise; images lie within 0 and 1",
    "folder": "folder with the images, see [images made elsewhere](images-made-elsewhere.md)",
    "Given.kind": "`given`: the images are read from files",
    "Given.path": "name of a file in `folder`; names in braces stand for the original",
    "Given.geometry": "`check`: a file must lie in the same place as its original; `ignore`: it need not",
    "level": "name of the noise level and of its output folder",
    "Reconstruction.models": "reconstructors: to train, of your own such as `my_models.py:Restormer`, or given",
    "Diagnosis.models": "by task: a trained model of your own: `my_reader.py:Reader`, `model.pt` or `model.onnx`",
    "epochs": "passes over the training images",
    "Pix2Pix.epochs": "passes over the training images; the learning rate falls in the second half",
    "SDE.epochs": "passes over the training images; the paper uses 300 for MRI and 40 for X-ray",
    "batch_size": "images in each training step",
    "lr": "learning rate",
    "weight_decay": "weight decay of the optimiser",
    "UNet.channels": "channels of the first level; each level below has twice as many",
    "Pix2Pix.channels": "channels of the first level; the levels below have at most eight times as many",
    "SDE.channels": "channels of the first level",
    "UNet.depth": "how often the image is halved",
    "SDE.depth": "number of levels",
    "patch": "pixels a side that enter the first level together; 2 makes the network about four times as cheap",
    "dropout": "dropout in the coarsest levels of the decoder during training",
    "l1": "weight of the mean absolute error; the adversary's loss has weight 1",
    "steps": "steps of the forward equation",
    "SDE.lam": "standard deviation of the noise at the end of the forward equation; images lie within 0 and 1",
    "ema": "decay of the average of the weights that is kept",
    "sampler": "how a reconstruction is drawn; `reverse_sde` is the paper's; a change needs no new training",
    "evaluations": "evaluations of the network for each sample of the sampler `few_step`",
    "samples": "number of samples whose mean is the reconstruction",
    "classify": "the classifier, see below",
    "segment": "the segmenter, see below",
    "architecture": "a name that torchvision or timm knows, such as `resnet50` or `vit_tiny_patch16_224`",
    "Classify.pretrained": "`true`: start from ImageNet weights; `false`: from random ones; `xrv-`: TorchXRayVision's",
    "Classify.size": "pixels a side that the network sees; 0: as in the image, or as a vision transformer needs",
    "value_range": "range of the network's input; null: as in its first training",
    "encoder": "an encoder of segmentation-models-pytorch, or `tu-` and a name that timm knows",
    "decoder": "channels of the five decoder levels",
    "Segment.pretrained": "`true`: start from ImageNet weights; `false`: from random ones",
    "Fairness.attributes": "attributes to compare; empty: all that the dataset records; `sex*age_group`: intersections",
    "inference": "how intervals and verdicts are computed, see [inference](inference.md)",
    "resamples": "number of draws for `p_swap`, for AUPRC and for the two bootstraps",
    "eodd": "EODD is the mean of the ranges of TPR and FPR, or the larger one",
    "primary": "metrics whose changes by group have limits that hold for all of them at once",
    "min_cases": "patients of each label that a group needs to be compared",
    "margins": "changes that would not matter, by metric, in the metric's unit; `ser` is a ratio above 1",
    "strategies": "remedies, remedies joined by `+`, and `thresholds`; a strength follows `@`",
    "Mitigation.models": "reconstructors to fine-tune; empty: all of the study",
    "Mitigation.attributes": "attributes whose groups are to be treated alike; empty: those that the dataset records; "
    "an image with an unknown one is in no group",
    "Mitigation.lam": "strength of `eodd` and `adv` where a strategy states none",
    "Mitigation.epochs": "passes over the training images in fine-tuning",
    "lr_factor": "learning rate of fine-tuning, as a multiple of that of the first training",
    "temperature": "temperature of soft decisions, in units of probability",
    "adversary_lr": "learning rate of the adversary",
    "Synthesis.steps": "steps of sampling",
    "Synthesis.patch": "pixels a side that enter the first level together",
    "amount": "`balance`: every cell becomes as large as the largest; or synthetic images for each real one, as in 0.5",
    "classifiers": "what is trained with the images; `xgboost` needs the extra `xgboost`",
    "Synthesis.batch_size": "images in each training step of a generator",
    "Synthesis.lr": "learning rate of the common training",
    "Synthesis.channels": "channels of the first level",
    "Synthesis.ema": "decay of the averaged weights, with which images are drawn",
    "TwoStages.model": "the reconstructor of the grid; empty: the first that mitigation fine-tunes",
    "TwoStages.strategies": "rows of the grid; empty: all of `mitigation.strategies` that change images",
    "TwoStages.readers": "columns of the grid; empty: every reader of chapter 07; also the name of a generator of "
    "chapter 08, for the reader that trained with its images",
    "TwoStages.against": "the reader that `eodd` and `adv` see; `matched`: that of the cell",
    "TwoStages.tolerance": "how much lower than the best the AUROC or Dice of the chosen cell may be",
    "TwoStages.rule": "what must be least on validation: the upper limit of the gap, or the gap itself",
    "TwoStages.margin": "by how much the gap must fall on test to be called better; of SER, relative",
    "TwoStages.seeds": "further seeds with which everything is trained",
    "TwoStages.max_cells": "a larger grid is refused, with its cost",
    "Readers.strategies": "strategies that train readers, joined by `+`; a strength follows `@`, see below",
    "Readers.thresholds": "criterion of thresholds by group, which follow every classifier; `none`: only where named",
    "Readers.attributes": "attributes whose groups are to be treated alike; empty: those that the dataset records; "
    "an image with an unknown one is in no group",
    "amplify": "training images are left out until the positive rates of groups differ by so much; 0: none is",
    "Readers.level": "level of `oversample`: 0 as images come, 1 as many of every group",
    "Readers.dro": "`online`: weights that follow the losses; `max`: the worst group of a batch; or the published code",
    "Readers.reweight": "where groups are counted: in the training set, or in the batch as in the published code",
    "Readers.margin": "pixels along each axis by which a crop is larger than the largest box",
    "box": "of a cascade: around the largest region that the first network outlines, or around all (`as_published`)",
    "fairread": "FCRO and FairREAD, see below",
    "Readers.dice": "Dice of a patient: of all slices together, or the mean over slices",
    "Readers.as_published": "as the public code of FairREAD, FCRO and Lee et al.",
    "FairREAD.dropout": "dropout of the second stage",
    "FairREAD.adversary_lr": "learning rate of the adversary",
    "FairREAD.epochs": "passes of stage 1 over the training images; the last one is kept",
    "FairREAD.batch_size": "images in each training step of stage 1, half of them positive",
    "refusion_batch_size": "images in each training step of stage 2, half of them positive",
    "alpha": "weight of the adversary where a strategy names none",
    "rare": "share of the patients of a group that never train the diagnosis",
    "decoy": "probability of a bright spot in the scalp that is no lesion; MRI",
    "runs": "`this`: this run; `all`: every noise level of the dataset",
    "device": "where networks run; `auto` takes a GPU where there is one",
    "precision": "number format of training; `auto` is bf16-mixed on a CUDA GPU and 32-true elsewhere",
    "workers": "threads and processes; 0: one for each core",
    "Table.image": "column with the file, or a path with columns in braces such as `images/{image_id}.jpg`",
    "Table.attributes": "attributes of your own, by name, see below",
    "Sunnybrook.attributes": "attributes of your own, by name, see below",
    "Table.tasks": "tasks, by name: a column of 1 and 0, or what its entries mean, see below",
    "PhantomMRI.attributes": "attributes of your own: `{scanner: {a: 0.6, b: 0.4}}` draws groups by their shares, "
    "`{bmi: {mean: 27, sd: 4, cuts: [22, 27]}}` normal numbers that are cut into groups",
    "PhantomXray.attributes": "attributes of your own, as for phantom_mri",
    "Table.channels": "3: red, green and blue are kept; 1: a grey image",
    "class_weights": "of a task of several classes: every image counts the same in the loss (`equal`), or every class",
    "Trait.cuts": "makes groups of numbers: `median`, the upper ends of all groups but the last, or `none`: the number "
    "is kept whole (groups at the median, and the slope of each rate over it); null: every entry is a group",
    "compile": "compile each network before training; worth it for long trainings on a GPU",
}
BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}", "multiple_of": "multiple of {}"}


def comments(kind: type) -> dict[str, str]:
    """The comment beside each key of a settings class."""
    text = inspect.cleandoc("\n" + inspect.getsource(kind))
    tokens = tokenize.generate_tokens(StringIO(text).readline)
    by_line = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    fields = [node for node in ast.parse(text).body[0].body if isinstance(node, ast.AnnAssign)]
    return {node.target.id: by_line[node.end_lineno] for node in fields if node.end_lineno in by_line}


def meaning(kind: type, key: str) -> str:
    """What a key means: its entry in `MEANINGS`, else the comment in the class that defines it."""
    for place in (f"{kind.__name__}.{key}", key):
        if place in MEANINGS:
            return MEANINGS[place]
    for base in kind.__mro__:
        if key in inspect.get_annotations(base) and key in (written := comments(base)):
            return written[key].replace("None", "null")
    raise KeyError(f"{kind.__name__}.{key} has no comment in the code and no entry in MEANINGS")


def allowed(annotation, metadata=()) -> str:
    """Valid values in words."""
    if hasattr(annotation, "__metadata__"):
        return allowed(annotation.__origin__, annotation.__metadata__)
    bounds = [BOUNDS[name].format(f"{value:g}") for item in metadata for name, value in limits(item)]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{params.yaml.safe_dump(word).split()[0]}`" for word in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join("null" if one is NoneType else allowed(one, metadata) for one in get_args(annotation))
    if get_origin(annotation) is tuple:
        inner = [one for one in get_args(annotation) if one is not Ellipsis]
        return "list of " + (f"{len(inner)}: " if len(inner) > 1 else "") + allowed(inner[0]).replace("text", "names")
    if get_origin(annotation) is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "column, or keys below" if annotation.__name__.startswith("Column") else "keys below"
    word = {int: "whole number", float: "number", str: "text", bool: "true or false"}[annotation]
    return ", ".join([word, *bounds])


def limits(item):
    """Bounds that one piece of pydantic's metadata states."""
    inner = getattr(item, "metadata", None) or [item]
    return [(name, getattr(one, name)) for one in inner for name in BOUNDS if getattr(one, name, None) is not None]


def default(field) -> str:
    """The default as YAML, in code."""
    if field.default is PydanticUndefined:
        return "required"
    value = field.default.model_dump(mode="json") if isinstance(field.default, BaseModel) else field.default
    value = list(value) if isinstance(value, tuple) else value
    if isinstance(field.default, BaseModel):
        return f"`{value['column']}`" if "column" in value else ""
    if isinstance(value, dict) and any(isinstance(one, BaseModel) for one in value.values()):
        return "`{label: label}`"
    return written(value)


def written(value) -> str:
    """A value as YAML, in code."""
    value = list(value) if isinstance(value, tuple) else value
    text = params.yaml.safe_dump(value, default_flow_style=True, width=999).removesuffix("...\n").strip()
    return f"`{text}`" if text != "''" else "empty"


def rows(kind: type, prefix: str, without=()) -> str:
    """The table of one settings class."""
    lines = ["| key | default | valid | meaning and unit |", "|---|---|---|---|"]
    for key, field in kind.model_fields.items():
        if key in without:
            continue
        cells = [f"`{prefix}{key}`", default(field), allowed(field.annotation, field.metadata), meaning(kind, key)]
        lines.append("| " + " | ".join(cell.replace("|", "or") for cell in cells) + " |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    usual = {key: field.default for key, field in params.Classify.model_fields.items()}
    mri, xray = (usual | params.PAPER_CLASSIFIER[modality] for modality in ("mri", "xray"))
    classifier = [
        f"| `diagnosis.classify.{key}` | {written(mri[key])} | {written(xray[key])} |"
        for key in mri
        if mri[key] != xray[key]
    ]
    general = set(params.Dataset.model_fields)
    blocks = [HEAD.format(classifier="\n".join(classifier)).strip()]
    blocks += ["## dataset", "Every dataset has these keys:", rows(params.Dataset, "dataset.")]
    for name, kind in params.DATASETS.items():
        blocks += [f"### {name}", rows(kind, "dataset.", general - ({"size"} if "phantom" in name else set()))]
    nested = {
        "Bias planted in a phantom (`dials`), as `{attribute: {group: value}}`": (phantom.Dials, "dataset.dials."),
        "A column of your table": (table.Column, "dataset.<column>."),
        "Labels of a task of your table (`labels` is another name of `values`)": (table.Labels, "dataset.tasks.NAME."),
        "An attribute of your own": (table.Trait, "dataset.attributes.NAME."),
        "Masks of your table": (table.Mask, "dataset.mask."),
        "Slices of the volumes of your table": (table.Slices, "dataset.slices."),
    }
    for title, (kind, prefix) in nested.items():
        blocks += [f"### {title}", rows(kind, prefix)]
    blocks += ["## noise"]
    for name, kind in params.NOISES.items():
        blocks += [f"### {name}", rows(kind, "noise.")]
    blocks += ["## reconstruction", rows(params.Reconstruction, "reconstruction.")]
    for name, kind in params.MODELS.items():
        blocks += [f"### {name}", rows(kind, f"reconstruction.{name}.")]
    for name, kind in params.GIVEN.items():
        blocks += [f"### A model of kind `{name}`, under a name of your choice", rows(kind, "reconstruction.NAME.")]
    blocks += ["## diagnosis", rows(params.Diagnosis, "diagnosis.")]
    for name, kind in (("classify", params.Classify), ("segment", params.Segment)):
        blocks += [f"### {name}", rows(kind, f"diagnosis.{name}.")]
    blocks += ["## fairness", rows(params.Fairness, "fairness.")]
    blocks += [
        "## mitigation",
        "Without this section chapter 06 is not run; `mitigation: {}` takes the paper's settings.",
    ]
    blocks += [rows(params.Mitigation, "mitigation."), "A remedy without `@` has this strength:"]
    usual = [
        f"| `{word}` | {'`mitigation.lam`' if value is None else f'{value:g}'} |"
        for word, value in params.REMEDIES.items()
    ]
    blocks += ["\n".join(["| remedy | strength |", "|---|---|", *usual])]
    blocks += [
        "## readers",
        "Without this section chapter 07 is not run.",
        rows(params.Readers, "readers."),
        "### fairread",
        rows(params.FairREAD, "readers.fairread."),
    ]
    both, only = "classifiers and segmenters", {"classify": "classifiers", "segment": "segmenters"}
    kinds = {word: both if len(kinds) > 1 else only[kinds[0]] for word, (kinds, _) in params.READERS.items()}
    strengths = {"oversample": "`readers.level`", "adversary": "`readers.fairread.alpha`"}
    strengths["fairread"] = strengths["adversary"]
    lines = [
        f"| `{word}` | {kinds[word]} | {strengths.get(word, 'none' if value is None else f'{value:g}')} |"
        for word, (_, value) in params.READERS.items()
    ]
    blocks += ["\n".join(["| strategy | trains | strength without `@` |", "|---|---|---|", *lines])]
    blocks += [
        "## synthesis",
        "Without this section chapter 08 is not run; `synthesis: {}` takes the settings of FairGen as far as they are "
        "known. A reader that is trained with the images of a generator has its name.",
        rows(params.Synthesis, "synthesis."),
        "## two_stages",
        "Without this section chapter 09 is not run; it needs `mitigation` and `readers`.",
        rows(params.TwoStages, "two_stages."),
    ]
    blocks += ["## report", rows(params.Report, "report.")]
    blocks += ["## compute", "These keys never make a result stale.", rows(params.Compute, "compute.")]
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page()))
    PAGE.write_text(page(), encoding="utf-8")
