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
# *Reading and running: about 25 minutes. You need Python, pandas, and what a mean is.*
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
several = cohort.table.groupby("patient_id").split.nunique().gt(1).sum()
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
known, medians = patients.age.dropna(), patients.groupby(attributes[0]).age.median().round()
boundary = study.dataset.age_boundary or known.median()
aged = rf.figures.ages(patients, [a for a in attributes if a != "age_group"]) if len(known) else None
rf.figures.keep(aged or rf.figures.sentence("no age is recorded"), study, "01_ages")

# %%
Markdown(
    f"Ages run from {known.min():.0f} to {known.max():.0f} years; the boundary between younger and older is "
    f"{boundary:.0f} years. The medians by {attributes[0]}: "
    + ", ".join(f"{group} {age:.0f}" for group, age in medians.items())
    + f". {len(patients) - len(known)} of {len(patients)} patients are left out because their age is not recorded."
    if len(known)
    else "No age is recorded in this study."
)

# %% [markdown]
# ### Intersections
#
# A woman is also young or old, and has a race. Groups that are large one by one can be tiny together. The table counts
# all patients in the form of the paper's tables 5 and 6:

# %%
rows = [attribute for attribute in ("sex", "age_group") if attribute in attributes] or attributes[:2]
beside = patients.race if "race" in attributes and "race" not in rows else patients.split
pd.crosstab([patients[row] for row in rows], beside, margins=True)

# %%
joint = [attribute for attribute in attributes if attribute in ("sex", "age_group", "race")] or rows
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
patients.set_index("patient_id")[attributes].join(
    cohort.table.groupby("patient_id")[tasks].first()
).isna().sum().rename("patients without").to_frame().T

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
widest = rates.loc[(rates.high - rates.low).idxmax()] if len(rates) else None
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
    if len(rates)
    else "This study classifies nothing, so that no label is counted."
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
# It is 0 where the columns are independent, and 1 where the column with more categories determines the other one.
# `expected` is about the size that $V$ has by chance.

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
# ## Quiz
#
# Click an answer to read why it is right or wrong.

# %% [markdown] tags=["quiz"]
# **1. Why are patients split, and not images?**
#
# <details><summary>Because there are fewer patients than images.</summary>No. The number does not matter: a split of
# images would be just as large.</details>
# <details><summary>Because two images of one patient are alike.</summary>Yes. A model could recognise in the test a
# patient that it has seen in training. Its result would then be too good.</details>
# <details><summary>Because labels belong to patients.</summary>No. In radiographs the labels belong to images, and the
# split is still by patient.</details>

# %% [markdown] tags=["quiz"]
# **2. A group has 1,000 patients in training and 4 in the test. What can we say about it?**
#
# <details><summary>Much, because the model has seen many of them.</summary>No. Training makes a model good. Only the test
# patients tell how good it is.</details>
# <details><summary>That the model is fair to it.</summary>No. With 4 patients almost any result is possible by
# chance.</details>
# <details><summary>Almost nothing.</summary>Yes. The test patients limit every statement about the group.</details>

# %% [markdown] tags=["quiz"]
# **3. The intervals of two groups overlap. What follows?**
#
# <details><summary>The groups have the same prevalence.</summary>No. The difference can be too small for this number of
# patients.</details>
# <details><summary>This figure does not show a difference.</summary>Yes. It does not show that there is none, either. For
# a test, look at the difference itself.</details>
# <details><summary>The difference is not significant.</summary>No. Two 95 % intervals can overlap a little while the
# difference is significant at 5 %.</details>

# %% [markdown] tags=["quiz"]
# **4. Older patients have more high grades. A model has a higher TPR in older patients. What is the cause?**
#
# <details><summary>The model is biased by age.</summary>No, this is not known. Harder or easier cases can explain
# it.</details>
# <details><summary>The prevalence.</summary>No, this is not known either. TPR looks at patients with the disease only, but
# their disease can be more or less severe.</details>
# <details><summary>The data alone do not tell.</summary>Yes. Age and grade are associated. One must compare patients of
# equal grade, or plant the difference in a simulation.</details>

# %% [markdown] tags=["quiz"]
# **5. All unreadable files come from one hospital. What is the risk if they are skipped?**
#
# <details><summary>Groups that are treated there get smaller.</summary>Yes. Which patients are lost is as important as how
# many.</details>
# <details><summary>None, if they are fewer than 1 %.</summary>No. They can be half of a small group.</details>
# <details><summary>The model cannot be trained.</summary>No. It can be trained, and nobody notices the loss.</details>

# %% [markdown]
# ## Exercises
#
# Solutions are in the cells below each exercise. `make exercises` writes a copy of this notebook without them.

# %% [markdown] tags=["exercise"]
# **Exercise 1 (write).** Write a function `wilson(k, n)` with the formula above, and compare it with the interval of one
# group in the figure. What does the plain interval $\hat p \pm 1.96 \sqrt{\hat p (1 - \hat p) / n}$ give for $k = 0$?

# %% tags=["exercise", "solution"]
# Hint: name the parts: the share p, the common factor 1 / (1 + z**2 / n), and the square root.
import numpy as np


def wilson(k, n, z=1.96):
    p, factor = k / n, 1 / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return factor * (p + z**2 / (2 * n) - half), factor * (p + z**2 / (2 * n) + half)


row = rates.iloc[0]
print("by hand", wilson(row["sum"], row["count"]), "in the figure", (row.low, row.high))

# %% tags=["exercise"]
# A check. It gives a hint, and does not say that you are right.
if "wilson" not in globals():
    print("Hint: define wilson(k, n) first; it returns the lower and the upper limit.")
else:
    lower, upper = wilson(0, 10)
    if abs(lower) > 1e-9:
        print("Hint: for k = 0 the lower limit is 0. Is z**2 / (4 n**2) inside the square root?")
    elif not 0.27 < upper < 0.29:
        print("Hint: for k = 0 the upper limit is z**2 / (n + z**2). Does the factor multiply both parts?")
    else:
        print("Hint: now try k = n. What should the upper limit be?")

# %% [markdown] tags=["exercise", "solution"]
# The plain interval is 0 to 0 for $k = 0$: it claims to be certain after a few patients. Wilson's upper limit is
# $z^2 / (n + z^2)$, about $3.8 / (n + 3.8)$.

# %% [markdown] tags=["exercise"]
# **Exercise 2 (predict, then run).** Double the number of patients (`dataset = {"label": "double", "patients": ...}`).
# Write down first: by which factor do the widths of the intervals change? Which groups still have fewer than 20 test
# patients?

# %% tags=["exercise", "solution"]
# Hint: the width of an interval falls with the square root of the number of patients.
narrow = pd.DataFrame([wilson(2 * k, 2 * n) for k, n in zip(rates["sum"], rates["count"], strict=True)])
factors = (narrow[1] - narrow[0]) / (rates.high - rates.low)
print(
    f"half the patients' intervals times {factors.min():.2f} to {factors.max():.2f}; 1 / sqrt(2) = {1 / np.sqrt(2):.2f}"
)
print("still below 20:", compared[2 * compared.patients < 20].group.tolist())

# %% [markdown] tags=["exercise", "solution"]
# Twice the patients make the intervals about 0.71 times as wide. To halve them, one needs four times as many patients.
# The run itself gives slightly other numbers, because the new patients are other patients.

# %% [markdown] tags=["exercise"]
# **Exercise 3 (break it).** Split the images at random instead of the patients. How many test patients then have an image
# in the training split? What does this do to a model that recognises patients?

# %% tags=["exercise", "solution"]
# Hint: permute the column `split` of cohort.table.
shuffled = np.random.default_rng(0).permutation(cohort.table.split.to_numpy())
trained = set(cohort.table.patient_id[np.char.startswith(shuffled.astype(str), "train")])
tested = cohort.table.patient_id[shuffled == "test"].unique()
seen = np.mean([patient in trained for patient in tested])
print(f"{seen:.0%} of {len(tested)} test patients have an image in training")

# %% tags=["exercise"]
if "seen" not in globals():
    print("Hint: call your share of test patients with an image in training `seen`.")
elif not 0 < seen <= 1:
    print("Hint: with several images for each patient, some test patients must have one in training.")
else:
    print("Hint: which share do you expect if each image falls into training with a chance of 60 %, two images each?")

# %% [markdown] tags=["exercise", "solution"]
# With two images for each patient, the second image of a test image falls into training with about the share of the
# training split. A model that recognises patients then looks better in the test than it is.

# %% [markdown] tags=["exercise"]
# **Exercise 4 (plant it).** Plant a difference in prevalence: `dataset = {"label": "planted", "dials": {"prevalence":
# {"sex": {"female": 0.2}}}}`. Which pairs of columns are now at the top of the table of associations?

# %% tags=["exercise", "solution"]
# Hint: prepare a second cohort with rf.params.study("class", dataset=...), and compare its table of associations.
dials = {"prevalence": {"sex": {"female": 0.2}}}
planted_study = rf.params.study("class", dataset={"label": "planted", "patients": 100, "dials": dials})
planted_patients = rf.data.prepare(planted_study).table.drop_duplicates("patient_id")
planted_tasks = [task for task, kind in planted_study.tasks.items() if kind == "classify"]
splits.associations(planted_patients, [*attributes, *planted_tasks]).head(4).round(3)

# %% [markdown] tags=["exercise", "solution"]
# The pairs of sex with a task rise, as far as 100 patients can show it: compare `v` with `expected`. A model can now
# use sex to guess the task.

# %% [markdown] tags=["exercise"]
# **Exercise 5 (open).** Choose one difference between two groups in this cohort, or in one that you know. Name two causes
# that could explain it, and the column that you would need to tell them apart. Who would have to record it?

# %% [markdown] tags=["exercise", "solution"]
# An example: women have fewer bedside radiographs. They can be less severely ill, or they can be sent to other wards. The
# severity at the time of the scan would tell the two apart; the ward would have to record it for all patients in the same
# way. There are other good answers. A good answer names a column that could prove it wrong.
