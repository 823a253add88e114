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
# Before we train any model, we look at the people behind the images. A difference between two groups in a later chapter
# can have three causes: the reconstruction, the diagnostic model, or the data themselves. The data decide who was
# scanned, how often, and with which disease.
#
# **After this chapter you can**
#
# - explain why a study splits and counts patients, and not images;
# - find the groups that are too small to be compared;
# - read a share together with its interval;
# - tell which differences between groups are mixed up with others (confounded).
#
# *Reading and running: about 25 minutes.*
#
# The study that we follow is *Evaluating the Impact of Medical Image Reconstruction on Downstream AI Fairness and
# Performance* by Wohlrapp, Bubeck, Rueckert and Lotter (MIDL 2026). All chapters call it "the paper". "The slides" are
# the final presentation of the same project (Wohlrapp, April 16, 2025).

# %%
import pandas as pd
from IPython.display import Markdown, display

import reconfair as rf
from reconfair.data import splits

# %% [markdown]
# The next cell chooses the study. It starts from a base, here `params/class.yaml`, and each line changes one section of
# it: `{}` changes nothing, `noise = "none"` means without noise, and a dataset with a `name` starts a new study, which
# does not use the base. Opened in Jupyter, run by `papermill -f params/FILE.yaml` or by `reconfair run
# params/FILE.yaml`, this notebook computes the same results from the same settings.

# %% tags=["parameters"]
base = "class"
dataset = {}
noise = {}
diagnosis = {}
compute = {}

# %% [markdown]
# To try another cohort, change one line and give the cohort a name of its own, for example
# `dataset = {"label": "mine", "patients": 100}`. Then run all cells again.

# %%
study = rf.params.study(base, dataset=dataset, noise=noise, diagnosis=diagnosis, compute=compute)
rf.data.prepare(study)
cohort = rf.data.load(study.folds[0])
cohort.table.iloc[:, :12].head()

# %% [markdown]
# This is the start of the cohort table: one row for each image. A patient can have several images. Two slices of one
# brain are not two independent observations, so we split and count by **patient**. Otherwise a model could be tested on
# a patient that it has seen in training.
#
# A small cohort has few test patients. With `dataset = {"folds": 3}` the patients are divided into three folds, and each
# fold is tested by models that were trained on the other two. So every patient is tested once (*cross-fitting*). This
# chapter then shows the split of fold 1.

# %%
attributes = list(study.dataset.about.attributes)
tasks = [task for task, kind in study.tasks.items() if kind == "classify"]
patients = cohort.table.drop_duplicates("patient_id")
sizes = cohort.table.groupby("split").agg(patients=("patient_id", "nunique"), images=("image_id", "size"))
sizes.loc["all"] = sizes.sum()
sizes

# %%
several = patients.groupby("patient_id").split.nunique().gt(1).sum()
Markdown(
    f"The cohort has {len(patients)} patients with {len(cohort.table) / len(patients):.1f} images each on average. "
    f"{sizes.patients['test']} patients are kept for the test. {several} patients are in more than one split."
)

# %% [markdown]
# ## How large are the groups?
#
# **Predict first:** which group is the smallest in the test split? How many patients does it have?

# %%
groups = splits.counts(cohort.table, attributes)
rf.figures.keep(rf.figures.by_group(groups), study, "01_groups")

# %%
compared = groups[(groups.split == "test") & (groups.group != "not recorded")]
smallest = compared.loc[compared.patients.idxmin()]
few = compared[compared.patients < 20].group.tolist()
Markdown(
    f"The smallest group in the test split is **{smallest.group}** with {smallest.patients} patients. "
    + (
        f"Fewer than 20 test patients are in: {', '.join(few)}."
        if few
        else "Every group has at least 20 test patients."
    )
)

# %% [markdown]
# The test patients decide how much we can say. A group with three patients in the test split cannot be compared with
# another group, even if the archive behind it is very large.
#
# *Younger* means at or below the median age over all patients; *older* means above it. Here are the ages:

# %%
rf.figures.keep(rf.figures.ages(patients, [a for a in attributes if a != "age_group"]), study, "01_ages")

# %%
known, medians = patients.age.dropna(), patients.groupby(attributes[0]).age.median().round()
boundary = study.dataset.age_boundary or known.median()
Markdown(
    f"Ages run from {known.min():.0f} to {known.max():.0f} years; the boundary between younger and older is "
    f"{boundary:.0f} years. The medians by {attributes[0]}: "
    + ", ".join(f"{group} {age:.0f}" for group, age in medians.items())
    + f". {len(patients) - len(known)} of {len(patients)} patients are left out because their age is not recorded."
)

# %% [markdown]
# ### Intersections
#
# A woman is also young or old, and has a race. Groups that are large one by one can be tiny together. The table counts
# all patients in the form of the paper's tables 5 and 6:

# %%
rows = [attribute for attribute in ("sex", "age_group") if attribute in attributes]
pd.crosstab([patients[row] for row in rows], patients.race if "race" in attributes else patients.split, margins=True)

# %%
joint = [attribute for attribute in attributes if attribute in ("sex", "age_group", "race")]
cells = patients.dropna(subset=joint).groupby([*joint, "split"]).size().unstack(fill_value=0).test
Markdown(
    f"The table leaves out {patients[joint].isna().any(axis=1).sum()} patients for whom one of {', '.join(joint)} is not "
    f"recorded. Of the {len(cells)} joint groups that exist, {(cells == 0).sum()} have no test patient and "
    f"{(cells < 5).sum()} have fewer than five."
)

# %% [markdown]
# ## What is missing?
#
# A patient without a recorded attribute is left out of the analyses of that attribute only. A patient without a label
# is left out of that task only.

# %%
patients[[*attributes, *tasks]].isna().sum().rename("patients without").to_frame().T

# %% [markdown]
# An image that cannot be read stops the preparation, unless the parameters say `on_bad_image: skip`. Then it matters
# whose images are lost: leaving out more images of one group than of another is a bias as well.

# %%
if getattr(study.dataset, "on_bad_image", "error") == "skip":
    display(splits.losses(cohort.table, rf.data.skipped(study), attributes).round(3))
else:
    print("Every image was read. One unreadable file would have stopped the preparation.")

# %% [markdown]
# ## What do the images look like?
#
# The figure shows the middle image of five patients of each group.

# %%
chosen = splits.examples(cohort.table, rows or attributes, each=5)
pictures = [[cohort.images[row] for row in shown] for shown in chosen.values()]
rf.figures.keep(rf.figures.montage(pictures, [""] * 5, list(chosen)), study, "01_montage")

# %% [markdown]
# Joint groups of sex and age with fewer than five patients are not shown. Look for differences that have nothing to do
# with the disease, such as the size of the head or the brightness. A model sees them, too.
#
# ## How common is the disease in each group?
#
# The share of positives in a group of $n$ patients with $k$ positives is $\hat p = k/n$. Its 95 % interval is that of
# Wilson, which also works for small groups:
#
# $$\frac{1}{1 + z^2/n}\left(\hat p + \frac{z^2}{2n} \pm z \sqrt{\frac{\hat p\,(1 - \hat p)}{n} + \frac{z^2}{4n^2}}\right),
# \qquad z = 1.96.$$
#
# Where prevalence differs between groups, a model can learn to recognise the group instead of the disease.
#
# **Predict first:** for which group will the interval be the widest?

# %%
rates = splits.prevalence(cohort.table, tasks, attributes, study.dataset.about.unit)
rf.figures.keep(rf.figures.prevalence(rates), study, "01_prevalence")

# %%
widest = rates.loc[(rates.high - rates.low).idxmax()]
apart = [
    f"{task} by {rf.words.name(attribute)}"
    for (task, attribute), part in rates.groupby(["task", "attribute"])
    if part.low.max() > part.high.min()
]
Markdown(
    f"The widest interval is that of **{widest.group}** ({widest.task}: {widest.low:.2f} to {widest.high:.2f}, "
    f"n = {widest['count']:.0f}). "
    + (f"Intervals that do not overlap: {'; '.join(apart)}." if apart else "All intervals of one attribute overlap.")
    + f" Left out, because the label is not known: {cohort.table[tasks].isna().any(axis=1).sum()} images."
)

# %% [markdown]
# Overlapping intervals do not prove that the groups are equal. They only mean that this cohort cannot tell.
#
# ## Which columns are associated?
#
# A difference between two groups can be a difference in something else: in age, in the hospital, or in the view of the
# radiograph (bedside images, AP, come from sicker patients). Cramér's $V$ measures how strongly two columns are
# associated. For a table of $n$ patients with $r$ rows and $c$ columns,
#
# $$V = \sqrt{\frac{\chi^2}{n\,(\min(r, c) - 1)}}.$$
#
# It is 0 where the columns are independent, and 1 where each determines the other. `expected` is about the size that
# $V$ has by chance.

# %%
recorded = [column for column in ("site", "view") if column in patients]
associated = splits.associations(patients, [*attributes, *tasks, *recorded])
associated.head(8).round(3)

# %%
first = associated.iloc[0]
Markdown(
    f"The strongest association is that of {first.one} and {first.other}: V = {first.v:.2f}, where chance alone gives about "
    f"{first.expected:.2f}. The table shows {min(8, len(associated))} of {len(associated)} pairs; each leaves out the "
    f"patients for whom one of its two columns is missing (column `patients` counts those that remain)."
)

# %% [markdown]
# An association that is present here **confounds** later chapters. If older patients have the higher grades, a model
# that reads age from an image does well on grade, and a difference between age groups may be one between grades.
# Chapter 05 compares each attribute on its own and does not separate the two.
#
# ## What only a simulated cohort can tell
#
# The bias of a phantom cohort is set with dials: the contrast of lesions, the prevalence and the errors of labels, each
# by group. What we plant here is the truth against which later chapters can be checked. Real scans have no such truth.

# %%
dials = getattr(study.dataset, "dials", None)
planted = {name: values for name, values in dials if values} if dials else {}
if dials is None:
    sentence = "These are real scans: the true bias is unknown."
else:
    sentence = f"Planted bias: `{planted}`." if planted else "No bias is planted here."
if "contrast" in planted:
    sentence += " With a contrast of c, the lesions of a group differ 1 + c times as much from the tissue around them."
Markdown(sentence)

# %% [markdown]
# ## What this chapter does not prove
#
# The size of a group does not tell why the group is small. Age, scanner and severity of the disease can differ together
# with sex or race. No statistic of this study separates them, and $V$ looks at pairs of columns only.
#
# ## Three things to take away
#
# 1. Patients are the unit. Images of one patient belong to one split.
# 2. The smallest test group limits every comparison of its attribute.
# 3. Prevalence and associations come before any model. They explain part of what a model will do.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# **Exercise 1.** Write a function `wilson(k, n)` with the formula above, and compare it with the interval of one group
# in the figure. What does the plain interval $\hat p \pm 1.96 \sqrt{\hat p (1 - \hat p) / n}$ give for $k = 0$?

# %% [markdown] tags=["exercise"]
# **Exercise 2.** Double the number of patients (`dataset = {"label": "double", "patients": ...}`). By which factor do
# the widths of the intervals change? Which groups still have fewer than 20 test patients?

# %% [markdown] tags=["exercise"]
# **Exercise 3.** Split the images at random instead of the patients. How many test patients then have an image in the
# training split? What does this do to a model that recognises patients?

# %% [markdown] tags=["exercise"]
# **Exercise 4.** Plant a difference in prevalence: `dataset = {"label": "planted", "dials": {"prevalence": {"sex":
# {"female": 0.2}}}}`. Which pairs of columns are now at the top of the table of associations?
