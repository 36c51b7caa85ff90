"""What the packaging tests share: rows of a small credit question, and one thread for those who train on them."""

import pytest
from bringing import credit_rows
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session")
def rows():
    """500 labelled applications; not to be changed."""
    return credit_rows()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Threads that wait for each other on a busy machine make a second of training a minute."""
    with threadpool_limits(limits=1):
        yield
