"""What the two phantom cohorts share: who the patients are, planted bias, and how shapes are drawn."""

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_serializer, model_validator
from scipy.special import ndtri

from reconfair import params
from reconfair.data import traits
from reconfair.entries import fold
from reconfair.keyed import generator
from reconfair.params import GROUPS, About, Section, one_of

# In the order of params.RACES: the patients of CheXpert, table 5 of the paper's appendix.
RACE_SHARES = np.array([36110, 9634, 6936, 3093, 861, 176]) / 56810


class Dials(Section):
    """Bias planted in a phantom cohort: ``{attribute: {group: value}}``, all zero by default."""

    contrast: dict[str, dict[str, float]] = {}  # relative change of lesion contrast; -1: invisible
    texture: dict[str, dict[str, float]] = {}  # share of a consolidation that is mottled, not dense; X-ray
    prevalence: dict[str, dict[str, float]] = {}  # added to the probability of every finding
    label_noise: dict[str, dict[str, float]] = {}  # probability that a label is flipped
    scarce: dict[str, dict[str, float]] = {}  # share of a group's patients that the reconstruction never trains on
    rare: dict[str, dict[str, float]] = {}  # share of a group's patients that the diagnosis never trains on
    decoy: dict[str, dict[str, float]] = {}  # probability of a bright spot in the scalp that is no lesion; MRI

    @model_serializer(mode="wrap")
    def _as_before(self, serialise):
        """Without the dials that came later, where they are 0: a cohort made before them is the same one."""
        written = serialise(self)
        return {key: value for key, value in written.items() if value or key not in ("rare", "decoy")}

    def check(self, known: dict) -> None:
        """Refuse an attribute or group that is not known, by attribute, and a value out of range."""
        for dial in type(self).model_fields:
            for attribute, groups in getattr(self, dial).items():
                one_of(attribute, known, f"{dial}: attribute")
                for group, value in groups.items():
                    one_of(group, known[attribute], f"{dial}.{attribute}: group")
                    low, high = (-1, 1) if dial in ("contrast", "prevalence") else (0, 1)
                    if not low <= value <= high:
                        raise ValueError(f"{dial}.{attribute}.{group} must lie in [{low}, {high}], not {value}")


class Recorded:
    """What is known of a phantom: of the class what all have, of a cohort with its own attributes as well."""

    def __init__(self, about: About):
        self.about = about

    def __get__(self, dataset, kind) -> About:
        if dataset is None:
            return self.about
        whole = tuple(name for name, each in dataset.attributes.items() if getattr(each, "cuts", "") == "none")
        return self.about._replace(attributes=(*self.about.attributes, *dataset.attributes), whole=whole)


class Phantom(params.Dataset):
    """A simulated cohort whose bias is known. Nothing is read from disk."""

    size: Annotated[int, Field(ge=64, le=256, multiple_of=16)] = 256
    patients: Annotated[int, Field(ge=20, le=1_000_000)] = 2000
    slices: Annotated[int, Field(ge=1, le=4)] = 4  # per patient, MRI; a patient has one to three radiographs
    # Further ones, by name: groups and their shares, or normal numbers, which are cut into groups.
    attributes: dict[Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")], traits.Drawn] = {}
    dials: Dials = Dials()
    null: bool = False  # attributes independent of everything: the true disparity is exactly zero

    @field_validator("attributes")
    @classmethod
    def _free_names(cls, attributes):
        for name in attributes:
            if fold(name) in traits.RESERVED or name in cls.about.every or name.startswith("z_"):
                raise ValueError(f"'{name}' has a meaning of its own in the tables of a study; choose another name")
        return attributes

    @field_validator("dials")
    @classmethod
    def _known_groups(cls, dials, info):
        further = {}
        for name, each in info.data.get("attributes", {}).items():
            ends = getattr(each, "cuts", "")
            further[name] = traits.groups(ends) if isinstance(ends, tuple) else list(each) if not ends else ()
        dials.check(GROUPS | further)
        return dials

    @model_validator(mode="after")
    def _null_has_no_dials(self):
        if self.null and self.dials != Dials():
            raise ValueError("null: true means no bias at all; remove the dials or set null: false")
        if self.folds and self.dials.scarce:
            raise ValueError(
                "dials.scarce keeps patients from one training, and folds have several; leave out one of both"
            )
        return self


def uniform(dataset: Phantom, column: str, *shape: int) -> np.ndarray:
    """Uniform draws of one column; patient i keeps its draw when more patients follow."""
    return generator(dataset.seed, dataset.name, column).random(shape)


def normal(dataset: Phantom, column: str, *shape: int) -> np.ndarray:
    """Standard normal draws of one column, prefix-stable as `uniform`."""
    return generator(dataset.seed, dataset.name, column).standard_normal(shape)


def patients(dataset: Phantom, female: float, age: tuple[float, float]) -> pd.DataFrame:
    """Draw who the patients are.

    Parameters
    ----------
    dataset : Phantom
        Seed, number of patients, and whether attributes are independent of everything (`null`).
    female : float
        Share of women, in [0, 1].
    age : (float, float)
        Mean and standard deviation of the age in years, cut to 18..90.

    Returns
    -------
    pandas.DataFrame
        One row per patient: ``patient_id, sex, age, race``, and ``z_female, z_age``, which shape the
        anatomy. They say the same as sex and age unless `null`: then they are drawn on their own.

    Examples
    --------
    >>> table = patients(Phantom(name="phantom_mri", patients=20), 0.5, (60, 10))
    >>> bool((table.age == table.z_age).all())
    True
    """
    n = dataset.patients
    body, record = (_attributes(dataset, draw, female, age) for draw in ("body", "shown" if dataset.null else "body"))
    ids = [f"P{i:06d}" for i in range(n)]
    anatomy = {"z_female": 1.0 * (body["sex"] == "female"), "z_age": body["age"]}
    return pd.DataFrame({"patient_id": ids, **record, **_further(dataset, pd.Series(ids)), **anatomy})


def dial(dataset: Phantom, table: pd.DataFrame, name: str) -> np.ndarray:
    """Read one dial for every patient, over all attributes.

    Parameters
    ----------
    dataset : Phantom
        Whose dials are read.
    table : pandas.DataFrame
        One row per patient, with ``sex, age, race``.
    name : str
        The dial, a field of `Dials`.

    Returns
    -------
    numpy.ndarray, shape (patients,)
        Product of 1 + value for ``contrast``; sum of the values for the others.
    """
    older = table.age > table.age.median()
    groups = {"sex": table.sex, "race": table.race, "age_group": older.map({True: "older", False: "younger"})}
    dials = getattr(dataset.dials, name).items()
    groups |= {name: table[name] for name in dataset.attributes}
    values = np.array([groups[attribute].map(value).fillna(0.0) for attribute, value in dials])
    values = values.reshape(-1, len(table))  # no attribute dialled: an empty sum, an empty product
    return np.prod(1 + values, 0) if name == "contrast" else values.sum(0)


def look_at_groups(dataset: Phantom, table: pd.DataFrame) -> None:
    """Refuse numbers of the user's own that all fall into one group; fresh patients may by chance."""
    for name, each in dataset.attributes.items():
        if isinstance(each, traits.Numbers) and (text := traits.together(table[name], table[f"{name}_value"])):
            raise ValueError(f"dataset.attributes.{name}: {text}")


def withhold(dataset: Phantom, table: pd.DataFrame) -> pd.DataFrame:
    """Keep a share of some groups from one training, as the dials ``scarce`` (reconstruction) and ``rare`` (diagnosis)
    say; the other one trains as it would.
    """
    for name, without, other in (("scarce", "train_recon", "train_diag"), ("rare", "train_diag", "train_recon")):
        who = table.drop_duplicates("patient_id")
        hidden = who.patient_id[uniform(dataset, name, len(who)) < dial(dataset, who, name)]
        hidden = table.patient_id.isin(hidden)
        table = table.assign(split=table.split.mask(hidden & (table.split == "train"), other))
        table = table[~hidden | (table.split != without)]
    return table


def truth(score: np.ndarray, prevalence: np.ndarray) -> np.ndarray:
    """Label the upper share `prevalence`, cut to [0.01, 0.99], of a standard normal score, as bool."""
    return score > -ndtri(np.clip(prevalence, 0.01, 0.99))


def observed(dataset: Phantom, column: str, label: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Flip each true label with probability `flip`; return 1.0 and 0.0."""
    return (label ^ (uniform(dataset, f"flip {column}", *label.shape) < flip)).astype(float)


def axes(size: int, view: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Coordinates of the pixel centres in mm, x (1, size) and y (size, 1), and the pixel's side."""
    axis = (np.arange(size) + 0.5) * view / size - view / 2
    return axis[None, :], axis[:, None], view / size


def edge(distance: np.ndarray, width: float) -> np.ndarray:
    """Coverage in [0, 1] of a shape with this signed distance (negative inside), over a smooth edge."""
    t = np.clip(0.5 - distance / (1.5 * width), 0, 1)
    return t * t * (3 - 2 * t)


def ellipse(x: np.ndarray, y: np.ndarray, a: float, b: float, angle: float = 0.0) -> np.ndarray:
    """Signed distance in mm to an ellipse about the origin, to first order; `angle` in radians."""
    if angle:
        x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    rho = np.hypot(x / a, y / b)
    return rho * (rho - 1) / (np.hypot(x / a**2, y / b**2) + 1e-9)


def blend(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to the union of two shapes whose junction is rounded, radius in mm."""
    return -radius * np.logaddexp(-a / radius, -b / radius)


def texture(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, wavelength: float, spread: float = 0.3
) -> np.ndarray:
    """Random field of unit variance: plane waves of about this wavelength in mm, blurred over a pixel.

    Waves are defined in mm, so that 64 and 256 pixels show the same tissue, and are separable, so that
    their sum is one matrix product.
    """
    waves = 40
    k = 2 * np.pi / wavelength * np.exp(spread * rng.standard_normal(waves))
    turn, phase = rng.uniform(0, 2 * np.pi, (2, waves))
    kx, ky = k * np.cos(turn), k * np.sin(turn)
    pixel = y[1, 0] - y[0, 0]
    pixel_mtf = np.sinc(kx * pixel / (2 * np.pi)) * np.sinc(ky * pixel / (2 * np.pi))
    weight = np.sqrt(2 / waves) * pixel_mtf * np.exp(1j * phase)
    return ((np.exp(1j * y * ky) * weight) @ np.exp(1j * kx[:, None] * x)).real


def _further(dataset: Phantom, ids: pd.Series) -> dict[str, pd.Series]:
    """Attributes that the params file adds, independent of everything but what the dials plant."""
    drawn = {}
    for name, each in dataset.attributes.items():
        if isinstance(each, traits.Numbers):
            drawn[f"{name}_value"] = pd.Series(each.mean + each.sd * normal(dataset, f"own {name}", len(ids)))
            drawn[name] = traits.cut(drawn[f"{name}_value"], each.cuts, ids)
        else:
            ends = np.cumsum(list(each.values()))[:-1]
            place = np.searchsorted(ends, uniform(dataset, f"own {name}", len(ids)), side="right")
            drawn[name] = pd.Series(np.array(list(each))[place], dtype="str")
    return drawn


def _attributes(dataset: Phantom, draw: str, female: float, age: tuple[float, float]) -> dict[str, np.ndarray]:
    """Sex, age and race, independent of each other."""
    n, (mean, sd) = dataset.patients, age
    race = np.searchsorted(np.cumsum(RACE_SHARES[:-1]), uniform(dataset, f"{draw} race", n), side="right")
    return {
        "sex": np.where(uniform(dataset, f"{draw} sex", n) < female, "female", "male"),
        "age": np.clip(mean + sd * normal(dataset, f"{draw} age", n), 18, 90).astype(int),
        "race": np.array(params.RACES)[race],
    }
