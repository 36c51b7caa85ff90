"""The drift page in a real browser, under the policy that it is served with: it fits, and asks for nothing."""

import drift_reports as made
import pytest

from service.api.page.document import CONTENT_SECURITY_POLICY
from service.api.page.drift import render_drift

# Cells of plots whose text is wider than they are, as their words.
SPILLED = """
[...document.querySelectorAll('.plot th, .plot td:not(.track), .measures div, summary')]
  .filter(cell => cell.getClientRects().length && cell.scrollWidth > cell.clientWidth + 1)
  .map(cell => cell.innerText)
"""
# Pairs of numbers or names in one row of a plot that lie over each other.
OVERLAPPING = """
[...document.querySelectorAll('.plot tr')].filter(row => row.getClientRects().length).flatMap(row => {
  const boxes = [...row.querySelectorAll('th, td:not(.track)')].map(cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return range.getBoundingClientRect();
  }).filter(box => box.width);
  return boxes.slice(1).filter((box, place) => box.left < boxes[place].right - 1).map(() => row.innerText);
})
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A file with 30 features, long names, names from right to left, 20 groups, and rows that are hidden."""
    report = made.ordinary()
    report["features"].append(made.categorical("دواء_" * 12, ["x" * 120, "مرض " * 30], value=0.4, state="drift"))
    report["attribution"]["features"].append(made.attributed("an_unbreakable_name" + "x" * 60, 0.1, 0.4))
    report["performance"][0]["groups"].append(made.performing("x" * 60, 1_234_567, 1_234_567))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">'
    file = tmp_path_factory.mktemp("drift") / "page.html"
    file.write_text(render_drift(report).replace("<head>", f"<head>{policy}"), encoding="utf-8")
    return file.as_uri()


@pytest.mark.parametrize("colour_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_the_page_fits_and_asks_for_nothing(browser, address, tmp_path, width, colour_scheme):
    """No sideways scrolling at a telephone's width, no complaint of the browser, its styles in force; all unfolded."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colour_scheme)
    addresses, complaints = [], []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("console", lambda line: complaints.append(line.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(SPILLED) == []
    assert page.evaluate(OVERLAPPING) == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if colour_scheme == "light" else "rgb(18, 22, 28)")
    assert complaints == []
    assert addresses == [address]
    page.close()


def test_a_link_to_a_folded_feature_unfolds_it(browser, address):
    """From the table to the figure without a script."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    figure = page.locator("#feature-1")
    assert not figure.is_visible()
    page.locator('a[href="#feature-1"]').click()
    figure.wait_for(state="visible")
    page.close()


def test_print_shows_what_the_screen_folds(browser, address):
    """On paper nothing can be opened, and nothing is dark."""
    page = browser.new_page(viewport={"width": 700, "height": 900}, color_scheme="dark")
    page.emulate_media(media="print")
    page.goto(address)
    assert page.locator("#feature-1").bounding_box()["height"] > 100
    assert page.evaluate("document.documentElement.scrollWidth") == 700
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(SPILLED) == []
    page.close()


def test_bars_and_marks_stand_where_their_numbers_are(browser, address):
    """0.3% now is less than 9.9% before; realised 43% lies left of expected 55%."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    row = page.locator("#feature-24 tbody tr", has_text="0.5 to 10.17").last
    reference, now = (row.locator("rect").nth(place).bounding_box() for place in (0, 1))
    assert now["width"] == pytest.approx(reference["width"] * 0.3 / 9.9, rel=0.3)
    assert now["x"] == reference["x"]
    assert now["y"] >= reference["y"] + reference["height"]
    row = page.locator("#performance figure").first.locator("tbody tr", has_text="male").nth(1)
    expected, realised = (row.locator(".track .mark").nth(place).bounding_box() for place in (0, 1))
    assert realised["x"] < expected["x"]
    page.close()
