# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 Diagnosis: what does a frozen model see in each image?
#
# The diagnostic models are trained on originals only and then frozen. They stand for the reader who has
# learned on good images and is handed a reconstruction. Whatever changes from here on is the doing of the images.
#
# How good is this reader, and for whom? Answered on originals, before any reconstruction, this is the **baseline** that later chapters compare with.

# %%
import pandas as pd

import reconfair as rf
from reconfair.diagnosis import curves

# %% tags=["parameters"]
dataset = {
    "name": "phantom_mri",
    "size": 64,
    "patients": 300,
    "slices": 2,
    "dials": {"contrast": {"sex": {"female": -0.4}}},
}
noise = {"kind": "kspace", "acceleration": 8}
reconstruction = {
    "models": ["unet", "pix2pix", "sde"],
    "unet": {"channels": 8, "depth": 3, "epochs": 8},
    "pix2pix": {"channels": 16, "epochs": 8, "batch_size": 8, "lr": 0.002, "dropout": 0},
    "sde": {"channels": 32, "depth": 3, "patch": 2, "epochs": 8, "lr": 0.003, "sampler": "few_step"},
}
diagnosis = {
    "classify": {"architecture": "resnet18", "pretrained": False, "epochs": 4, "batch_size": 32, "lr": 0.001},
    "segment": {
        "encoder": "resnet18",
        "decoder": [64, 48, 32, 16, 16],
        "pretrained": False,
        "epochs": 4,
        "batch_size": 16,
    },
}
fairness = {"min_cases": 5}
compute = {}

# %%
study = rf.params.study(
    dataset=dataset, noise=noise, reconstruction=reconstruction, diagnosis=diagnosis, fairness=fairness, compute=compute
)
folders = {network.name: rf.diagnosis.train(study, network) for network in study.networks}
sources = ["original", "noisy", *study.reconstruction.models]
predictions = pd.concat([rf.diagnosis.predict(study, source) for source in sources], ignore_index=True)
predictions.groupby(["task", "split", "source"], sort=False).size().unstack()

# %% [markdown]
# One row per decision: a patient where the task is about the patient (the score is then the median over the slices), an image where it is about the image.
#
# ## Did the models learn?
#
# A classifier minimises the cross-entropy $-\frac1n\sum_i y_i \log p_i + (1-y_i)\log(1-p_i)$ of its score $p_i$; a segmenter half of $1-\mathrm{Dice}$ plus
# half of the mean absolute error.

# %%
logs = {name: pd.read_csv(folder / "log.csv") for name, folder in folders.items()}
rf.figures.keep(rf.figures.learning(logs), study, "04_learning")

# %% [markdown]
# The weights of the epoch with the smallest validation loss are kept. Where the dashed line goes on falling while the solid one rises, a model learns its training patients by heart.
# *Not proved:* that the model has learned the disease. A scanner's mark or a patient's age lowers the loss as well, if it goes with the disease.
#
# ## From score to decision
#
# A score becomes a decision at a threshold $\tau$. Ours is *balanced*: it makes sensitivity and specificity as equal as
# possible, $\tau = \arg\min_t |\mathrm{TPR}(t) - \mathrm{TNR}(t)|$, on the validation **originals**. It is then kept for every source: a clinic does not
# move its threshold because the scanner has a new reconstruction.

# %%
thresholds = rf.diagnosis.thresholds(study)
validation = predictions[(predictions.source == "original") & (predictions.split == "val")]
rates = curves.by_threshold(validation)
rf.figures.keep(rf.figures.balance(rates, thresholds), study, "04_threshold")

# %% [markdown]
# A higher threshold calls fewer patients positive: fewer of the ill are found (TPR falls), fewer of the healthy are alarmed (TNR = 1 - FPR rises). The threshold stands where
# the lines cross. The bands are 95 % intervals of a bootstrap of patients; where they are wide, another validation split would have set another threshold.
# *Not proved:* that this is the right place. A missed tumour and a false alarm do not cost the same; *balanced* is a convention.
#
# ## Every threshold at once
#
# The ROC curve shows the two rates at all thresholds, the precision-recall curve how many of the positive calls are right:
#
# $$\mathrm{precision} = \frac{\mathrm{TPR}\,\pi}{\mathrm{TPR}\,\pi + \mathrm{FPR}\,(1-\pi)}, \qquad \pi = \text{prevalence}.$$
#
# **Predict first:** on the test patients, will the ring, the decision at the threshold, lie on the diagonal from top left to bottom right, where sensitivity equals specificity?

# %%
test = predictions[predictions.split == "test"]
originals = test[test.source == "original"]
cohort = rf.data.load(study)
settings = study.fairness.model_dump(exclude={"attributes"})
performance, gaps = rf.fairness.assess(
    originals, cohort.table, attributes=study.attributes(), thresholds=thresholds, **settings
)
performance = performance.sort_values("task", key=lambda names: names.map(list(study.tasks).index), kind="stable")
drawn = curves.roc(originals), curves.precision_recall(originals)
rf.figures.keep(rf.figures.curves(*drawn, performance), study, "04_roc")

# %% [markdown]
# The threshold was balanced on other patients, so on these it is balanced only nearly. AUROC is the area under the left curve: the chance that a patient with the disease scores above
# one without; 0.5 is chance (dotted). Right, chance is the prevalence, so precision of one hospital does not carry over to another; and
# where the ring lies below the line, a higher threshold would have found as many with fewer false alarms. **A model whose interval reaches down to
# the dotted line is not shown to know anything**, and nothing that a later chapter says of its bias means much.
#
# ## Is a score a risk?
#
# Of the patients who score about 0.3, three in ten should have the disease.

# %%
rf.figures.keep(rf.figures.reliability(curves.reliability(originals)), study, "04_calibration")

# %% [markdown]
# Each point holds as many patients or images as the next; above the diagonal the risk is underestimated, below it overestimated. AUROC does not see this: it asks for the order of the scores alone.
# *Not proved:* calibration of groups. Two errors in opposite directions cancel in the whole.
#
# ## For whom?
#
# **Predict first:** which group is read worst? Think of whose disease is hardest to see, and of who was rare in training.

# %%
groups = performance[performance.attribute != "all"]
rf.figures.keep(rf.figures.group_values(groups, "auroc", "dice"), study, "04_groups")

# %% [markdown]
# Bars are 95 % intervals of a bootstrap of patients. A point without a bar is no certainty: all of few patients were read alike, and a bootstrap knows no others.
#
# The area tells how well a model orders the patients of a group. The errors that they meet come from the one threshold: $1-\mathrm{TPR}$ of the ill are missed, and $\mathrm{FPR}$ of the healthy are alarmed.

# %%
rf.figures.keep(rf.figures.group_values(groups, "tpr", "fpr"), study, "04_errors")

# %% [markdown]
# Intervals that overlap are no proof of equality, nor is a largest difference between many groups proof of a disparity: it is large by chance alone. So the **baseline bias** stands beside
# `expected`, what it would be on average if groups did not differ (chapter 05 shows why, and what EODD and SER are):

# %%
baseline = gaps[gaps.metric.isin(["eodd", "ser"])].set_index(["task", "metric", "attribute"])
baseline[["value", "low", "high", "expected", "p_disparity", "groups", "left_out"]].round(3)

# %%
baseline.pivot_table(["value", "expected"], "metric", "attribute", "median", sort=False).round(3)

# %% [markdown]
# *Median over tasks: the paper's table 1.* Groups with fewer than `min_cases` patients of each label are left out.
#
# ### What is confounded
#
# Groups differ in more than their name:

# %%
people = cohort.table[cohort.table.split == "test"].drop_duplicates("patient_id")
people = people.melt(["patient_id", "age"], list(study.attributes()), "attribute", "group")
described = people.groupby(["attribute", "group"]).agg(patients=("patient_id", "size"), mean_age=("age", "mean"))
share = groups[groups.metric == "auroc"].assign(prevalence=lambda rows: rows.positives / rows.n)
described.join(share.pivot_table("prevalence", ["attribute", "group"], "task").add_prefix("prevalence of ")).round(2)

# %% [markdown]
# A group that is older, iller or scanned elsewhere is read differently for that reason already; whoever is ill more often gets higher scores and so more positive calls, right and wrong. Sex, race, age,
# severity, scanner and hospital come together in real cohorts, and nothing in this chapter takes them apart. In a phantom cohort chapter 01 says what was planted. Later chapters compare the
# *same* patients before and after reconstruction: there, what is confounded here is the same on both sides.
#
# ## The same decisions, from another image

# %%
test.groupby(["task", "source"], sort=False)[["score", "dice"]].agg(["mean", "std"]).dropna(axis=1, how="all").round(3)

# %%
wide = test.pivot_table("score", ["task", "unit"], "source")
changed = wide.ge(wide.index.get_level_values("task").map(thresholds), axis=0)
changed.drop(columns="original").ne(changed.original, axis=0).groupby("task").mean().round(3)

# %% [markdown]
# The share of decisions that differ from the one on the original. A change is not yet an error: the original may have been the wrong one.
#
# ## Elsewhere: external evaluation
#
# Test patients of the same cohort share scanner, preparation and selection with those trained on. Another cohort with tasks of the same names does not:
#
# ```python
# elsewhere = rf.params.study(dataset={"name": "phantom_mri", "label": "elsewhere", "size": 64, "patients": 300, "seed": 1})
# answers = rf.diagnosis.evaluate_on(study, elsewhere)
# rf.fairness.assess(answers, rf.data.load(elsewhere).table, thresholds=thresholds)
# ```
#
# Weights and thresholds stay as they are. What changes is the *domain*: the people and how ill they are, the scanner and the preparation of its images, and what the label means (`grade` is 3 against 2 in
# LGG, 4 against 2 and 3 in UCSF-PDGM). A loss is the sum of all that; which part did it, one external cohort does not tell.
#
# **What this chapter does not prove.** These models are one reader, trained once. Another seed is another reader; and a model trained
# on reconstructions might read them better.
