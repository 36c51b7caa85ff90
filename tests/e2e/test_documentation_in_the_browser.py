"""`/docs` in a real browser: the page works, and no request leaves the machine."""

import re

import pytest


@pytest.fixture
def page(browser, committed):
    """The documentation page, loaded; `page.addresses` are the addresses that it asked for."""
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    page.addresses, page.complaints = [], []
    page.on("request", lambda request: page.addresses.append(request.url))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda line: page.complaints.append(line.text) if line.type == "error" else None)
    page.goto(f"{committed.url}/docs")
    page.wait_for_selector(".opblock-summary")
    yield page
    page.close()


def operation(page, model):
    path = f"/v1/models/{model}:predict"
    return page.locator(".opblock-post").filter(has=page.locator(f'[data-path="{path}"]')).first


def test_the_page_shows_an_operation_for_each_model(page, tmp_path):
    """With its concrete path; nothing fails on the way."""
    page.screenshot(path=tmp_path / "docs.png", full_page=True)
    for model in ("diagnosis", "progression", "transaction"):
        assert operation(page, model).count() == 1
    assert page.locator(".errors-wrapper").count() == 0
    assert page.complaints == []


def test_no_request_leaves_the_service(page, committed):
    """Hospitals are air-gapped: scripts, styles, icons and the document all come from here."""
    page.wait_for_load_state("networkidle")
    assert any(address.endswith("/openapi.json") for address in page.addresses)
    outside = [address for address in page.addresses if not re.match(rf"{committed.url}/|data:|blob:", address)]
    assert outside == []


@pytest.mark.parametrize("model", ["diagnosis", "transaction"])
def test_trying_a_model_out_answers_200(page, tmp_path, model):
    """Its example, sent as it stands."""
    block = operation(page, model)
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    status = block.locator(".live-responses-table .response-col_status").nth(1)
    status.wait_for()
    page.screenshot(path=tmp_path / "tried.png", full_page=True)
    assert status.inner_text().startswith("200")
    assert f'"{model}"' in block.locator(".live-responses-table .highlight-code").first.inner_text()
