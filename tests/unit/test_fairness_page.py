"""The fairness page: everything in words, nothing that is hidden, nothing from elsewhere."""

import re
from xml.etree import ElementTree

import pytest
from fairness_reports import COMPARISONS, DISPARITIES, RATES, UNDEFINED_RATE, feature, group, hidden_group, report
from outline import read

from service.api.page.fairness import render_fairness
from service.api.page.plots import rate_axis, ratio_axis
from service.api.page.words import gap, moment, percent, points, ratio, window


@pytest.fixture
def ordinary():
    """One reference group, one that is compared, and the reserved ones."""
    return report(
        feature(
            "sex",
            [
                group("Male", state="reference"),
                group("Female"),
                group("unknown", 40, state="not_compared", kind="reserved"),
            ],
        )
    )


def test_the_page_says_what_it_is_about(ordinary):
    """Model, version, window in UTC, n, labelled share, the state in a sentence, and what the classes mean."""
    _, text = read(render_fairness(ordinary))
    for fact in ("compas", "2026-11-17 15:00 to 2026-11-24 15:30 UTC", "7 days", "7,214", "3,607 (50.0%)"):
        assert fact in text
    assert "Within tolerance: no group that could be compared differs" in text
    assert "where the model says “1”" in text
    assert "where it says “0”" in text
    assert "Counts of 1 to 10 are hidden" in text


def test_the_page_loads_nothing_and_runs_nothing(ordinary):
    """No script, no address of another place, no picture or style from outside."""
    page = render_fairness(ordinary)
    elements, _ = read(page)
    assert not re.search(r"https?:|//|@import|url\(", page)
    assert {tag for tag, _ in elements}.isdisjoint({"script", "link", "img", "iframe", "object", "form"})
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on") or name == "src"]
    assert {attributes["href"] for tag, attributes in elements if tag == "a"} == {"#feature-1"}


def test_the_pictures_are_well_formed(ordinary):
    """As XML too: dots, axes and reliability plots."""
    page = render_fairness(ordinary)
    pictures = re.findall(r'<t[dh][^>]*class="track">\s*(<svg.*?</svg>)\s*(?:<em|</t)', page, flags=re.DOTALL)
    pictures += re.findall(r"</figcaption>\s*(<svg.*?</svg>)", page, flags=re.DOTALL)
    assert len(pictures) > 20
    for picture in pictures:
        ElementTree.fromstring(picture)


def test_every_name_is_escaped():
    """Model, class, feature and group names come from a manifest that somebody wrote."""
    nasty = "<b>&\"'"
    compared = group(
        nasty + "2",
        attribution={"n": 5, "mean_margin_difference": 0.1, "features": [{"feature": nasty, "difference": 0.1}]},
    )
    page = render_fairness(
        report(
            feature(nasty, [group(nasty, state="reference"), compared], intersection_of=[nasty, "sex"]),
            model_name=nasty,
            model_versions=[nasty],
            positive_class=nasty,
            favourable_outcome=nasty,
            window={"name": nasty, "start": "2026-11-17T15:00:00Z", "end": "2026-11-17T15:00:00Z"},
        )
    )
    elements, text = read(page)
    assert nasty in text
    assert nasty not in page
    assert "<b>&amp;" not in page
    assert not [name for _, attributes in elements for name in attributes if re.search("[^a-z0-9-]", name)]


def test_hidden_groups_show_no_number():
    """Not one digit in their rows: nothing to subtract from."""
    page = render_fairness(
        report(
            feature("race", [group("a", state="reference"), group("b"), hidden_group("small")]), n=None, labelled=None
        )
    )
    rows = re.findall(r"<tr>\s*<th scope=\"row\"[^>]*>small</th>(.*?)</tr>", page, flags=re.DOTALL)
    assert len(rows) > 5
    for row in rows:
        words = re.sub(r"<[^>]*>", " ", row)
        assert "hidden" in words
        assert not re.search(r"\d", words)
    _, text = read(page)
    assert "With a known outcome hidden" in text


def test_a_feature_that_is_all_hidden_is_not_drawn():
    """One sentence stands in for empty axes."""
    hidden = hidden_group("no", against_reference=None)
    disability = feature("disability", [hidden, hidden_group("yes")], state="insufficient")
    disability["disparities"] = {name: {"suppressed": True} for name in DISPARITIES}
    _, text = read(render_fairness(report(disability, state="insufficient")))
    assert "Nothing can be drawn: every rate is hidden or not yet defined." in text
    assert "No group can be judged against “no” yet" in text


def test_undefined_numbers_become_words():
    """No positives, no TPR: neither 0 nor nan."""
    undefined = {"value": None, "low": None, "high": None, "state": "insufficient"}
    new = group(
        "new",
        30,
        state="insufficient",
        rates=dict.fromkeys(RATES, UNDEFINED_RATE),
        against_reference=dict.fromkeys(COMPARISONS, undefined),
        calibration=None,
        attribution=None,
    )
    age = feature("age", [group("old", state="reference"), new], disparities=dict.fromkeys(DISPARITIES))
    _, text = read(render_fairness(report(age, n=0, labelled=0)))
    for words in ("no positives yet", "no negatives yet", "none predicted positive yet", "not yet defined", "none yet"):
        assert words in text
    assert not re.search(
        r"\b(nan|none|inf|null|undefined)\b", text.replace("none yet", "").replace("none predicted", ""), re.I
    )


def test_a_breach_is_named_with_its_number_interval_and_limit():
    """In a sentence per number, in percentage points or as a ratio."""
    compared = group("Black", state="breach")
    compared["against_reference"]["impact_ratio"] = {"value": 0.634, "low": 0.6, "high": 0.67, "state": "breach"}
    compared["against_reference"]["false_positive_rate_difference"] = {
        "value": -0.2138,
        "low": -0.25,
        "high": -0.18,
        "state": "breach",
    }
    race = feature("race", [group("White", state="reference"), compared], state="breach")
    _, text = read(render_fairness(report(race, state="breach")))
    assert "Breach: in “race”, at least one group differs from its reference group" in text
    assert "“Black” differs from “White” by more than is tolerated." in text
    assert "Black: impact ratio 0.63 (0.60 to 0.67); tolerated is at least 0.8." in text
    signed = text.replace("\N{MINUS SIGN}", "-")
    assert "Black: false positive rate difference -21.4 pp (-25.0 to -18.0 pp); tolerated is within 10 pp." in signed


def test_without_a_positive_class_error_rates_are_left_out(ordinary):
    """Several classes, none of them positive: selection rates and coverage remain."""
    for each in ordinary["sensitive_features"][0]["groups"]:
        each["cells"] = each["calibration"] = each["attribution"] = None
        for name in RATES[1:5]:
            each["rates"][name] = UNDEFINED_RATE
    ordinary["positive_class"] = None
    _, text = read(render_fairness(ordinary))
    assert "none of them is declared positive" in text
    assert "Selection rate" in text
    assert "Label coverage" in text
    assert not re.search("True positive|no positives yet|Calibration|None", text)


def test_without_a_favourable_outcome_there_is_no_selection_rate(ordinary):
    """Nothing to select for."""
    ordinary["favourable_outcome"] = None
    _, text = read(render_fairness(ordinary))
    assert "True positive rate" in text
    assert not re.search(r"\b(Selection rate|Impact ratio|selection rate|None)\b", text)


def test_of_many_groups_some_are_drawn_and_all_are_in_the_tables():
    """The reference and breaches first, then the largest; the page says so."""
    groups = [group("reference", state="reference")]
    groups += [group(f"group {place}", 20 + place, calibration=None, attribution=None) for place in range(300)]
    groups += [group("breach", 30, state="breach", calibration=None, attribution=None), hidden_group("hidden one")]
    many = feature("sex x race", groups, state="breach", intersection_of=["sex", "race"])
    page = render_fairness(report(many, state="breach"))
    _, text = read(page)
    assert "Of the 303 groups 26 are drawn" in text
    drawn = re.search(r"<b>Selection rate</b>.*?</table>", page, flags=re.DOTALL).group()
    names = re.findall(r'<th scope="row" class="name">(.*?)</th>', drawn)
    assert names[:3] == ["reference", "breach", "group 299"]
    assert len(names) == 26
    for table in ("Rates of every group", "Counts of every group"):
        rows = page.split(f"<summary>{table}</summary>")[1].split("</table>")[0]
        assert rows.count('<th scope="row">') == 303


def test_attributions_are_the_ten_greatest_and_the_rest_and_their_sum(ordinary):
    """Fourteen features: four of them in one bar."""
    page = render_fairness(ordinary)
    bars = page.split("What drives the gap")[1].split("</table>")[0]
    values = re.findall(r'<td class="value number">(.*?)</td>', bars)
    assert len(values) == 12
    assert values[0] == "+0.40"
    assert "4 other features" in bars
    assert values[-1] == "+0.41"


def test_a_state_is_told_by_a_shape_and_a_word_wherever_it_has_a_colour(ordinary):
    """For those who see no colours, and those who see nothing."""
    page = render_fairness(ordinary)
    elements, _ = read(page)
    assert all(
        attributes.get("role") == "img" or attributes.get("aria-hidden") == "true" or "x" in attributes
        for tag, attributes in elements
        if tag == "svg"
    )
    assert page.count('role="img"') == len(re.findall(r'role="img">\s*<title>[^<]', page))


def test_a_report_that_hides_nothing_says_so(ordinary):
    """Then the page itself is confidential."""
    ordinary["suppression"] = {"enabled": False, "smallest_shown": 11}
    _, text = read(render_fairness(ordinary))
    assert "treat this report as confidential" in text


def test_a_model_without_sensitive_features_has_a_page():
    """It says that there is nothing to compare."""
    _, text = read(render_fairness(report(state="insufficient")))
    assert "this model declares no sensitive feature" in text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (percent(0.41234), "41.2%"),
        (percent(0), "0.0%"),
        (percent(0.0001), "<0.1%"),
        (percent(0.9999), ">99.9%"),
        (percent(1), "100.0%"),
        (ratio(0.666), "0.67"),
        (ratio(0.001), "<0.01"),
        (points(-0.2138), "\N{MINUS SIGN}21.4\N{NO-BREAK SPACE}pp"),
        (points(-0.0001), "0.0\N{NO-BREAK SPACE}pp"),
        (gap(0.338), "33.8\N{NO-BREAK SPACE}pp"),
        (window("24h"), "24 hours"),
        (window("1d"), "1 day"),
        (window("all"), "all"),
        (moment("2026-11-24T16:30:00+01:00"), "2026-11-24 15:30 UTC"),
    ],
)
def test_numbers_read_as_people_write_them(written, expected):
    assert written == expected


@pytest.mark.parametrize("values", [[], [0.0], [1.0], [0.5, 0.5], [0.0, 1.0], [0.0012, 0.0015], [0.981, 0.997]])
def test_a_rate_axis_holds_its_values_between_labelled_ends(values):
    """Also where all are alike, or near an end."""
    axis = rate_axis(values)
    assert all(axis.holds(value) and 0 <= axis.at(value) <= 100 for value in values)
    assert 0 <= axis.low < axis.high <= 1
    assert len(axis.ticks) >= 2


def test_a_ratio_axis_is_logarithmic_and_always_shows_the_limit():
    """Halving and doubling are as far from 1; what is far out stands at the edge."""
    axis = ratio_axis([0.5, 2.0])
    assert axis.at(1) - axis.at(0.5) == pytest.approx(axis.at(2) - axis.at(1), abs=0.02)
    assert "0.8" in [label for _, label in ratio_axis([0.001, 300]).ticks]
    assert ratio_axis([0.0]).at(0.0) == ratio_axis([0.0]).at(0.05)
    assert not ratio_axis([0.0]).holds(0.0)
