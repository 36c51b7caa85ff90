"""What the integration and end-to-end tests share: the toy packages on disk. Also puts this folder on the path."""

import pytest
import toy


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    """A repository with every toy package; not to be changed."""
    return toy.write_all(tmp_path_factory.mktemp("toys"))
