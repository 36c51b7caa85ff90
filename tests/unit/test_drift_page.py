"""The drift page: every feature, states in words, nothing that is hidden, nothing from elsewhere."""

import re
from xml.etree import ElementTree

import drift_reports as made
import pytest
from outline import read

from service.api.page.drift import render_drift
from service.api.page.plots import bar_widths
from service.api.page.words import number, p_value


@pytest.fixture(scope="module")
def ordinary():
    """30 features of every kind and state, and every other part."""
    return made.ordinary()


@pytest.fixture(scope="module")
def page(ordinary):
    return render_drift(ordinary)


def table(page, label):
    """The rows of a table as [cell, ...] of words without elements, the head included."""
    part = page.split(f'aria-label="{label}"')[1].split("</table>")[0]
    rows = re.findall(r"<tr.*?</tr>", part, flags=re.DOTALL)
    return [
        [
            re.sub(r"\s+", " ", re.sub(r"<title>.*?</title>|<[^>]*>", "", cell)).strip()
            for cell in re.findall(r"<t[dh].*?</t[dh]>", row, flags=re.DOTALL)
        ]
        for row in rows
    ]


def figure(page, anchor):
    """The text of the figure of a feature or score."""
    found = re.search(rf'<figure class="plot pairs" id="{anchor}">.*?</figure>', page, flags=re.DOTALL).group()
    return found, read(found)[1]


def test_the_page_says_what_it_is_about(page):
    """Model, version, window in UTC, n, the reference and its n, and the state in one sentence."""
    _, text = read(page)
    for fact in ("diagnosis", "2026-11-23 16:30 to 2026-11-24 16:30 UTC", "24 hours", "4,321", "8,331 rows"):
        assert fact in text
    assert "0123456789ab" in text
    assert (
        "Drift: 3 of 30 features, the scores, the scores of 1 group and the attribution of 1 feature moved away" in text
    )


def test_the_page_loads_nothing_and_runs_nothing(page):
    """No script, no address of another place, no picture or style from outside."""
    elements, _ = read(page)
    assert not re.search(r"https?:|//|@import|url\(", page)
    assert {tag for tag, _ in elements}.isdisjoint({"script", "link", "img", "iframe", "object", "form"})
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on") or name == "src"]


def test_every_link_leads_to_its_one_place(page):
    """Anchors are unique, and each feature of the table leads to its figure."""
    elements, _ = read(page)
    places = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(places) == len(set(places))
    links = {attributes["href"] for tag, attributes in elements if tag == "a"}
    assert links <= {f"#{place}" for place in places}
    assert {f"#feature-{place}" for place in range(1, 31)} <= links


def test_every_feature_is_in_the_table_and_has_a_figure(ordinary, page):
    """Sorted by PSI over its critical value; what is hidden comes last."""
    head, *rows = table(page, "All features")
    assert head == [
        *("Feature", "State", "n", "PSI", "Critical value", "PSI / critical"),
        *("Missing", "Out of range", "Unseen"),
    ]
    assert [row[0] for row in rows[:2]] == ["amount", "seconds_since_the_last_transaction_of_the_same_card"]
    assert rows[-1] == ["hidden_feature", "hidden", *["hidden"] * 6, "—"]
    assert {row[0] for row in rows} == {feature["feature"] for feature in ordinary["features"]}
    excess = [float(row[5].rstrip("\N{MULTIPLICATION SIGN}")) for row in rows[:-1]]
    assert excess == sorted(excess, reverse=True)
    for place, feature in enumerate(ordinary["features"], 1):
        assert feature["feature"] in figure(page, f"feature-{place}")[1].replace("_ ", "_")


def test_what_drifts_is_open_and_the_rest_is_folded(page):
    """Three of thirty at a glance."""
    elements, _ = read(page)
    assert not [attributes for tag, attributes in elements if tag == "details" and "open" in attributes]
    drifting = page.split("<h3>In drift</h3>")[1].split("<h3>Other features</h3>")[0]
    assert re.findall(r'<figure class="plot pairs" id="(.*?)"', drifting) == ["feature-24", "feature-25", "feature-26"]
    assert "<details" not in drifting
    others = page.split("<h3>Other features</h3>")[1].split("</section>")[0]
    assert others.count("<details>") == others.count("<figure") == 27


def test_a_figure_has_every_range_twice_and_every_measure(page):
    """Reference and now, in bars and numbers."""
    found, text = figure(page, "feature-24")
    assert "numeric, in EUR; n 4,321 now, 8,331 in the reference" in text
    for measure in (
        "PSI 0.412 critical 0.010",
        "Jensen-Shannon 0.273 distance, log base 2",
        "Kolmogorov-Smirnov 0.212",
    ):
        assert measure in text
    assert re.search(r"Chi-squared 1,\d+\.\d 12 degrees of freedom, p < 0.001", text.replace("\N{NO-BREAK SPACE}", " "))
    assert found.count('<rect class="bar reference"') == found.count('<rect class="bar"') == 13
    assert "below 0.5 out of range" in text
    assert "Kolmogorov-Smirnov" not in figure(page, "feature-27")[1]
    assert "pooled, to hide a small count" in figure(page, "feature-25")[1]


def test_each_drift_is_named_with_its_number_and_limit(page):
    """In a sentence each: features, shares, scores, groups, attribution."""
    _, text = read(page)
    squeezed = re.sub(r"“ | ”", lambda match: match.group().strip(), text)
    for sentence in (
        "“amount”: PSI 0.412; tolerated is below 0.1, and chance explains up to 0.010.",
        "“creatinine”: 31.0% missing, 2.0% in the reference.",
        "Score of “1”: PSI 0.140;",
        "Scores of “region 5” (region): PSI 0.290;",
        "Attribution of “amount”: 21.0% of all, 8.0% in the reference.",
    ):
        assert sentence in squeezed
    assert "“creatinine”: PSI" not in squeezed


def test_groups_without_a_number_say_why(page):
    """Hidden, without reference rows, or too few: none of them looks like 0 or like within tolerance."""
    rows = {row[0]: row[1:] for row in table(page, "Scores by region")}
    assert rows["region 5"][:2] == ["drift", "640"]
    assert rows["region 18"][0] == "insufficient evidence"
    assert rows["new"] == ["insufficient evidence", "40", "0", *["no reference"] * 3]
    hidden = rows["Northern Territories and overseas departments"]
    assert hidden == ["hidden", "hidden", "1,500", *["hidden"] * 3]
    assert len(rows) == 21


def test_attribution_is_sorted_by_how_far_it_moved(page):
    """Share before and now, and the difference with its critical value."""
    section = page.split('<section id="attribution"')[1].split("</section>")[0]
    names = re.findall(r"<title>(\w+): reference", section)
    assert names[:3] == ["amount", "card_present", "mean_measurement_22"]
    assert len(names) == 25
    _, text = read(section.split(">", 1)[1])
    assert "n 1,234 now, 2,000 in the reference" in text
    assert "8.0% 21.0% +13.0 pp critical 3.0 pp" in text.replace("\N{NO-BREAK SPACE}", " ")


def test_expected_and_realised_rates_stand_on_one_axis(page):
    """Two marks and two intervals per group, with n and how many are labelled."""
    section = page.split('<section id="performance"')[1].split("</section>")[0]
    plot = section.split("<figure")[1]
    row = re.search(r"<title>male: (.*?)</title>.*?</tr>", plot, flags=re.DOTALL)
    assert row.group(1).startswith("expected 55.0%, 95% interval 53.4 to 56.6%; realised 43.0%, 95% interval 39.8 to")
    assert row.group().count('class="interval"') == 2
    assert "n 3,100, 1,800 labelled" in plot
    assert "no outcomes yet" in plot
    rows = {row[0]: row[1:] for row in table(page, "Expected and realised rates by sex")}
    assert rows["unknown"][:4] == ["insufficient evidence", "120", "0", "that of all groups"]
    assert set(rows["declined"]) == {"hidden", "its own"}


@pytest.mark.parametrize("made_report", [made.ordinary, made.nothing_known], ids=["ordinary", "nothing known"])
def test_the_pictures_are_well_formed(made_report):
    """As XML too; each has words, or is hidden from those who read by ear."""
    page = render_drift(made_report())
    pictures = re.findall(r'<td class="track[^"]*">(<svg.*?</svg>)</td>', page, flags=re.DOTALL)
    assert len(pictures) > 10
    for picture in pictures:
        ElementTree.fromstring(picture)
    assert page.count('role="img"') == len(re.findall(r'role="img">\s*<title>[^<]', page))


def test_what_is_not_known_is_said_in_words():
    """Nulls wherever the report may have them: neither 0 nor nan nor None, and no bar."""
    page = render_drift(made.nothing_known())
    _, text = read(page)
    assert "Insufficient evidence: there are fewer than 200 values so far, or they are hidden" in text
    assert not re.search(r"\b(nan|None|inf|null|undefined)\b", text)
    hidden, words = figure(page, "feature-1")
    assert '<rect class="bar"' not in hidden
    assert hidden.count('class="track unknown"') == 13
    assert "PSI hidden" in words
    assert not re.search(r"\d", " ".join(table(page, "All features")[2]))
    empty, words = figure(page, "feature-2")
    assert "PSI none yet" in words
    assert '<rect class="bar"' not in empty


def test_a_model_without_a_reference_has_a_page():
    """It says that there is nothing to compare, and explains no number that it has not."""
    page = render_drift(made.report(state="insufficient"))
    _, text = read(page)
    assert "Nothing to compare: this model's package has no reference." in text
    assert "PSI" not in text


def test_within_tolerance_counts_what_cannot_be_judged():
    """So that nobody takes silence for health."""
    features = [made.numeric("age"), made.numeric("rare", n=61, state="insufficient")]
    _, text = read(render_drift(made.report(*features)))
    assert "Within tolerance: nothing that could be compared moved away" in text
    assert "Of 2 features, 1 cannot be judged yet." in text


def test_a_share_in_drift_makes_its_feature_drift():
    """Also where PSI alone does not, as with values that go missing."""
    feature = made.numeric("age", shares={"missing": made.share(0.4, state="drift")})
    page = render_drift(made.report(feature, state="drift"))
    assert table(page, "All features")[1][1] == "drift"
    assert "1 of 1 features" in read(page)[1]


def test_every_name_is_escaped():
    """Features, units, categories, ranges, classes, groups and the model come from a manifest that somebody wrote."""
    nasty = "<b onclick=x>&\"'</title>"
    feature = made.categorical(nasty, [nasty, "\N{RIGHT-TO-LEFT OVERRIDE}abc", nasty * 9], unit=nasty, state="drift")
    feature["shares"]["unseen"] = made.share(0.3, state="drift")
    page = render_drift(
        made.report(
            feature,
            state="drift",
            model_name=nasty,
            model_version=nasty,
            scores=[made.score(nasty, state="drift", value=0.3)],
            group_scores=[
                {
                    "sensitive_feature": nasty,
                    "class": nasty,
                    "groups": [made.score_group(nasty, value=0.3, state="drift")],
                }
            ],
            attribution={
                "n": 1234,
                "reference_n": 99,
                "state": "drift",
                "features": [made.attributed(nasty, 0.3, 0.1, state="drift")],
            },
            performance=[{"sensitive_feature": nasty, "groups": [made.performing(nasty)]}],
            reference={"id": nasty, "n": 99, "data_fingerprint": nasty},
        )
    )
    elements, text = read(page)
    assert nasty in text
    assert nasty not in page
    assert not re.search(r"<b (?!class)|</title>&", page)
    assert "b" not in {tag for tag, attributes in elements if attributes}
    assert not [name for _, attributes in elements for name in attributes if re.search("[^a-z0-9-]", name)]
    assert page.count("<bdi>") > 10


def test_a_name_from_right_to_left_leaves_its_neighbours_alone(page):
    """Each name is isolated."""
    assert "<bdi>طبيب أسنان</bdi>" in page


def test_a_report_that_hides_nothing_says_so():
    """Then the page itself is confidential, and pools nothing."""
    suppression = {"enabled": False, "smallest_shown": 11}
    _, text = read(render_drift(made.report(made.numeric("age"), suppression=suppression)))
    assert "treat this report as confidential" in text
    assert "pooled" not in text.lower()


def test_a_feature_without_bins_is_not_drawn():
    """One sentence stands in for empty axes."""
    _, text = read(render_drift(made.report(made.unknown(made.numeric("age"), "suppressed", bins=[]))))
    assert "Nothing can be drawn: there are no values, or they are hidden." in text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (number(0), "0.000"),
        (number(0.00001), "<0.001"),
        (number(0.4116), "0.412"),
        (number(1172.23), "1,172.2"),
        (p_value(1e-30), "<\N{NO-BREAK SPACE}0.001"),
        (p_value(0.34), "=\N{NO-BREAK SPACE}0.340"),
    ],
)
def test_statistics_read_as_people_write_them(written, expected):
    assert written == expected


def test_bars_share_one_scale():
    """The longest fills the plot; an unknown share has none, and a share of 0 has one of no length."""
    assert bar_widths([(0.1, 0.4), (None, 0.0)]) == [(25.0, 100.0), (None, 0.0)]
    assert bar_widths([(0.0, None)]) == [(0.0, None)]
    assert bar_widths([]) == []
