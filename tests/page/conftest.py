"""What every test of the page needs: a browser, as the tests of other clients have it."""

from tests.clients.conftest import browser

__all__ = ["browser"]
