# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A4 Do synthetic patients help where the answer is known?
#
# `benchmarks/synthesis.py` hides most women with a high grade from training, in a phantom cohort without any other bias.
# One generator for each seed is trained and then tuned in several ways, each for the same number of steps. A classifier trains with the images
# of each, and is read on 2,000 fresh patients. This page shows what the benchmark left.
#
# **After this appendix you can**
#
# - say which part of FairGen closed how much of a known gap;
# - compare it with oversampling and with a generator from which nobody was hidden;
# - tell an effect from the spread between seeds.
#
# *Reading: about 10 minutes.*

# %%
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown

import reconfair as rf

path = rf.params.shipped() / "benchmarks" / "results" / "synthesis.csv"
columns = ["scenario", "seed", "arm", "metric", "value"]
# The word null is a scenario here, and no missing value.
kept = pd.read_csv(path, keep_default_na=False, na_values=[""]) if path.exists() else pd.DataFrame(columns=columns)
arms = ["standard", "oversample", "plain", "sqrs", "diversity", "fairgen", "seen"]
rare = kept[kept.scenario == "rare"]
state = (
    f"{rare.seed.nunique()} seeds were run; no setting was chosen on them." if len(rare) else "No full run is kept yet."
)
missing = [arm for arm in arms if arm not in set(rare.arm)] + ["null"] * ("null" not in set(kept.scenario))
state += f" Not measured yet: {', '.join(missing)}." * bool(missing)
Markdown(f"{state} Run: `python benchmarks/synthesis.py`")

# %% [markdown]
# ## The gap of the hidden cell
#
# The gap is the sensitivity in men minus that in women. Each dot is a seed.
#
# **Predict first:** can `oversample`, which only repeats a handful of women, close the gap? What is the most that `seen` can
# do? (`seen` has a generator that was tuned with all the women.)

# %%
gaps = rare[rare.metric == "gap"].pivot_table("value", "seed", "arm").reindex(columns=arms)
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
for at, arm in enumerate(arms):
    axis.plot(gaps[arm], [at] * len(gaps), "o", color="#0072B2" if arm != "standard" else "#000000", alpha=0.7)
axis.axvline(0, color="grey", lw=0.8)
axis.set(yticks=range(len(arms)), yticklabels=arms, xlabel="TPR of men minus TPR of women")
axis.invert_yaxis()
plt.show()

# %%
left = gaps.mean() / gaps.standard.mean() if len(gaps) else pd.Series(dtype=float)
Markdown(
    "Of the gap with real images alone, this share is left on average: "
    + (
        ", ".join(f"{arm} {value:.2f}" for arm, value in left.drop("standard").dropna().items())
        if len(left)
        else "not known"
    )
    + ". A method that is worth its effort leaves less than oversampling does."
)

# %% [markdown]
# ## The parts of FairGen
#
# `plain` is tuned without any part; each of the next arms adds one: SQRS, the diversity loss, preference learning.
# `lesion_law_error` measures whether lesions in the samples of the hidden cell have the right contrast and size, in standard
# deviations of the truth.

# %%
columns = ["gap", "tpr_female", "tpr_male", "auroc", "lesion_law_error", "fd_variance"]
table = rare.pivot_table("value", "arm", "metric").reindex(index=arms, columns=columns)
table.round(3)

# %%
sentence = "Not known before the full run."
if {"diversity", "fairgen"} <= set(table.index[table.gap.notna()]):
    change = table.lesion_law_error["fairgen"] - table.lesion_law_error["diversity"]
    sentence = f"Preference learning changed the error of the lesions by {change:+.2f} SD, and the gap by "
    sentence += f"{table.gap['fairgen'] - table.gap['diversity']:+.3f}."
Markdown(sentence)

# %% [markdown]
# ## False alarms
#
# In the null scenario no group differs in anything. Of 300 small cohorts of fresh patients, how many would call an arm
# fairer than the standard reader?

# %%
null = kept[(kept.scenario == "null") & (kept.metric == "false_gains")]
Markdown(
    f"In {null.value.mean():.1%} of the cohorts any arm is called fairer (aim: at most 7 %). The generators are small here."
    if len(null)
    else "Not known before the full run."
)

# %% [markdown]
# ## What this appendix does not prove
#
# The hidden women do not differ from the others in how their disease looks. This is the best case for a generator: it can put
# together what it has seen apart. Where the disease of the hidden group looks different, nobody can know that from training
# images without that group.
#
# ## Three things to take away
#
# 1. Test a method where the answer is known, with several seeds.
# 2. Oversampling is the rival to beat, and it costs nothing.
# 3. An upper bound tells how much there was to gain.
