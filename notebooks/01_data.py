# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 Data: who is in the study?
#
# Before any model is trained we look at the people behind the images. A difference between two groups
# in a later chapter can come from the reconstruction, from the diagnostic model, or simply from here:
# from who was scanned, how often, and with what disease.
#
# **Change a number below and run again.** A run under another parameter file replaces the cell.

# %%
import pandas as pd
from IPython.display import Markdown

import reconfair as rf
from reconfair.data import splits

# %% [markdown]
# The study is a set of typed parameters. Everything left out takes the paper's setting.

# %% tags=["parameters"]
dataset = {
    "name": "phantom_mri",
    "size": 64,
    "patients": 300,
    "slices": 2,
    "dials": {"contrast": {"sex": {"female": -0.4}}},
}
noise = {"kind": "kspace", "acceleration": 8}
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
compute = {}

# %%
study = rf.params.study(dataset=dataset, noise=noise, diagnosis=diagnosis, compute=compute)
cohort = rf.data.prepare(study)
cohort.table.iloc[:, :12].head()

# %% [markdown]
# Each row is one image. A **patient** may have several, so everything that follows, splitting and
# counting uncertainty alike, is done by patient: two slices of one brain are not two independent witnesses.

# %%
sizes = cohort.table.groupby("split").agg(patients=("patient_id", "nunique"), images=("image_id", "size"))
sizes.loc["all"] = sizes.sum()
sizes

# %% [markdown]
# ## Who?
#
# **Predict first:** which group is the smallest in the test split, and with how many patients?

# %%
attributes = study.dataset.about.attributes
rf.figures.keep(rf.figures.by_group(splits.counts(cohort.table, attributes)), study, "01_groups")

# %% [markdown]
# Test patients decide how much can be said. A group with three patients in the test split cannot be
# compared with anybody, however large the archive is that it came from. *Younger* and *older* mean at or below,
# and above, the median age over all patients:

# %%
patients = cohort.table.drop_duplicates("patient_id")
patients.age.describe().round(1).to_frame().T

# %%
rf.figures.keep(rf.figures.ages(patients, [a for a in attributes if a != "age_group"]), study, "01_ages")

# %% [markdown]
# ### Intersections
#
# A woman is also young or old, and of a race. Groups that are large one by one can be tiny together. All patients (the form of the paper's tables 5 and 6), then those of each split:

# %%
rows = [attribute for attribute in ("sex", "age_group") if attribute in attributes]
pd.crosstab([patients[row] for row in rows], patients.race if "race" in attributes else patients.split, margins=True)

# %%
patients.groupby([*rows, "split"]).size().unstack(fill_value=0)

# %% [markdown]
# ## What is missing?
#
# A missing attribute takes a patient out of the analyses of that attribute only, a missing label out of that task only.

# %%
columns = [*study.dataset.about.attributes, *(task for task, kind in study.tasks.items() if kind == "classify")]
patients[columns].isna().sum().rename("patients without").to_frame().T

# %% [markdown]
# Images that could not be read are left out only where the parameters say so (`on_bad_image: skip`). Whose they are matters: to drop patients can itself bias.

# %%
if getattr(study.dataset, "on_bad_image", "error") == "skip":
    display(splits.losses(cohort.table, rf.data.skipped(study), attributes).round(3))  # noqa: F821
else:
    print("Every image was read: one bad file would have stopped the preparation.")

# %% [markdown]
# ## What do they look like?

# %%
chosen = splits.examples(cohort.table, ["sex", "age_group"], each=5)
pictures = [[cohort.images[row] for row in rows] for rows in chosen.values()]
rf.figures.keep(rf.figures.montage(pictures, [""] * 5, list(chosen)), study, "01_montage")

# %% [markdown]
# ## How common is the disease in each group?
#
# The share of positives is $\hat p = k/n$, shown with Wilson's 95 % interval. Where prevalence differs between groups,
# a model may learn the group instead of the disease.

# %%
tasks = [task for task, kind in study.tasks.items() if kind == "classify"]
rates = splits.prevalence(cohort.table, tasks, attributes, study.dataset.about.unit)
rf.figures.keep(rf.figures.prevalence(rates), study, "01_prevalence")

# %% [markdown]
# ## What goes together?
#
# A difference between two groups may be that of something else in which they differ: age, hospital, view of the radiograph (bedside images, AP, are of sicker patients).
# Cramér's $V$ is 0 where two columns are independent and 1 where one tells the other; `expected` is its size by chance among so many patients.

# %%
known = [column for column in ("site", "view") if column in patients]
splits.associations(patients, [*attributes, *tasks, *known]).head(8).round(3)

# %% [markdown]
# What is associated here is *confounded* later: if older patients have the higher grades, a model that reads age from an image does well on grade, and a shift between age groups may be one
# between grades. Chapter 05 compares each attribute on its own; it does not take these apart.
#
# ## What we know that nobody knows of real data
#
# A phantom cohort has dials: lesion contrast, prevalence and label noise can be set by group. Whatever
# is set here is the truth against which later chapters can be judged. Real scans have no such line.

# %%
dials = getattr(study.dataset, "dials", None)
Markdown(f"Planted bias: `{dials}`" if dials else "Real scans: the true bias is unknown.")

# %% [markdown]
# **What this chapter does not prove.** Group sizes say nothing about why a group is small. Age, scanner
# and severity of disease may differ together with sex or race; no statistic in this study separates them, and $V$ shows pairs alone.
