"""What every page is made of: one self-contained HTML document from the templates of this package.

Styles and pictures are inline, there is no script and nothing is fetched, so that a page shows in an air-gapped
hospital, prints, and can be filed.
"""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from service.api.page import words

# What a page may load: nothing. For whoever serves it.
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document(template: str, **given: Any) -> str:
    """The page of a template; everything that it is given is escaped."""
    return _environment().get_template(template).render(**given)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("service.api.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for word in ("count", "percent", "ratio", "points", "gap", "margin", "moment", "window", "number"):
        environment.filters[word] = getattr(words, word)
    environment.globals["states"] = words.STATES
    return environment
