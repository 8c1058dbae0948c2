"""What every attack needs: the proxies here speak TLS to no engine."""

from tests.web.conftest import certificates_are_loaded_once

__all__ = ["certificates_are_loaded_once"]
