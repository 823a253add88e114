"""Remedies against bias: what may change in the training of any network, whatever its stage.

A remedy is a file of this folder with a subclass of `remedy.Remedy`, and two lines here. Chapter 06 uses remedies to
fine-tune reconstructors; the training of diagnostic networks can use the same ones.
"""

from reconfair import params

# The strength that a strategy has where it names none; None: that of the section, `lam`.
params.REMEDIES |= {"reweight": 1.0, "dro": 0.01, "eodd": None, "adv": None}


def of_reader(word: str, options) -> type:
    """Return the class of a strategy that trains diagnostic networks; `options` are those of the section ``readers``.

    What chapter 06 calls reweighting, drawing rare groups more often, is here called oversampling, as in the papers on
    diagnostic networks; here reweighting changes the weights of the loss.
    """
    from reconfair.remedies import balance, dro, oversample

    variants = {"online": dro.GroupDRO, "max": balance.WorstGroup, "as_published": balance.MeanOfGroups}
    classes = {"oversample": oversample.Oversample, "reweight": balance.LossWeights, "dro": variants[options["dro"]]}
    return classes[word]


def find(word: str) -> type:
    """Return the class of a remedy: one of the package, or one of the user's own, such as ``my_remedies.py:Shrink``."""
    from reconfair.remedies import adv, dro, eodd, reweight

    if params.is_external(word):
        return params.external(word)
    classes = {"reweight": reweight.Reweight, "dro": dro.GroupDRO, "eodd": eodd.SoftEODD, "adv": adv.Adversary}
    return classes[word]
