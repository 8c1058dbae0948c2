"""A proxy as a node: what its settings mean to the cluster."""

from __future__ import annotations

import pytest

from trioproxy.config import Settings
from trioproxy.web.clustered import terms_of


@pytest.mark.parametrize("lease", [0.5, 6.0, 60.0, 300.0])
def test_no_key_runs_out_before_its_lease(lease: float) -> None:
    terms = terms_of(Settings(cluster_lease=lease, retention=20.0))

    assert (terms.lease, terms.retention) == (lease, 20.0)
    assert terms.ttl >= 60
    assert terms.ttl >= 2 * lease
