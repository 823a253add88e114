"""The report: levels in order of their noise, verdicts by their definition, published values as printed, nothing hidden."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import runs
from matplotlib.figure import Figure

from reconfair import judge, mitigation, params, report, tables, words
from reconfair.report import claims, exhibits, pages
from reconfair.report.runs import NOT_APPLIED, Runs
from reconfair.words import markdown

ALL = {"report": {"runs": "all"}}
FEW = {"diagnosis": {"tasks": ["Cardiomegaly", "Edema", "Fracture", "Pneumonia"]}, "fairness": {"min_cases": 5}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three levels of invented scans, of which one takes much from women, and one of radiographs."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(folder))
        for acceleration, harm in ((16, 0.8), (4, 0.0), (8, 0.0)):
            runs.finish(runs.mri(acceleration, **ALL), 130, ("reweight",), harm)
        runs.finish(runs.chexpert(**FEW), 160, ("eodd", "thresholds"))
        yield folder


@pytest.fixture
def mri(finished):
    return report.gather(runs.mri(16, **ALL))


@pytest.fixture
def chexpert(finished):
    return report.gather(runs.chexpert(**FEW))


def test_all_levels_are_gathered_the_mildest_first(finished, mri):
    assert mri.performance.level.unique().tolist() == ["x4", "x8", "x16"]
    alone = report.gather(runs.mri(8))
    assert set(alone.performance.level) == set(alone.fairness.level) == {"x8"}
    assert [study.name for study in report.gather().studies] == [
        "chexpert/1e4",
        "phantom_mri/x4",
        "phantom_mri/x8",
        "phantom_mri/x16",
    ]
    assert set(mri.shifts().level) == {"x16"} and set(mri.shifts().metric) == {"eodd", "ser"}


def test_simulated_data_are_called_so_in_every_caption_and_measures_are_those_of_the_tables(finished, mri, chexpert):
    for runs_of, expected in (
        (mri, "Simulated data."),
        (chexpert, ""),
        (report.gather(), "Simulated data: phantom_mri."),
    ):
        assert runs_of.simulated == expected and report.origin(runs_of).endswith(expected or ".")
        (caption, _), *_ = pages.outputs(exhibits.EVERY["verdicts"][1], runs_of)
        assert caption["text/markdown"].endswith(markdown(expected))
    sentences = report.measures(mri)
    assert [sentence.split(":")[0] for sentence in sentences][:4] == [
        words.name(m) for m in ("auroc", "tpr", "fpr", "dice")
    ]
    assert any("SER" in sentence and "10 %" in sentence for sentence in sentences) and "PSNR gap (dB)" in sentences[-1]
    wider = Runs(mri.studies, mri.performance.assign(margin=0.3), mri.fairness, study=mri.study)
    assert "Margin: 0.30." in report.measures(wider)[0]


def test_a_verdict_is_that_of_the_table_and_a_p_value_changes_none(mri):
    bias = mri.shifts().query("attribute == 'sex' and metric == 'eodd' and strategy == 'standard'").iloc[[0] * 6]
    words = {"grew": "worse", "fell": "better", "no change": "kept"}
    bias = bias.assign(verdict=[*words, "unequal", "not shown", "not judged"])
    for p in (0.001, 0.9):
        one = Runs(mri.studies, mri.performance, bias.assign(p_swap=p, p=p, p_shift=p), study=mri.study)
        verdicts = report.compare(one).query("question == 'bias by Sex'").verdict
        assert verdicts.tolist() == [*words.values(), "unequal", "not shown", "not judged"]
    everyone = mri.at_level(mri.performance).query("attribute == 'all' and metric == 'tpr' and source == 'unet'")
    everyone = everyone.query("strategy == 'standard'").iloc[[0] * 4]
    everyone = everyone.assign(verdict=["worse", "better", "kept", "not shown"])
    one = Runs(mri.studies, everyone, mri.fairness, study=mri.study)
    assert report.compare(one).query("question == 'performance'").verdict.tolist() == everyone.verdict.tolist()


def test_only_groups_that_are_compared_are_named(mri):
    rows = report.compare(mri).query("question == 'performance of groups'")
    named = mri.at_level(mri.performance).query("compared == 1").group
    assert set(rows.group) <= set(named) and len(rows)
    surest = mri.performance.assign(change=-1.0, change_low=-1.0, change_high=-1.0)
    small = mri.performance.compared == 0
    assert small.any()
    table = mri.performance.where(~small, surest)
    answers = report.summary(Runs(mri.studies, table, mri.fairness, study=mri.study))
    assert answers == report.summary(mri) and "-1.000" not in answers["for whom"]


def test_harm_to_women_is_reported_and_every_number_is_in_the_tables(mri):
    answers = report.summary(mri)
    rows = report.compare(mri)
    assert "simulated" in answers["data"] and answers["performance"].startswith("Changed in some comparisons. Of ")
    assert (rows.query("question == 'bias by Sex' and task == 'tumour'").verdict == "worse").all()
    assert "It grew: Sex: SER of tumour with" in answers["bias"]
    assert "The clearest losses: female, Dice of tumour with" in answers["for whom"]
    counts = rows[rows.question.str.startswith("bias")].verdict.value_counts()
    assert f"{counts['worse']} grew" in answers["bias"] and f"{counts['not shown']} not shown" in answers["bias"]
    assert answers["performance"].count("margin 0.0") == answers["performance"].count(" with ")
    known = pd.concat([mri.at_level(mri.performance), mri.at_level(mri.fairness)])
    numbers = {
        f"{value:+.3f}" for column in ("change", "change_low", "change_high") for value in known[column].dropna()
    }
    printed = re.findall(r"[+-]\d\.\d{3}", answers["performance"] + answers["for whom"])
    assert len(printed) >= 12 and set(printed) <= numbers
    text = " ".join(answers.values())
    assert not re.search(r"e\+\d|-0\.0+\b|nan|not known", text)


def test_groups_too_small_for_ser_are_said_and_others_are_not(mri):
    for smallest, warned in ((judge.SPARSE - 1, True), (judge.SPARSE, False)):
        rows = mri.fairness.assign(n_smallest=np.where(mri.fairness.metric == "ser", smallest, 5))
        answer = report.summary(Runs(mri.studies, mri.performance, rows, study=mri.study))["how sure"]
        assert (f"fewer than {judge.SPARSE} patients, p of SER can be too small" in answer) == warned
        rows = rows.assign(n_smallest=rows.n_smallest + judge.RARE - judge.SPARSE)
        answer = report.summary(Runs(mri.studies, mri.performance, rows, study=mri.study))["how sure"]
        assert (f"fewer than {judge.RARE} patients can miss" in answer) == warned


def test_a_diagnosis_that_cannot_be_judged_is_not_called_better_than_chance(mri):
    rows = mri.performance.copy()
    areas = (rows.metric == "auroc") & (rows.source == "original")
    rows["note"] = rows.note.where(~areas, "")
    answers = []
    for unknown in (areas & False, areas & (rows.task == "type"), areas):
        some = rows.assign(value=rows.value.mask(unknown))
        answers.append(report.summary(Runs(mri.studies, some, mri.fairness, study=mri.study))["diagnosis"])
    assert "every classification is better" in answers[0] and "cannot be judged" not in answers[0]
    assert "cannot be judged for type. " in answers[1] and "every other classification is better" in answers[1]
    assert "cannot be judged for" in answers[2] and "is better than chance" not in answers[2]


def test_chance_and_everybody_called_alike_are_said_and_no_percentage_is_given(mri):
    rows = mri.performance.copy()
    of_unet = (rows.source == "unet") & (rows.task == "grade") & (rows.strategy == "standard") & (rows.level == "x16")
    rows.loc[of_unet & rows.metric.isin(["tpr", "fpr"]), "value"] = 1.0
    chance = (rows.task == "type") & (rows.source == "original") & (rows.metric == "auroc") & (rows.level == "x16")
    rows.loc[chance, "note"] = "not distinguishable from chance"
    altered = Runs(mri.studies, rows, judge.with_percentages(mri.fairness, rows), study=mri.study)
    answer = report.summary(altered)["diagnosis"]
    assert (
        "not shown to be better than chance for type (AUROC" in answer and "grade with U-Net, x16: everybody" in answer
    )
    shifts = altered.shifts("eodd").query("source == 'unet' and task == 'grade' and strategy == 'standard'")
    assert shifts.shift_percent.isna().all() and shifts["shift"].notna().any()
    assert mri.shifts("eodd").query("source == 'unet' and task == 'grade'").shift_percent.notna().any()


def test_a_larger_gap_in_psnr_is_reported(mri):
    gaps = mri.fairness.copy()
    one = gaps[(gaps.metric == "psnr_gap") & (gaps.source == "sde") & (gaps.level == "x16")].index[0]
    gaps.loc[one, ["verdict", "shift", "shift_low", "shift_high"]] = ["grew", 0.8, 0.5, 1.1]
    answer = report.summary(Runs(mri.studies, mri.performance, gaps, study=mri.study))["bias"]
    assert "larger than in the noisy images" in answer and "+0.80 dB (+0.50 to +1.10; margin 0.50 dB)" in answer


def test_thresholds_that_moved_nothing_are_called_not_applied(outputs):
    study = runs.mri(mitigation={"strategies": ["thresholds"], "models": ["unet"]}, reconstruction={"models": ["unet"]})
    runs.finish(study, 80, ("thresholds",))
    source = params.Source("unet", "thresholds")
    kept = [
        {"task": task, "attribute": "all", "group": "all", "patients": 80, "threshold": 0.7}
        for task in ("grade", "type")
    ]
    folder = mitigation.predictions(study, source).folder
    for moved, strategy in ((False, NOT_APPLIED), (True, "thresholds")):
        (folder / "thresholds.json").write_text(json.dumps([row | {"moved": moved} for row in kept]))
        made = report.gather(study)
        assert set(made.fairness.strategy) == set(made.performance.strategy) - {None} == {"standard", strategy}
        said = "not applied" in report.summary(made)["mitigation"]
        table = exhibits.group_thresholds(made)
        assert said is not moved and (table == "not applied").all(axis=None) == (not moved)
        assert ("group thresholds (not applied)" in exhibits.strategies(made).to_string()) is not moved


def test_two_hospitals_through_the_door_of_tables_are_told_apart(mri):
    labels = {"hospital-a": 1.0, "hospital-b": 1.1}
    some = mri.of_dataset("phantom_mri")
    performance = pd.concat([some.performance.assign(dataset=label, name="table") for label in labels])
    fairness = pd.concat([some.fairness.assign(dataset=label, name="table") for label in labels])
    both = Runs(mri.studies, performance, fairness)
    for name in ("shift_by_model", "shift_by_strategy", "tradeoffs"):
        assert set(labels) <= set(exhibits.EVERY[name][1](both).index.get_level_values("dataset")), name


def test_costs_are_changes_against_the_standard_model_of_the_same_reconstructor(mri):
    row = claims.costs(mri).set_index(["source", "metric"]).loc["unet", "eodd"]
    everyone = mri.at_level(mri.overall("psnr", "auroc")).query("source == 'unet'")
    value = everyone.pivot_table("value", ["task", "metric"], "strategy")
    percent = 100 * (value.reweight / value.standard - 1)
    assert row.psnr == pytest.approx(percent["image", "psnr"])
    assert row.decibels == pytest.approx(value.reweight["image", "psnr"] - value.standard["image", "psnr"])
    assert row.downstream == pytest.approx(percent.drop("image").mean())
    gaps = mri.shifts("eodd").query("source == 'unet'").pivot_table("value", ["task", "attribute"], "strategy")
    assert row.bias == pytest.approx((100 * (gaps.reweight / gaps.standard - 1)).median())
    tuned = mri.shifts("eodd").query("source == 'unet' and strategy == 'reweight' and shift_standard.notna()")
    assert row.comparisons == len(tuned) and row.grew == (tuned.verdict_standard == "grew").sum()


def test_strategies_are_compared_by_reconstructor(mri):
    table = exhibits.shift_by_strategy(mri)
    assert set(table.loc["EODD"].index.get_level_values("source")) == {"U-Net", "Pix2Pix", "SDE"}
    assert "nan" not in table.to_string()


def test_values_are_percent_of_originals_or_of_the_best_image(mri):
    drawn = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            exhibits.figures,
            "against_noise",
            lambda rows: drawn.update(rows=rows) or Figure(),
        )
        exhibits.against_noise.__wrapped__.__wrapped__(mri)
    rows = drawn["rows"]
    assert "original" not in set(rows.source) and rows.task.iloc[0] == "image"
    assert rows[rows.metric == "psnr"].share.max() == pytest.approx(0)  # decibels below the best
    assert rows[rows.metric == "ssim"].share.max() == pytest.approx(100)
    original = mri.overall("dice").query("source == 'original' and level == 'x4'").value.item()
    dice = rows[(rows.metric == "dice") & (rows.level == "x4") & (rows.source == "unet")].iloc[0]
    assert dice.share == pytest.approx(100 * dice.value / original)


@pytest.mark.parametrize("name", exhibits.EVERY)
def test_every_exhibit_shows_something_or_says_why_not(name, mri, chexpert):
    for what in (mri, chexpert):
        question, draw = exhibits.EVERY[name]
        content = draw(what)
        assert question.endswith("?") and pages.caption(draw)[0].endswith(".")
        if isinstance(content, Figure):
            assert content.axes
        elif isinstance(content, pd.DataFrame):
            assert content.size and "nan" not in content.to_string()
        else:
            absent = [f"No task of this study is measured by {name}." for name in ("SER", "ΔDice")]
            assert content in [
                *absent,
                exhibits.NO_THRESHOLDS,
                exhibits.NO_NUMBERS,
                exhibits.NO_SYNTHESIS,
                "No fairer readers were trained.",
                "No grid of both stages was made.",
            ]
        assert draw(what) is content


def test_slopes_are_reported_with_their_limits_and_shifts(mri):
    row = mri.at_level(mri.fairness).query("metric == 'eodd' and strategy == 'standard'").iloc[0].to_dict()
    row |= {"attribute": "bmi", "metric": "tpr_slope", "value": -0.12, "low": -0.2, "high": -0.04, "task": "grade"}
    row |= {"note": "per standard deviation, 4.1 of bmi; no decision differed"}
    empty = dict.fromkeys(["shift", "shift_low", "shift_high", "published"], np.nan)
    moved = {"shift": -0.03, "shift_low": -0.05, "shift_high": 0.01, "published": np.nan}
    rows = [row | {"source": "original"} | empty, row | {"source": "unet"} | moved]
    table = exhibits.slopes(Runs(mri.studies, mri.performance, pd.DataFrame(rows), study=mri.study))
    (cells,) = table.to_dict("records")
    assert cells == {
        "Original": "-0.120 (-0.200 to -0.040)",
        "U-Net": "-0.120 (-0.200 to -0.040); shift -0.030 (-0.050 to +0.010)",
    }
    assert table.index.tolist() == [("grade", "slope of the true positive rate", "per standard deviation, 4.1 of bmi")]


def test_a_run_in_which_nothing_can_be_compared_says_so(outputs):
    study = runs.mri(diagnosis={"tasks": ["tumour"]}, fairness={"min_cases": 500}, reconstruction={"models": ["unet"]})
    runs.finish(study, 60, ())
    nothing = report.gather(study)
    answers = report.summary(nothing)
    assert answers["bias"].startswith("Not judged: none of 3 comparisons") and answers["mitigation"] == "Not tried."
    assert "phantom_mri, reconstructors: Pix2Pix; SDE." in report.missing(nothing)
    content = {name: draw(nothing) for name, (_, draw) in exhibits.EVERY.items()}
    assert content["psnr_gaps"] == "No two groups have enough patients to be compared."
    assert content["cost"] == content["strategies"] == exhibits.NOT_TRIED


def test_a_study_of_originals_alone_has_a_report(outputs):
    study = params.study(dataset={"name": "phantom_mri"}, noise="none", diagnosis={"tasks": ["grade"]})
    runs.finish(study, 80, ())
    alone = report.gather(study)
    answers = report.summary(alone)
    assert all("nothing to compare" in answers[question] for question in ("performance", "for whom", "bias"))
    content = {name: draw(alone) for name, (_, draw) in exhibits.EVERY.items()}
    assert content["against_noise"] == content["shift_eodd"] == content["supported"] == exhibits.ORIGINALS
    assert isinstance(content["performance"], pd.DataFrame)


def test_published_values_stand_beside_ours_as_printed(mri, chexpert):
    table = exhibits.performance(chexpert)
    assert table.loc[("1e4", "Fracture", "AUROC", "published")].to_dict() == {
        "Original": "0.76",
        "Noisy": "",
        "U-Net": "0.75",
        "Pix2Pix": "0.74",
        "SDE": "0.75",
    }
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3} to \d\.\d{3}\)", table.loc[("1e4", "Fracture", "AUROC", "ours"), "U-Net"])
    assert exhibits.shift_by_model(mri).loc[("published", "median"), "Pix2Pix"] == "-0.21"
    assert exhibits.shift_by_strategy(chexpert).loc[("published", "all", "EODD")].to_dict() == {
        "Sex": "+7.56",
        "Age": "-2.01",
        "Race": "+0.52",
    }
    assert exhibits.tradeoffs(chexpert).loc[("chexpert", "all", "EODD", "published"), "PSNR"] == "-0.64"
    assert exhibits.psnr_gaps(chexpert).loc[("Race", "published"), "SDE"] == "2.63 (p = 0)"
    slides = exhibits.by_attribute(chexpert).loc[("Sex", "Fracture", "slides")]
    assert slides["U-Net", "EODD"] == "0.055" and slides["Original", "EOP"] == "0.061"
    assert exhibits.cohort(chexpert).loc[("published", "female", "younger"), "all"] == 11804
    assert "published" not in exhibits.performance(mri).index.names  # nobody published phantoms
    shift = chexpert.fairness.query(
        "source == 'sde' and task == 'Edema' and attribute == 'age_group' and metric == 'eodd'"
    )
    assert shift.published_shift.iloc[0] == pytest.approx(0.113 - 0.122)


def test_transcribed_tables_are_whole():
    counts = tables.published("cohorts").groupby(["dataset", "sex"]).patients.sum()
    assert counts.to_dict() == {
        ("chexpert", "female"): 25536,
        ("chexpert", "male"): 31274,
        ("ucsf_pdgm", "female"): 202,
        ("ucsf_pdgm", "male"): 299,
    }
    assert len(tables.published("fairness")) == 15 * 2 * 8 + 12 * 8
    strategies = tables.published("strategies")
    assert len(strategies) == 3 * 4 * (5 + 15) + 15
    both = strategies.query("strategy == 'standard'").merge(
        tables.published("performance"), on=["dataset", "level", "source", "task", "metric"]
    )
    assert len(both) == 3 * 20 + 15 and ((both.value_x - both.value_y).abs() <= 0.00501).all()  # the same, rounded
    for name in ("performance", "strategies", "fairness", "summaries", "cohorts"):
        assert tables.published(name).cited.str.match("paper: |slides: ?").all()
    assert tables.published("fairread_strategies").cited.str.startswith("second-hand").all()


def test_what_is_missing_is_named(finished, mri, chexpert):
    sentences = report.missing(chexpert)
    assert "chexpert, noise levels: 1e5; 3e3." in sentences and "chexpert, attributes: Race (merged)." in sentences
    assert any("LPIPS" in sentence for sentence in sentences)
    assert not any("noise levels" in sentence for sentence in report.missing(mri))
    (finished / "lgg" / "x8").mkdir(parents=True)
    (finished / "lgg" / "x8" / "run.yaml").write_text("dataset: {name: lgg, root: ../lgg}")
    old = finished / "phantom_mri" / "x4" / "judged" / "standard" / "performance.parquet"
    kept = old.read_bytes()
    pd.read_parquet(old).drop(columns="change").to_parquet(old)
    try:
        sentences = report.missing(report.gather())
        assert "lgg/x8: begun, not finished." in sentences and "ucsf_pdgm, of the paper: no finished run." in sentences
        assert "phantom_mri/x4: left out, its table 'performance' is of an older kind, without change." in sentences
        assert "phantom_mri, noise levels: x4." in sentences
    finally:
        old.write_bytes(kept)


def test_a_report_of_all_levels_is_stale_when_another_level_changed(finished):
    studies = runs.mri(8, **ALL), runs.mri(8)
    before = [report.product(study).fingerprint for study in studies]
    stamp = finished / "phantom_mri" / "x4" / "judged" / "standard" / "judged.product.json"
    stamp.write_text(re.sub(r'"fingerprint": "[0-9a-f]+"', '"fingerprint": "another"', stamp.read_text()))
    after = [report.product(study).fingerprint for study in studies]
    assert after[0] != before[0] and after[1] == before[1]


def test_without_a_finished_run_that_is_said(outputs):
    with pytest.raises(params.ParamsError, match="expected a finished run, found none"):
        report.gather()
    with pytest.raises(params.ParamsError, match="judged/standard is missing"):
        report.gather(runs.mri(dataset={"patients": 30_000}))


def test_an_export_holds_every_table_and_no_formula(finished, monkeypatch):
    study = runs.chexpert(**FEW)
    cohort = report.data.load(study)
    hostile = cohort._replace(table=cohort.table.assign(race="=1+1"))
    monkeypatch.setattr(report.data, "load", lambda study: hostile)
    sizes = report.export(study)
    folder = finished / study.name / "export"
    assert set(sizes.index) == {"cohort", "quality", "predictions", "performance", "fairness"}
    for name in sizes.index:
        assert len(pd.read_csv(folder / f"{name}.csv")) == len(pd.read_parquet(folder / f"{name}.parquet"))
    assert set(pd.read_parquet(folder / "cohort.parquet").race) == {"=1+1"}
    assert set(pd.read_csv(folder / "cohort.csv").race) == {"'=1+1"}
