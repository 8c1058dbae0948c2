"""The file in docs/configuration.md is one that the proxy takes."""

from __future__ import annotations

import re
from pathlib import Path

from trioproxy.config import load_settings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_file_is_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "proxy.toml"
    file.write_text(text, encoding="utf-8")

    settings = load_settings(flags={}, environ={}, file=file)

    assert [tenant.name for tenant in settings.gateway.tenants] == ["alice", "operations"]
    assert settings.max_body == 16 * 2**20
