"""The fairness page in a real browser, under the policy that it is served with: it fits, and asks for nothing."""

import pytest
from fairness_reports import feature, group, hidden_group, report

from service.api.page.document import CONTENT_SECURITY_POLICY
from service.api.page.fairness import render_fairness


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A file with long names, many columns, a hidden group and one without predictions."""
    groups = [
        group("Caucasian and others of the reference", state="reference"),
        group("African-American", 1_234_567, state="breach"),
        hidden_group("an unbreakable_name_of_forty_characters_x"),
        group("unknown", 40, state="not_compared", kind="reserved"),
    ]
    page = render_fairness(report(feature("race", groups, state="breach"), state="breach"))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">'
    file = tmp_path_factory.mktemp("fairness") / "page.html"
    file.write_text(page.replace("<head>", f"<head>{policy}"))
    return file.as_uri()


@pytest.mark.parametrize("colour_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_and_asks_for_nothing(browser, address, tmp_path, width, colour_scheme):
    """No sideways scrolling at a telephone's width, no complaint of the browser, its styles in force."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colour_scheme)
    addresses, complaints = [], []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("console", lambda line: complaints.append(line.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if colour_scheme == "light" else "rgb(18, 22, 28)")
    assert complaints == []
    assert addresses == [address]
    page.close()


def test_a_mark_stands_where_its_number_is(browser, address):
    """Impact ratio 0.97 lies right of the limit and left of 1."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    plot = page.locator("figure", has_text="Impact ratio").first
    row = plot.locator("tbody tr", has_text="African-American")

    def centre(selector):
        box = row.locator(selector).first.bounding_box()
        return box["x"] + box["width"] / 2

    assert centre(".at-limit") < centre(".mark") < centre(".at-reference")
    page.close()
