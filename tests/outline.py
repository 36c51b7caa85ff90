"""What a page holds: its elements, which must close in their places, and its text."""

import re
from html.parser import HTMLParser

VOID = {"meta", "wbr", "br"}


class Outline(HTMLParser):
    """Which elements a page has, and that each one that opens closes in its place."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" not in self.open:
            self.text.append(text)


def read(page):
    """(elements, text) of a page whose elements close in their places."""
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    return outline.seen, re.sub(r"\s+", " ", " ".join(outline.text))
