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
# We train the diagnostic models on originals only and then freeze them. They stand for a reader who has learned on good
# images and now receives a reconstruction. From here on, whatever changes in a diagnosis comes from the images.
#
# How good is this reader, and for whom? We answer this first on originals, before any reconstruction. The answer is the
# **baseline**, with which later chapters compare.
#
# **After this chapter you can**
#
# - turn a score into a decision with a balanced threshold;
# - read ROC, precision-recall and reliability curves with their intervals;
# - say for which groups a model makes more errors, and how sure that is;
# - count the decisions that change when the image changes.
#
# *Reading and running: about 40 minutes. You need chapters 01 and 03, and what a rate and an interval are.*

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown

import reconfair as rf
from reconfair.diagnosis import curves

# %% [markdown]
# The next cell chooses the study. It starts from a base, here `params/class.yaml`, and each line changes one section of
# it: `{}` changes nothing, `noise = "none"` means without noise, and a dataset with a `name` starts a new study, which
# does not use the base. Opened in Jupyter, run by `papermill -f params/FILE.yaml` or by `reconfair run
# params/FILE.yaml`, this notebook computes the same results from the same settings.

# %% tags=["parameters"]
base = "class"
dataset = {}
noise = {}
reconstruction = {}
diagnosis = {}
fairness = {}
compute = {}

# %%
study = rf.params.study(
    base,
    dataset=dataset,
    noise=noise,
    reconstruction=reconstruction,
    diagnosis=diagnosis,
    fairness=fairness,
    compute=compute,
)
cohort, attributes = rf.data.load(study), list(study.attributes())
for fold in study.folds[::-1]:  # fold 1 is the last, and shown below
    folders = {network.name: rf.diagnosis.train(fold, network) for network in study.networks}
    for model in set(study.models) - set(study.trained):
        rf.recon.reconstruct(fold, model)  # images that were made elsewhere are read
predictions = pd.concat([rf.diagnosis.predict(study, source) for source in study.sources], ignore_index=True)
predictions.groupby(["task", "split", "source"], sort=False).size().unstack()

# %% [markdown]
# The table counts decisions. If the task is about the patient, there is one for each patient, and its score is the
# median over the slices. If the task is about the image, there is one for each image.
#
# Without `dataset.folds` there is one fold, the study itself. With folds, each fold has readers and thresholds of its own.
# Every patient is tested once, by readers that were not trained on that patient, and the tables and groups below count
# them all. The learning curves, the choice of the threshold, and the ROC curves are those of fold 1, because scores
# of two readers cannot be compared.
#
# ## Did the models learn?
#
# A classifier minimises the cross-entropy of its scores $p_i$, and a segmenter the mean of two errors of its outline
# $p$ against the true mask $m$:
#
# $$L_\text{classify} = -\frac1n \sum_i \bigl[y_i \log p_i + (1 - y_i) \log(1 - p_i)\bigr], \qquad
# L_\text{segment} = \tfrac12 (1 - \mathrm{Dice}) + \tfrac12\, \overline{\lvert p - m \rvert},
# \qquad \mathrm{Dice} = \frac{2 \sum p\,m}{\sum p + \sum m}.$$

# %%
trained = [network.name for network in study.networks if not network.model]
logs = {name: pd.read_csv(folders[name] / "log.csv") for name in trained}
rf.figures.keep(rf.figures.learning(logs), study, "04_learning") if logs else None

# %%
rises = [name for name, log in logs.items() if log.val_loss.iloc[-1] > 1.05 * log.val_loss.min()]
Markdown(
    "We keep the weights of the epoch with the smallest validation loss: "
    + ", ".join(f"epoch {log.val_loss.idxmin() + 1} of {len(log)} for {name}" for name, log in logs.items())
    + ". "
    + (
        f"At the end, the validation loss rises for {', '.join(rises)}."
        if rises
        else "No validation loss rises at the end."
    )
    if logs
    else "No model of this study is trained here. Only thresholds are chosen below."
)

# %% [markdown]
# Where the dashed line keeps falling while the solid line rises, the model memorises its training patients.
#
# *Not proved:* that the model has learned the disease. The mark of a scanner or the age of the patient lowers the loss as
# well, if it goes together with the disease.
#
# ## From score to decision
#
# A score becomes a decision at a threshold $\tau$. Ours is *balanced*: it makes sensitivity (TPR) and specificity (TNR) as
# equal as possible on the validation **originals**,
#
# $$\tau = \arg\min_t \lvert \mathrm{TPR}(t) - \mathrm{TNR}(t) \rvert.$$

# %%
in_fold = predictions[predictions.fold == fold.number] if fold.number else predictions
validation = in_fold[(in_fold.source == "original") & (in_fold.split == "val") & in_fold.label.notna()]


def balanced(rows):
    candidates = np.unique(rows.score)
    tpr = np.array([(rows.score[rows.label == 1] >= t).mean() for t in candidates])
    tnr = np.array([(rows.score[rows.label == 0] < t).mean() for t in candidates])
    return candidates[np.argmin(np.abs(tpr - tnr).round(12))]


thresholds = rf.diagnosis.thresholds(fold)
five_lines = {task: balanced(rows) for task, rows in validation.groupby("task")}
pd.DataFrame({"these five lines": five_lines, "stored": thresholds}).round(4)

# %% [markdown]
# Both columns agree. The threshold stays the same for every source, because a clinic does not
# change its threshold when the scanner gets a new reconstruction.

# %%
rates = curves.by_threshold(validation)
rf.figures.keep(rf.figures.balance(rates, thresholds), study, "04_threshold")

# %% [markdown]
# A higher threshold calls fewer patients positive: fewer of the ill are detected (TPR falls), and fewer of the healthy get
# a false alarm (TNR = 1 - FPR rises). The threshold is where the lines cross. The bands are 95 % intervals of a bootstrap
# over patients. Where they are wide, other validation patients would have given another threshold.
#
# A task of several classes, such as `dx`, has one network with a softmax. Its decision is the class with the largest score,
# for every source; no threshold enters it. The tables show each class against the rest as a task (`dx: mel`), and the task
# as a whole (`dx`). The thresholds of classes above are drawn for comparison only.
#
# *Not proved:* that this is the right threshold. A missed tumour and a false alarm do not cost the same. *Balanced* is a
# convention.
#
# ## Every threshold at once
#
# The ROC curve shows both rates at all thresholds. The precision-recall curve shows how many of the positive calls are
# right. With the prevalence $\pi$,
#
# $$\mathrm{precision} = \frac{\mathrm{TPR}\,\pi}{\mathrm{TPR}\,\pi + \mathrm{FPR}\,(1-\pi)}.$$
#
# **Predict first:** on the test patients, will the ring (the decision at the threshold) be on the diagonal from top left to
# bottom right, where sensitivity equals specificity?

# %%
test = predictions[predictions.split == "test"]
originals = test[test.source == "original"]
settings = study.fairness.model_dump(exclude={"attributes"})
performance, gaps = rf.fairness.assess(
    originals,
    cohort.table,
    attributes=attributes,
    thresholds=rf.diagnosis.thresholds(study),
    ordinal=study.ordinal,
    **settings,
)
order = {task: place for place, task in enumerate(study.tasks)}  # the whole of several classes comes first
performance = performance.sort_values("task", key=lambda names: names.map(order).fillna(-1), kind="stable")
shown = in_fold[(in_fold.source == "original") & (in_fold.split == "test")]
drawn, of_shown = (curves.roc(shown), curves.precision_recall(shown)), performance
if fold.number:
    alone = shown.drop(columns="fold")
    how = {"attributes": attributes, "thresholds": thresholds, "ordinal": study.ordinal, **settings}
    of_shown, _ = rf.fairness.assess(alone, cohort.table, **how)
rf.figures.keep(rf.figures.curves(*drawn, of_shown), study, "04_roc")

# %%
everyone = performance[performance.attribute == "all"]
auroc = everyone[everyone.metric == "auroc"].set_index("task")
unsure = auroc.index[auroc.low <= 0.5].tolist()
Markdown(
    "; ".join(f"{task}: AUROC {row.value:.2f} ({row.low:.2f} to {row.high:.2f})" for task, row in auroc.iterrows())
    + ". "
    + (f"The interval includes 0.5 for {', '.join(unsure)}." if unsure else "No interval includes 0.5.")
    + f" Decisions without a known label are left out ({originals[originals.kind == 'classify'].label.isna().sum()})."
    if len(auroc)
    else "This study classifies nothing."
)

# %% [markdown]
# Of several classes, AUROC is the mean over the classes, each against the rest. Accuracy is the share of right decisions.
# With unequal classes a reader reaches a high accuracy by calling everybody the most common one, so the table sets it
# beside the share of that class. Classes that have an order have a weighted kappa as well: the agreement of decision and
# label beyond chance, in which a mistake by two classes counts four times (Cohen 1968).

# %%
wholes = everyone[everyone.metric.isin(["accuracy", "kappa"])].set_index(["task", "metric"])[["value", "low", "high"]]
largest = everyone[(everyone.metric == "tpr") & everyone.task.str.contains(": ")]
largest = (largest.positives / largest.n).groupby(largest.task.str.split(": ").str[0]).max().rename("largest class")
wholes.join(largest, on="task").round(3) if len(wholes) else print("This study has no task of several classes.")

# %% [markdown]
# The threshold was balanced on other patients, so on these it is balanced only approximately. AUROC is the area under the
# left curve: the probability that a patient with the disease has a higher score than one without. 0.5 is chance (dotted).
# On the right, chance is the prevalence, so the precision of one hospital does not hold in another. **A model whose
# interval includes the dotted line may know nothing**, and then its bias in later chapters means little.
#
# ## Is a score a risk?
#
# Of the patients with a score of about 0.3, three in ten should have the disease. Then the model is *calibrated*.

# %%
bins = curves.reliability(originals)
rf.figures.keep(rf.figures.reliability(bins), study, "04_calibration")

# %%
missed = bins[(bins.low > bins.x) | (bins.high < bins.x)]
Markdown(
    f"{len(missed)} of {len(bins)} points have an interval that does not include the diagonal. Above the diagonal, the model "
    "underestimates the risk; below it, the model overestimates it."
    if len(bins)
    else "Without a classification there are no scores to calibrate."
)

# %% [markdown]
# All points stand for equally many patients or images. AUROC does not see miscalibration, because it depends only on the
# order of the scores.
#
# *Not proved:* that groups are calibrated. Two errors in opposite directions cancel in the total.
#
# ## For whom?
#
# **Predict first:** for which group is the reader worst? Whose disease is hardest to see, and who was rare in training?

# %%
groups = performance[performance.attribute != "all"]
rf.figures.keep(rf.figures.group_values(groups, "auroc", "dice"), study, "04_groups")

# %%
main = groups[groups.metric.isin(["auroc", "dice"]) & groups.value.notna()]
lowest = main.loc[main.groupby("task", sort=False).value.idxmin()]
none = groups[groups.metric.isin(["auroc", "dice"]) & groups.value.isna()].group.unique()
Markdown(
    "Lowest values: "
    + "; ".join(
        f"{row.task}: {row.group} with {rf.words.name(row.metric)} {row.value:.2f} ({row.low:.2f} to {row.high:.2f}, "
        f"{row.patients} patients)"
        for row in lowest.itertuples()
    )
    + f". Without a value, because a label does not occur: {', '.join(none) or 'no group'}."
)

# %% [markdown]
# Bars are 95 % intervals. A point without a bar is not certain: its few patients had the same result, and other patients
# could differ.
#
# The area tells how well a model orders the patients of a group. The errors that the patients experience come from the
# common threshold: a share of $1-\mathrm{TPR}$ of the ill is missed, and a share of $\mathrm{FPR}$ of the healthy gets a
# false alarm.

# %%
rf.figures.keep(rf.figures.group_values(groups, "tpr", "fpr"), study, "04_errors")

# %% [markdown]
# **What the AUROC of a group means.** The AUROC of women compares women with the disease and women without it. It does not
# mean that the reader ignores sex: the reader can see it. From radiographs and brain MRI, a simple probe of a frozen
# network can tell sex, often better than the disease. So the reader may use the group, or what goes together with it, for
# its decision. The attribute probe of chapter 05 measures how well each group can be told from the features of these
# readers.
#
# Overlapping intervals do not prove equality. The largest difference between many groups does not prove a disparity
# either, because it is large by chance alone. So the table of the **baseline bias** has a column `expected`: the value
# that the same measure would have on average if the groups did not differ. The measures are
#
# - the *equalised odds difference* (EODD): half the largest difference in TPR plus half the largest difference in FPR
#   between groups. 0 means equal. Of several classes it is the mean over the classes. Hardt, Price and Srebro (2016)
#   define equalised odds;
# - the *skewed error ratio* (SER), in the paper and the slides: the largest $1 - \mathrm{Dice}$ of a group divided by the smallest; 1 means equal.

# %%
baseline = gaps[gaps.metric.isin(["eodd", "ser"])].set_index(["task", "metric", "attribute"])
baseline[["value", "low", "high", "expected", "groups", "left_out"]].round(3)

# %%
judged = baseline[baseline.value.notna() & baseline.expected.notna()]
above = judged[judged.value > judged.expected]
Markdown(
    f"{len(above)} of {len(judged)} disparities are larger than expected by chance; without any disparity, "
    f"about half of them would be. Groups with fewer than {study.fairness.min_cases} patients of each label are left out (`left_out`)."
)

# %% [markdown]
# The median over tasks, in the form of the paper's table 1:

# %%
baseline.pivot_table(["value", "expected"], "metric", "attribute", "median", sort=False).round(3)

# %% [markdown]
# Chapter 05 explains how these numbers are computed and tested.
#
# ### What is confounded
#
# Groups differ in more than their name. The test patients:

# %%
people = cohort.table[cohort.table.split == "test"].drop_duplicates("patient_id")
people = people.melt(["patient_id", "age"], attributes, "attribute", "group")
described = people.groupby(["attribute", "group"]).agg(patients=("patient_id", "size"), mean_age=("age", "mean"))
share = groups[groups.metric == "auroc"].assign(prevalence=lambda rows: rows.positives / rows.n)
described.join(share.pivot_table("prevalence", ["attribute", "group"], "task").add_prefix("prevalence of ")).round(2)

# %%
spread = described.mean_age.groupby("attribute").agg(lambda ages: ages.max() - ages.min())
Markdown(
    "The mean age differs between groups by up to "
    + ", ".join(f"{years:.1f} years for {rf.words.name(attribute)}" for attribute, years in spread.items())
    + ". Patients without a recorded attribute are left out of its rows."
)

# %% [markdown]
# A group that is older, sicker or scanned elsewhere has other results for that reason alone. A group with more disease
# gets higher scores and so more positive calls, right and wrong. In real cohorts sex, race, age, severity, scanner and
# hospital go together, and nothing in this chapter separates them. Chapter 01 says what was planted in a phantom cohort.
# Later chapters compare the *same* patients before and after reconstruction, so what is confounded here is the same on
# both sides.
#
# ## The same decisions, from another image
#
# **Predict first:** which share of the decisions will change when the reader gets the noisy image?

# %%
test.groupby(["task", "source"], sort=False)[["score", "dice"]].agg(["mean", "std"]).dropna(axis=1, how="all").round(3)

# %%
means = test[test.kind == "classify"].groupby(["task", "source"]).score.mean().unstack()
moves = (means.drop(columns="original").sub(means.original, axis=0)).stack() if len(means) else means
Markdown(
    f"The mean score changes most for {moves.abs().idxmax()[0]} on {rf.words.name(moves.abs().idxmax()[1])}: by "
    f"{moves[moves.abs().idxmax()]:+.2f}. The threshold stays, so such a change turns into more or fewer positive calls."
    if len(moves)
    else "This study has classification on originals only, or no classification."
)

# %% [markdown]
# The share of decisions that differ from the decision on the original:

# %%
decided = test[test.kind == "classify"].assign(called=rf.diagnosis.called(study, test))
called = decided.pivot(index=["task", "unit"], columns="source", values="called").dropna()
called = called if len(called) else called.assign(original=[])
changed = called.drop(columns="original").ne(called.original, axis=0).groupby("task").mean()
changed.round(3)

# %% [markdown]
# A change is not yet an error: the decision on the original can be the wrong one. Chapter 05 counts errors.
#
# ## Another hospital: external evaluation
#
# Test patients of the same cohort share the scanner, the preparation and the selection with the training patients. Those
# of another cohort with the same tasks do not:
#
# ```python
# elsewhere = rf.params.study("class", dataset={"label": "elsewhere", "seed": 1})
# answers = rf.diagnosis.evaluate_on(study, elsewhere)
# rf.fairness.assess(answers, rf.data.load(elsewhere).table, thresholds=thresholds)
# ```
#
# Weights and thresholds stay as they are. The *domain* changes: the patients and how ill they are, the scanner and the
# preparation of its images, and the meaning of the label (`grade` is 3 against 2 in LGG, 4 against 2 and 3 in UCSF-PDGM).
# A loss is the sum of all these effects. One external cohort does not tell them apart.
#
# ## What this chapter does not prove
#
# The models are one reader, trained once. Another seed gives another reader. A model that is trained on reconstructions
# might also read them better.
#
# ## Three things to take away
#
# 1. The reader is frozen, and its threshold is chosen on validation originals. Then a change comes from the image.
# 2. A number of a group needs its interval and its number of patients.
# 3. A bias on originals is the baseline, not an effect of reconstruction.
#
# ## Quiz
#
# Click an answer to read why it is right or wrong.

# %% [markdown] tags=["quiz"]
# **1. Why are the readers trained on originals only, and then frozen?**
#
# <details><summary>Then a change of a diagnosis comes from the image, and not from a new reader.</summary>Yes. The reader is
# the measuring instrument, so it must stay the same.</details>
# <details><summary>Because reconstructions are too bad to learn from.</summary>No. A reader can learn from them, and chapter
# 07 asks what else it can learn. Here it would mix two effects.</details>
# <details><summary>To save time.</summary>No. It does save time, but this is not the reason.</details>

# %% [markdown] tags=["quiz"]
# **2. The threshold is raised. What happens?**
#
# <details><summary>TPR and FPR both rise.</summary>No. A higher threshold calls fewer patients positive, ill and healthy
# ones.</details>
# <details><summary>AUROC rises.</summary>No. AUROC looks at the order of the scores only, and no threshold enters it.</details>
# <details><summary>More ill patients are missed, and fewer healthy patients get a false alarm.</summary>Yes. Both rates fall,
# and one pays for the other.</details>

# %% [markdown] tags=["quiz"]
# **3. A reader has AUROC 0.90 for women and for men. Are they served equally at the common threshold?**
#
# <details><summary>Yes, the AUROC is the same.</summary>No. If all scores of women are lower, their order is the same, but
# more ill women are missed.</details>
# <details><summary>This is not known: look at TPR and FPR of both.</summary>Yes. AUROC of a group does not see where the
# scores lie against the threshold.</details>
# <details><summary>No, AUROC is never fair.</summary>No. It measures the order within a group, and that can be the
# same.</details>

# %% [markdown] tags=["quiz"]
# **4. In a clinic half of the patients are ill, in a screening one in a hundred. TPR and FPR are the same. What changes?**
#
# <details><summary>Nothing.</summary>No. The share of positive calls that are right changes very much.</details>
# <details><summary>Precision falls in the screening.</summary>Yes. Most of the people are healthy there, so most alarms are
# false ones.</details>
# <details><summary>AUROC falls in the screening.</summary>No. It compares pairs of one ill and one healthy person, however
# many there are.</details>

# %% [markdown] tags=["quiz"]
# **5. A group of four ill patients has a TPR of 1.00. What do you write?**
#
# <details><summary>That this group is served best.</summary>No. Four right decisions are also likely if the true TPR is
# 0.80.</details>
# <details><summary>Nothing, since the group is too small.</summary>No. Then nobody learns that it is too small. Write the
# number of patients and the interval.</details>
# <details><summary>4 of 4, with the interval, and that it cannot be compared.</summary>Yes. Wilson's interval runs from
# about 0.51 to 1.</details>

# %% [markdown]
# ## Exercises
#
# Solutions are in the cells below each exercise. `make exercises` writes a copy of this notebook without them. They need
# a task of classification, such as the first one of this study:

# %%
task = next(iter(auroc.index), None)
answers = shown[(shown.task == task) & shown.label.notna()]
answers = answers.merge(cohort.table.drop_duplicates("patient_id")[["patient_id", *attributes]], on="patient_id")
ill, healthy = answers.score[answers.label == 1].to_numpy(), answers.score[answers.label == 0].to_numpy()
print(f"{task}: {len(ill)} ill and {len(healthy)} healthy in the test")

# %% [markdown] tags=["exercise"]
# **Exercise 1 (write).** Compute AUROC without a library: the share of pairs of one of `ill` and one of `healthy` in which the
# ill one has the higher score. A tie counts one half. Call it `by_pairs`, and compare it with `auroc.value[task]`.

# %% tags=["exercise", "solution"]
# Hint: ill[:, None] - healthy holds the difference of every pair.
difference = ill[:, None] - healthy
by_pairs = (difference > 0).mean() + (difference == 0).mean() / 2
print(f"by pairs {by_pairs:.4f}, in the table {auroc.value[task]:.4f}")

# %% tags=["exercise"]
# A check. It gives a hint, and does not say that you are right.
if "by_pairs" not in globals():
    print("Hint: call your share of pairs by_pairs.")
elif by_pairs < 0.5:
    print("Hint: below 0.5 the ill have the lower scores. Did you subtract in the right order?")
else:
    print("Hint: what does your formula give if all scores are equal? It should be 0.5.")

# %% [markdown] tags=["exercise", "solution"]
# Both agree. (With `dataset.folds` your patients are those of fold 1, and the table has all folds, so it differs.) AUROC is
# a probability about pairs. It says nothing about a single patient at a threshold.

# %% [markdown] tags=["exercise"]
# **Exercise 2 (predict, then run).** A screening must find 90 % of the ill. Choose the threshold `cut` that does so on the
# *validation* originals. What are TPR and FPR by sex on the test patients? Will TPR be 0.90 there, in both groups?

# %% tags=["exercise", "solution"]
# Hint: the cut is the tenth percentile of the scores of the ill validation patients.
asked = validation[(validation.task == task) & (validation.label == 1)]
cut = np.quantile(asked.score, 0.1, method="lower")
called_by = answers.assign(called=answers.score >= cut).groupby([attributes[0], "label"]).called
called_by.agg(["mean", "size"]).unstack().round(2)

# %% tags=["exercise"]
if "cut" not in globals():
    print("Hint: call your threshold cut.")
elif not 0 <= cut <= 1:
    print("Hint: a score lies between 0 and 1. Is your cut a score?")
else:
    print(
        "Hint: which share of the ill validation patients lies at or above your cut? And of which group are those below?"
    )

# %% [markdown] tags=["exercise", "solution"]
# TPR on the test is near 0.90 for all patients together, but not exactly, because these are other patients. Nothing forces
# the groups to be alike: one cut for all gives each group the TPR that its scores have there. The price is in the column of
# FPR.

# %% [markdown] tags=["exercise"]
# **Exercise 3 (predict, then run).** With TPR and FPR of the balanced threshold, which precision has this reader if one
# patient in two is ill, one in ten, and one in a hundred?

# %% tags=["exercise", "solution"]
# Hint: the formula above the ROC curve.
tpr, fpr = (ill >= thresholds[task]).mean(), (healthy >= thresholds[task]).mean()
prevalence = np.array([0.5, 0.1, 0.01])
precision = tpr * prevalence / (tpr * prevalence + fpr * (1 - prevalence))
pd.Series(precision, prevalence, name="precision").rename_axis("prevalence").round(3).to_frame().T

# %% [markdown] tags=["exercise", "solution"]
# In a screening almost all alarms are false, with the same reader. A group in which the disease is rarer has a lower
# precision for this reason alone, so precision compares groups badly.

# %% [markdown] tags=["exercise"]
# **Exercise 4 (write).** How sure is the name of the "worst" group? Draw the test patients with replacement 200 times. In
# which share of the draws (`again`) has the same group of the first attribute the lowest AUROC as in the sample?

# %% tags=["exercise", "solution"]
# Hint: rf.fairness.metrics.auroc(score=..., label=...) of the rows of each group; a draw without a label gives NaN.
draw = np.random.default_rng(0)


def lowest_group(rows):
    values = {
        group: rf.fairness.metrics.auroc(score=some.score, label=some.label).item()
        for group, some in rows.groupby(attributes[0])
    }
    return pd.Series(values).fillna(1).idxmin()


sample = lowest_group(answers)
drawn = [lowest_group(answers.iloc[draw.integers(len(answers), size=len(answers))]) for _ in range(200)]
again = np.mean([group == sample for group in drawn])
print(f"{sample} is lowest in the sample, and in {again:.0%} of the draws")

# %% tags=["exercise"]
if "again" not in globals():
    print("Hint: call your share again.")
elif not 0 <= again <= 1:
    print("Hint: a share lies between 0 and 1.")
else:
    print("Hint: with two equal groups you would expect about 0.75. How far is your share from that?")

# %% [markdown] tags=["exercise", "solution"]
# The share counts draws that agree with the sample, so two equal groups give 0.5 to 1, on average 0.75, and 0.95 or more in one
# study of ten. A share of 0.95 or more supports a name. A share of 0.6 does not: other patients would have given another
# "worst" group.
# A second training (`diagnosis = {"seed": 1}`) moves the values as well, and this share does not count that.

# %% [markdown] tags=["exercise"]
# **Exercise 5 (open, break it).** Break the AUROC of groups: change the scores so that the AUROC of *every* group stays
# exactly the same, but almost all ill patients of one group are missed. Which number of this chapter notices it? What
# would you print next to an AUROC?

# %% tags=["exercise", "solution"]
# Hint: within a group, AUROC depends on the order of the scores only.
one = answers[attributes[0]] == answers[attributes[0]].dropna().iloc[0]
broken = answers.assign(score=np.where(one, answers.score / 10, answers.score))
rows = []
for name, some in {"before": answers, "after": broken}.items():
    for group, part in some.groupby(attributes[0]):
        area = rf.fairness.metrics.auroc(score=part.score, label=part.label).item()
        found = (part.score[part.label == 1] >= thresholds[task]).mean()
        rows.append({"": name, "group": group, "AUROC": area, "TPR": found})
pd.DataFrame(rows).pivot_table(["AUROC", "TPR"], "group", "", sort=False).round(2)

# %% [markdown] tags=["exercise", "solution"]
# Scores of one group divided by ten keep their order. TPR at the common threshold notices it, and so does calibration: the
# scores no longer are risks. The AUROC of *everyone* falls as well, because it also compares the ill of one group with
# the healthy of the other. A good answer prints TPR and FPR at the threshold in use, with the number of patients.
