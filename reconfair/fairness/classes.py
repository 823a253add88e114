"""Tasks of several classes: what is said of all classes together.

Each class against the rest is a task by itself (``dx: mel`` of ``dx``), whose rows come from `rows` as those of any
binary task, with the decision of the table in the place of a threshold. Here is the task as a whole: accuracy, the
mean AUROC, kappa of classes in order, and gaps as means over classes or of the worst class.
"""

import numpy as np

from . import gaps, resampling
from .rows import Panel, correlation_of, shift_columns

_BY_CLASS = ("tpr", "fpr", "ppr")  # measures of which gaps are means over classes


class ClassPanel(Panel):
    """A task of several classes seen by the groups of one attribute; see `rows.Panel`.

    Parameters
    ----------
    task : checks.Task
        Of kind "classes".
    decided : dict of numpy.ndarray of int, shape (n,)
        By arm, the number of the class that each unit is given to.
    attribute : str
    patient : numpy.ndarray of int, shape (n,)
    """

    def __init__(self, task, decided, attribute, patient):
        super().__init__(task, decided, attribute, patient)
        self.parts = {
            name: Panel(one, {arm: called == k for arm, called in decided.items()}, attribute, patient)
            for k, (name, one) in enumerate(task.classes.items())
        }
        self.measures = ["accuracy", "auroc"] + ["kappa"] * task.ordinal
        self.gaps = {metric: names for metric, names in self.gaps.items() if names != ("kappa",) or task.ordinal}

    def _cases(self, name):
        """Patients of each group that count for a measure; of the rarest class where it needs all, (K,)."""
        if name in ("accuracy", "ppr", "kappa"):
            cases = self.units.sums(np.ones(self.patients.size)).astype(int)
            for arm in self.task.arms if name == "kappa" else ():
                cases[np.isnan(self.measure(arm, name).cells.value)] = 0
            return cases
        needed = ("auroc",) if name == "auroc" else ("tpr", "fpr")
        return np.min([part.cases(one) for part in self.parts.values() for one in needed], axis=0)

    def lacking(self, name, g):
        """What group g has too few of, in words."""
        if name in ("accuracy", "ppr", "kappa"):
            return "patients"
        return min(self.parts, key=lambda key: self.parts[key].cases("auroc")[g])

    def undefined(self, name, g):
        """Why a measure of group g has no value, in words."""
        if name == "kappa" and self.units.sums(np.ones(self.patients.size))[g]:
            return "all labels and decisions are one class"
        if name == "auroc":
            key = self.lacking(name, g)
            words = self.parts[key].undefined("auroc", g)
            return f"0 {key}" if words.startswith("0") else f"{key}: {words}"
        return super().undefined(name, g)

    def _measure(self, arm, name):
        if name == "accuracy":
            return self.units.rate(self.called[arm] == self.label, np.ones(self.label.size, bool))
        if name == "auroc":
            scores = [part.column(arm, "score") for part in self.parts.values()]
            return self.units.macro_auroc(scores, self.label, self.fold)
        return self.units.kappa(self.called[arm], self.label)

    def _change(self, arm, reference, name):
        if name == "accuracy":
            right = [self.called[one] == self.label for one in (arm, reference)]
            return self.units.rate_change(*right, np.ones(self.label.size, bool))
        if name == "auroc":
            return self.units.auroc_change(self.measure(arm, name), self.measure(reference, name))
        return self.units.kappa(self.called[arm], self.label, self.called[reference]).cells

    def gap(self, arm, metric, names, kept, combine, swapped):
        """Columns of one gap by one arm: of a measure of the whole task, or over classes."""
        if names[0] not in _BY_CLASS:
            return super().gap(arm, metric, names, kept, combine, swapped)
        how = {"combine": combine, "worst": metric == "eodd_worst"}
        after, within = self._cells(arm, names, kept)
        column = gaps.over_classes(after, within, **how) | self._extremes(arm, names, kept, how["worst"])
        for change, other in self.references(arm).items():
            before, earlier = self._cells(other, names, kept)
            changed, correlations = [], []
            for part, *two in zip(self.parts.values(), earlier, within, strict=True):
                changed.append([part.change(arm, other, name)[kept] for name in names])
                pairs = [(part.measure(arm, name), part.measure(other, name)) for name in names]
                between = correlation_of(part, [new.residual - old.residual for new, old in pairs], kept)
                correlations.append([*two, between] if len(names) == 2 else None)
            moved = gaps.shift_over_classes(before, after, changed, correlations, **how)
            column |= shift_columns(change, moved, column["value"] - moved["shift"])
        if never := [name for name, part in self.parts.items() if not part.called[arm].any()]:
            note = f"never predicted, so without a gap: {', '.join(never)}"
            column["note"] = "; ".join([*([column["note"]] if "note" in column else []), note])
        return column

    def _cells(self, arm, names, kept):
        """By class the cells of some measures, and the correlation of two."""
        measures = [[part.measure(arm, name) for name in names] for part in self.parts.values()]
        correlations = [
            correlation_of(part, some, kept) for part, some in zip(self.parts.values(), measures, strict=True)
        ]
        return [[one.cells[kept] for one in some] for some in measures], correlations

    def _extremes(self, arm, names, kept, worst):
        """Names of the groups served worst and best, by the mean over classes or in the worst class, which is noted."""
        if names == ("ppr",):
            return {"worst": "", "best": ""}
        values = np.full((len(self.parts), len(names), len(self.names)), np.nan)
        for k, part in enumerate(self.parts.values()):
            values[k, :, kept] = np.stack([part.measure(arm, name).cells.value[kept] for name in names], axis=1)
        signed = values.copy()
        signed[:, 1:] *= -1  # a low FPR is favourable
        if not worst:
            return self.extremes(signed.sum(axis=(0, 1)))
        widest = np.nanargmax((np.nanmax(values, axis=2) - np.nanmin(values, axis=2)).mean(axis=1))
        return self.extremes(signed[widest].sum(axis=0)) | {"note": f"largest for {list(self.parts)[widest]}"}

    def drawn(self, names, weights):
        """Measures of all arms in resamples, and the rates of all classes, (1 + B, A, C, K)."""
        arms, values = list(self.task.arms), {}
        if "accuracy" in names:
            values["accuracy"] = self._means([self.called[arm] == self.label for arm in arms], weights)
        if len(names) > 1:
            parts = self.parts.values()
            values["auroc"] = np.mean([part.drawn(["auroc"], weights)["auroc"] for part in parts], axis=0)
            rates = [part.drawn(_BY_CLASS, weights) for part in parts]
            values |= {name: np.stack([one[name] for one in rates], axis=2) for name in _BY_CLASS}
        if "kappa" in names:
            called = [self.called[arm] for arm in arms]
            apart = self._means([(one - self.label) ** 2 for one in called], weights)
            two, square = (self._means([one**power for one in called], weights) for power in (1, 2))
            label, of_label = (self._means([self.label**power] * len(arms), weights) for power in (1, 2))
            chance = square + of_label - 2 * two * label
            values["kappa"] = 1 - np.divide(apart, chance, out=np.full(apart.shape, np.nan), where=chance > 0)
        return values

    def overall(self, kept, weights):
        """Accuracy of everyone in the groups that are kept, in resamples: (1 + B, A)."""
        everyone = np.where(np.isin(self.units.group, kept), 0, -1)
        right = [self.called[arm] == self.label for arm in self.task.arms]
        return {"overall": self._means(right, weights, everyone, 1)[:, :, 0]}

    def _means(self, values, weights, group=None, groups=None):
        """Means of values of the units by arm in resamples, (1 + B, A, K)."""
        group, groups = (self.units.group, len(self.names)) if group is None else (group, groups)
        given = {"patient": self.units.patient, "group": group, "groups": groups}
        return resampling.draws("mean", np.stack(values, axis=1) * 1.0, weights[:, self.patients], **given)
