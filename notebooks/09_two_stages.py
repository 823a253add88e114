# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 Two stages: where should a hospital intervene?
#
# Chapter 06 changed the reconstruction and kept the reader. Chapter 07 changed the reader and kept the reconstruction. A
# hospital can do either, or both. The paper (Wohlrapp et al., MIDL 2026) ends with this question. Here every strategy of
# the reconstruction meets every reader, on the same patients.
#
# **After this chapter you can**
#
# - split the gap of a system into what the reader brings and what the reconstruction adds;
# - say when two interventions repair the same fault, and when they help each other;
# - read a Pareto front together with its uncertainty;
# - write a decision rule before you look at test patients, and measure how much the gap of the winner grows there;
# - use placebos to tell a gain from the luck of one training.
#
# *Reading and running: about 30 minutes. You need chapters 05 to 07.*

# %%
from itertools import product

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from scipy.stats import norm

import reconfair as rf
from reconfair import figures, play, words
from reconfair.fairness import grid

# %% [markdown]
# The next cell chooses the study. It starts from a base, here `params/class.yaml`, and each line changes one section of
# it: `{}` changes nothing, `noise = "none"` means without noise, and a dataset with a `name` starts a new study, which
# does not use the base. This chapter needs the sections `mitigation`, `readers` and `two_stages`.

# %% tags=["parameters"]
base = "class"
dataset = {}
noise = {}
reconstruction = {}
diagnosis = {}
fairness = {}
mitigation = {}
readers = {}
synthesis = {}
two_stages = {}
compute = {}

# %% [markdown]
# ## A system whose answer is known
#
# First we invent a system. In group b the reader misses lesions: their score is lower by 0.6. The standard reconstruction
# hides lesions of group b as well, by another 0.6. A strategy of the reconstruction can remove the second fault, a fairer
# reader the first. Scores are normal, so the true rates follow from the normal distribution $\Phi$:
#
# $$\mathrm{TPR}_g(r, d) = \Phi(0.6 - \beta_g(r, d)), \qquad \beta_a = 0, \quad
# \beta_b(r, d) = 0.6 \cdot 1[r = \text{standard}] + 0.6 \cdot 1[d = \text{standard}].$$
#
# **Predict first:** if each intervention alone closes half of the gap, how much do both close together?


# %%
def system(patients=400, seed=0, by_row=0.6, by_reader=0.6):
    """Scores of an invented system: two rows and two readers, two groups, and the fault of each stage in group b."""
    rng, rows = np.random.default_rng(seed), []
    group, label = np.repeat(["a", "b"], patients // 2), rng.integers(0, 2, patients)
    shared = rng.normal(size=patients)
    for row, reader in product(("standard", "eodd"), ("standard", "oversample")):
        fault = by_row * (row == "standard") + by_reader * (reader == "standard")
        noise = 0.8 * shared + 0.6 * rng.normal(size=patients)
        score = norm.cdf(1.2 * label - 0.6 - fault * label * (group == "b") + noise)
        about = {"source": "unet", "strategy": row, "reader": reader, "task": "ill", "kind": "classify"}
        rows.append(
            pd.DataFrame(
                {"unit": range(patients), "patient_id": range(patients), "label": label, "score": score, **about}
            )
        )
    return pd.concat(rows), pd.DataFrame({"patient_id": range(patients), "sex": group})


answers, people = system()
known = grid.grid(answers, people, thresholds={"ill": 0.5}, resamples=300)
tpr = {
    (row, reader): norm.cdf(0.6 - 0.6 * (row == "standard") - 0.6 * (reader == "standard"))
    for row, reader in product(("standard", "eodd"), ("standard", "oversample"))
}
truth = pd.Series({cell: (norm.cdf(0.6) - rate) / 2 for cell, rate in tpr.items()}, name="true EODD").rename_axis(
    ["row", "reader"]
)
table = known.cells.set_index(["row", "reader"])[["gap", "gap_low", "gap_high", "expected", "interaction"]].join(truth)
table.round(3)

# %%
gaps, true = table.gap, table["true EODD"]
Markdown(
    f"Each intervention alone leaves a true EODD of {true['eodd', 'standard']:.3f} of {true['standard', 'standard']:.3f}, and "
    f"both together leave {true['eodd', 'oversample']:.3f}. In this sample of 400 patients EODD is "
    f"{gaps['standard', 'standard']:.3f} without an intervention, {gaps['eodd', 'standard']:.3f} with that of the reconstruction, "
    f"{gaps['standard', 'oversample']:.3f} with that of the reader, and {gaps['eodd', 'oversample']:.3f} with both. With both, the "
    f"groups do not differ in truth; an EODD of {table.expected['eodd', 'oversample']:.3f} is expected from chance alone."
)

# %% [markdown]
# ## The interaction
#
# Let $M(r, d)$ be a rate of one group with reconstruction strategy $r$ and reader $d$, and 0 the standard. The interaction
#
# $$I(r, d) = [M(r, d) - M(0, d)] - [M(r, 0) - M(0, 0)]$$
#
# asks whether the strategy $r$ changes the rate more with the reader $d$ than with the standard one. A rate is a mean over
# patients, so $I$ is a mean over patients too, and its variance follows from the differences between them. A student could
# write $I$ in a few lines:

# %%
called = answers.assign(called=answers.score >= 0.5).merge(people, on="patient_id")
rates = called[called.label == 1].pivot_table("called", "sex", ["strategy", "reader"])
by_hand = (
    rates["eodd", "oversample"]
    - rates["standard", "oversample"]
    - rates["eodd", "standard"]
    + rates["standard", "standard"]
)
effects = known.effects[(known.effects.effect == "interaction") & (known.effects.metric == "tpr")].set_index("group")
exact = norm.cdf(0.6) - 2 * norm.cdf(0.0) + norm.cdf(-0.6)
interactions = effects[["value", "low", "high"]].assign(by_hand=by_hand, truth=[0, exact])
interactions.round(3)

# %%
holds = (interactions.low <= interactions.truth) & (interactions.truth <= interactions.high)
Markdown(
    f"The limits hold the truth in {holds.sum()} of 2 groups. In group b the true interaction is {exact:.3f}: both faults are "
    "equal here, and the threshold lies in the middle, so one intervention gains as much before the other as after it."
)

# %% [markdown]
# The limits hold at once for all groups, rates and cells; so they are wider than those of one number. For a *gap* the
# interaction is printed without limits: a gap is the highest rate minus the lowest, which is not a mean over patients, and no
# reliable interval is known. For a gap, a positive number means that both interventions repair the same fault.
#
# Move the faults of both stages, and the number of patients. When do the two interventions seem to help each other?

# %%
play.show(play.stages, play.STAGES)

# %% [markdown]
# Two faults that add up in the scores do not add up in the rates. Where both are large, one intervention alone gains little,
# because the other fault still hides the lesions. Both together gain more than the sum of each alone, and the interaction of
# the gap is negative.
#
# ## The grid of this study

# %%
study = rf.params.study(
    base,
    dataset=dataset,
    noise=noise,
    reconstruction=reconstruction,
    diagnosis=diagnosis,
    fairness=fairness,
    mitigation=mitigation,
    readers=readers,
    synthesis=synthesis,
    two_stages=two_stages,
    compute=compute,
)
results = rf.two_stages.read(study)
cells = results.grid[results.grid.split == "test"]
Markdown(
    f"{cells['row'].nunique()} rows (the original, the noisy image, and {words.name(rf.two_stages.model(study))} by strategy) and "
    f"{cells.reader.nunique()} readers, on the test patients. *{words.name('replicate')}* is the placebo: the standard training once "
    "more, with another seed. Nothing was changed there, so what differs is the luck of the training."
    if len(cells)
    else "No task has two groups with enough test patients (`fairness.min_cases`), so no cell is judged here."
)

# %% [markdown]
# **Predict first:** which cell will have the smallest gap, and how far will the placebo be from the standard?

# %%
for (task, attribute), some in cells.groupby(["task", "attribute"], sort=False):
    display(figures.keep(figures.grid_cells(some), study, f"09_grid_{task}_{attribute.replace('*', '_')}"))

# %%
lines, unsure = [], 0
for (task, attribute), some in cells.groupby(["task", "attribute"], sort=False):
    of = some.set_index(["row", "reader"])
    standard, relative = of.loc[("standard", "standard")], " (relative)" * (some.gap_metric.iloc[0] == "ser")
    unsure += not (standard.added_low > 0 or standard.added_high < 0)
    lines.append(
        f"- {words.markdown(task)}, {words.name(attribute)}: the standard system has {words.name(standard.gap_metric)} "
        f"{standard.gap:.3f} ({standard.gap_low:.3f} to {standard.gap_high:.3f}); {standard.expected:.3f} would be expected if "
        f"groups did not differ. On originals the same reader has {standard.brought:.3f}. The reconstruction changes this by "
        f"{standard.added:+.3f}{relative} ({standard.added_low:+.3f} to {standard.added_high:+.3f}). Another training of the "
        f"reconstructor would change the gap by {of.gap_change['replicate', 'standard']:+.3f}{relative}, and another training of the "
        f"reader by {of.gap_change['standard', 'replicate']:+.3f}{relative}."
    )
if lines:
    lines.append(
        f"\nIn {unsure} of {len(lines)} lines the limits of the reconstruction's change contain 0. There nobody can tell from these "
        "patients whether the reconstruction makes the gap larger or smaller."
    )
gaps = cells.pivot_table("gap", ["task", "attribute", "row"], "reader")
both = gaps.reindex(columns=["standard", "standard+thresholds"]).dropna()
if len(both) and (both.nunique(axis=1) == 1).all():
    lines.append(
        "\nThresholds by group change no gap here. A group with too few validation patients keeps the common threshold; chapter 07 "
        "names these groups."
    )
Markdown("\n".join(lines))

# %% [markdown]
# ## The front
#
# A cell lies on the Pareto front if no other cell has a smaller gap and at least its performance. The front of one sample
# is uncertain. The table shows in which share of resamples of the patients each cell lies on it.

# %%
for (task, attribute), some in cells.groupby(["task", "attribute"], sort=False):
    display(figures.keep(figures.grid_front(some), study, f"09_front_{task}_{attribute.replace('*', '_')}"))

# %%
shares = cells.dropna(subset=["front"]).pivot_table("front", ["task", "attribute", "row"], "reader", sort=False)
display(shares.round(2))
text = "There is no front, because no cell was judged."
if len(shares):
    surest = cells.loc[cells.front.idxmax()]
    text = (
        f"The cell that is most often on a front ({words.name(surest['row'])}, read by {words.name(surest.reader)}; "
        f"{words.markdown(surest.task)}) is there in {100 * surest.front:.0f} % of the resamples. Its {words.name(surest.gap_metric)} is "
        f"{surest.gap:.3f} ({surest.gap_low:.3f} to {surest.gap_high:.3f}), at {words.name(surest.performance_metric)} "
        f"{surest.performance:.3f} ({surest.performance_low:.3f} to {surest.performance_high:.3f}). "
    )
    if "replicate" in (surest["row"], surest.reader):
        text += "It contains a placebo, which changes nothing: a front shows the luck of a training as well. "
    text += "A cell that is on the front in a third of the resamples is no recommendation."
Markdown(text)

# %% [markdown]
# ## Do the stages help each other?

# %%
effects = results.effects[(results.effects.split == "test") & (results.effects.effect == "interaction")]
sure = effects[(effects.low > 0) | (effects.high < 0)]
display(sure[["task", "attribute", "group", "metric", "row", "reader", "value", "low", "high"]].round(3))
families = effects.groupby(["task", "attribute"]).ngroups
placebos = ((sure["row"] == "replicate") | (sure.reader == "replicate")).sum()
Markdown(
    f"{len(sure)} of {len(effects)} interactions of groups' rates have limits without 0. "
    + f"{placebos} of these contain a placebo. " * bool(placebos)
    + "For all others neither an interaction nor its absence is shown. " * (len(sure) < len(effects))
    + f"The limits hold at once within a task and attribute. Of {families} such tables, about {0.05 * families:.1f} would show an "
    "interaction by chance alone."
)

# %% [markdown]
# ## The decision
#
# The rule stands in the section `two_stages` of the params, before anybody looks at the test patients. Among the cells whose
# AUROC or Dice on *validation* is at most `tolerance` below the best, it takes the one with the least upper limit of the gap
# (with `rule: estimate`, the least gap). Then we look at the test patients once.
#
# The smallest of many numbers is partly small by luck. So the gap of the chosen cell usually grows on test; the column
# `shrinkage` says by how much. A gain is called better only if its limits lie beyond `margin` (0 unless the params say more),
# and if every placebo and the thresholds by group have a larger gap.

# %%
display(results.decisions.round(3))
decided = [*zip(results.decisions.task, results.decisions.attribute, strict=True)]
undecided = [key for key, _ in cells.groupby(["task", "attribute"], sort=False) if key not in decided]
without = [
    f"{task}, {words.name(attribute)}: no decision, because fewer than two groups have enough validation patients."
    for task, attribute in undecided
]
Markdown(words.markdown([*rf.two_stages.sentences(results), *without]))

# %% [markdown]
# ## How much is the luck of one training?

# %%
again = results.replicates
if again.seeds.max() > 1:
    of = again.groupby(["metric", "task", "attribute"], sort=False)[["sd_seeds", "sd_patients", "share_seeds"]].median()
    display(of.round(3))
    text = f"Each cell was trained with {again.seeds.max():.0f} seeds. Of the variance of a gap, "
    text += f"{100 * of.share_seeds['gap'].median():.0f} % (median) is between trainings; of its change from the standard system, "
    text += f"{100 * of.share_seeds['gap_change'].median():.0f} %."
else:
    text = (
        "Every cell was trained once, so this study cannot tell an effect from the luck of a training. The limits above hold for "
        "these trained networks alone. Name further seeds in `two_stages: {seeds: [1, 2]}` to find out."
    )
Markdown(text)

# %% [markdown]
# ## What this does not prove
#
# The grid compares the strategies that this study makes, at one noise level and with these patients. A strategy with another
# strength is another row. Thresholds by group need the group of every patient, and the law of a country may forbid them. The
# placebo shows one further training, not the distribution of all trainings.
#
# ## Three things to take away
#
# 1. First ask where the gap comes from: what the reader brings, and what the reconstruction adds.
# 2. Write the rule before you look, look once, and expect the winner to fall back.
# 3. A gain that does not beat a second training of the standard is no gain.
#
# ## Quiz
#
# Click an answer to read why it is right or wrong.

# %% [markdown] tags=["quiz"]
# **1. The gap is 0.15 on originals and 0.17 on reconstructions. Where should a hospital look first?**
#
# <details><summary>At the reconstruction, since it made the gap larger.</summary>No. It added 0.02 of 0.17.</details>
# <details><summary>At the reader.</summary>Yes. It brings 0.15, and the reconstruction is not the natural place to remove what is there on
# the originals.</details>
# <details><summary>At both alike.</summary>No. The two numbers differ by a factor of seven.</details>

# %% [markdown] tags=["quiz"]
# **2. The interaction of a gap is positive. What does it mean?**
#
# <details><summary>Both interventions repair the same fault.</summary>Yes. Together they close less than the sum of what
# each closes alone.</details>
# <details><summary>Both interventions help each other.</summary>No. Then the gap would fall by more than the sum, and the
# interaction would be negative.</details>
# <details><summary>One of the interventions does harm.</summary>No. Each alone can close the gap.</details>

# %% [markdown] tags=["quiz"]
# **3. Twelve cells have the same true gap. The best of them on validation is chosen. What happens on test?**
#
# <details><summary>Its gap stays as small.</summary>No. It was the smallest partly by luck, and luck does not
# repeat.</details>
# <details><summary>Its gap becomes smaller.</summary>No. There is no reason for that.</details>
# <details><summary>Its gap grows back, on average to the true one.</summary>Yes. This is why the column `shrinkage`
# exists.</details>

# %% [markdown] tags=["quiz"]
# **4. What is the placebo in this chapter?**
#
# <details><summary>The original image.</summary>No. The original is the reference without any reconstruction.</details>
# <details><summary>The standard training once more, with another seed.</summary>Yes. Nothing was changed, so its distance
# from the standard is the luck of one training.</details>
# <details><summary>A strategy that is known to fail.</summary>No. A placebo changes nothing at all.</details>

# %% [markdown] tags=["quiz"]
# **5. A cell is on the Pareto front of the sample, and in 20 % of the resamples. May you recommend it?**
#
# <details><summary>No. Other patients would usually have given another front.</summary>Yes. A front of one sample is
# uncertain, as every other estimate.</details>
# <details><summary>Yes, it is on the front.</summary>No. It is on the front of these patients, and seldom on that of
# others.</details>
# <details><summary>Yes, if its gap is the smallest.</summary>No. The smallest of many gaps is small by luck as well.</details>

# %% [markdown]
# ## Exercises
#
# Solutions are in the cells below each exercise. `make exercises` writes a copy of this notebook without them.

# %% [markdown] tags=["exercise"]
# **Exercise 1 (predict, then run).** In the invented system, let the reader's fault be 0 and that of the reconstruction 1.2.
# Which cell does `grid.choose` take now? Is the fairer reader worth its cost?

# %% tags=["exercise", "solution"]
# Hint: system(by_row=1.2, by_reader=0) gives answers and people; grid.grid(...).cells goes into grid.choose.
answers_one, people_one = system(by_row=1.2, by_reader=0)
one_fault = grid.grid(answers_one, people_one, thresholds={"ill": 0.5}, resamples=100).cells
print("chosen:", grid.choose(one_fault))
one_fault.set_index(["row", "reader"])[["performance", "gap", "gap_low", "gap_high"]].round(3)

# %% [markdown] tags=["exercise", "solution"]
# The strategy of the reconstruction removes the only fault. Between the two readers there is no true difference then, so
# which of them is chosen is luck. A reader that removes nothing is not worth its cost.

# %% [markdown] tags=["exercise"]
# **Exercise 2 (write).** TPR of group b is 0.40 (standard, standard), 0.55 (eodd, standard), 0.60 (standard, oversample) and
# 0.65 (eodd, oversample). Compute the interaction of TPR, `interaction_b`. Do the two interventions help each other?

# %% tags=["exercise", "solution"]
# Hint: what the strategy does with the new reader, minus what it does with the standard one.
interaction_b = (0.65 - 0.60) - (0.55 - 0.40)
print(f"{interaction_b:+.2f}")

# %% tags=["exercise"]
# A check. It gives a hint, and does not say that you are right.
if "interaction_b" not in globals():
    print("Hint: call your number interaction_b.")
elif interaction_b > 0:
    print("Hint: the strategy gains 0.15 with the standard reader. What does it gain with the other one?")
else:
    print("Hint: what would TPR of (eodd, oversample) be if the interaction were 0?")

# %% [markdown] tags=["exercise", "solution"]
# The interaction is -0.10. Without it, both together would reach 0.75. They repair the same fault: a patient
# whom one of them finds cannot be found again by the other.

# %% [markdown] tags=["exercise"]
# **Exercise 3 (write).** Twelve cells have the same true gap of 0.10. Each is measured on validation and on test, with
# independent normal noise of standard deviation 0.03. Choose the cell that is smallest on validation. How much larger is its
# gap on test on average (`falls_back`)? Simulate it 2,000 times.

# %% tags=["exercise", "solution"]
# Hint: draw arrays (2000, 12) for validation and test; argmin(axis=1) is the winner of each row.
draw = np.random.default_rng(0)
on_validation, on_test = 0.10 + 0.03 * draw.normal(size=(2, 2000, 12))
winner = on_validation.argmin(axis=1)
falls_back = (on_test - on_validation)[np.arange(2000), winner].mean()
print(f"{falls_back:+.3f}; the winner's test gap is {on_test[np.arange(2000), winner].mean():.3f} on average")

# %% tags=["exercise"]
if "falls_back" not in globals():
    print("Hint: call your mean falls_back.")
elif falls_back <= 0.01:
    print(
        "Hint: the winner is the smallest of twelve on validation. Do you take its own test gap, and not the smallest one?"
    )
else:
    print(
        "Hint: the smallest of 12 normal draws lies about 1.6 standard deviations below the mean. Does your number fit?"
    )

# %% [markdown] tags=["exercise", "solution"]
# The winner looks better by about 0.05 than it is: half of the true gap. Nothing was gained. The more cells one compares, and
# the fewer patients there are, the farther the winner falls back.

# %% [markdown] tags=["exercise"]
# **Exercise 4 (predict, then run).** Remove both faults, so that all cells have the same true gap of 0. In ten such systems, how
# often does the rule choose an intervention on validation, and how often does the verdict on test call it better?

# %% tags=["exercise", "solution"]
# Hint: one seed for the validation patients and another one for the test patients; then grid.choose and grid.verdict.
verdicts = []
for seed in range(10):
    both = [system(seed=1000 * split + seed, by_row=0, by_reader=0) for split in (1, 2)]
    validated, tested = (grid.grid(*some, thresholds={"ill": 0.5}, resamples=20).cells for some in both)
    verdicts.append(grid.verdict(tested, grid.choose(validated), validated)["verdict"])
pd.Series(verdicts).value_counts().rename("systems").to_frame()

# %% [markdown] tags=["exercise", "solution"]
# The rule chooses an intervention in most systems, because one of four equal cells must come first. The verdict on test is
# rarely "better": its limits exclude 0 by chance in a few percent. Without a second look at other patients, each of these
# choices would have been a success story.

# %% [markdown] tags=["exercise"]
# **Exercise 5 (open, break it).** Break the decision rule: describe a team that follows every step of it and still fools
# itself. Where do the placebo, the threshold by group and the single look at the test patients protect it, and where not?

# %% [markdown] tags=["exercise", "solution"]
# An example: the team runs the whole study with ten seeds of the split, and reports the one with the best verdict. Each run
# followed the rule. The placebo does not help, because it is lucky or unlucky in each run anew; only a rule for the whole
# project does. Another example: validation and test patients come from the same hospital, and the reader is used in another
# one. A good answer names the step at which somebody chose after seeing a result.
