"""``reconfair plan``: from stated rates, and from a finished study."""

import pytest

from reconfair import run
from reconfair.run import plan


def test_a_plan_from_stated_rates_says_what_is_needed(outputs, capsys):
    words = ["plan", "--groups", "f,m", "--tpr", "f=0.7,m=0.85", "--size", "0.1", "--studies", "20"]
    assert run.main(words) == 0
    printed = capsys.readouterr().out
    assert "patients of each group are needed" in printed and "0.70" in printed
    assert (outputs / "plan-kept.png").stat().st_size > 5_000


def test_a_plan_from_a_study_starts_from_its_rates(smallest):
    table = plan.from_study(smallest, task="grade", attribute="sex", source="unet")
    assert set(table.index) == {"female", "male"} and table.tpr.between(0, 1).all()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--tpr", "high"], "'high'"),
        (["--tpr", "1.5"], "tpr"),
        (["--tpr", "x=0.5"], "group"),
        (["--size", "2"], "size is 2"),
        (["--power", "1.5"], "power"),
        (["--studies", "0"], "studies"),
        (["--groups", "f,f"], "f, f"),
    ],
)
def test_a_rate_that_is_none_is_refused(outputs, capsys, words, named):
    assert run.main(["plan", *words]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"task": "tumour"}, {"attribute": "site"}, {"source": "unett"}])
def test_a_name_that_the_study_does_not_have_is_refused(smallest, wrong):
    with pytest.raises(ValueError, match=f"--{next(iter(wrong))}"):
        plan.from_study(smallest, **{"task": "grade", "attribute": "sex", "source": "unet"} | wrong)
