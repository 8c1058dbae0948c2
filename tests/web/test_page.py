"""The page's files, as the proxy serves them."""

from __future__ import annotations

import re
from importlib import resources

from tests.web.service import open_simulated


async def test_the_page_is_served_with_a_policy_that_lets_in_nothing_else() -> None:
    async with open_simulated() as service:
        page = await service.http.get("/")

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert not re.search(r"<script>|<style|style=|https?://", page.text)


async def test_every_file_is_served_with_its_type_and_only_what_is_a_file() -> None:
    types = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    names = [path.name for path in resources.files("trioproxy.web").joinpath("page").iterdir()]

    async with open_simulated() as service:
        told = {
            name: (await service.http.get(f"/page/{name}")).headers["content-type"].split(";")[0]
            for name in names
            if name != "index.html"
        }
        refused = [
            (await service.http.get(f"/page/{name}")).status_code
            for name in ("index.html", "nothing.js", "..%2Fapp.py", "%2e%2e/app.py")
        ]

    assert told == {name: types[name[name.rfind(".") :]] for name in told}
    assert "main.js" in told
    assert refused == [404] * 4


async def test_every_module_that_is_imported_is_there() -> None:
    folder = resources.files("trioproxy.web").joinpath("page")
    files = {path.name: path.read_text() for path in folder.iterdir()}

    named = {
        name
        for text in files.values()
        for name in re.findall(r"""(?:from "\./|(?:href|src)="/page/)([\w.]+)""", text)
    }

    assert files.keys() - {"index.html"} == named


async def test_browser_that_has_a_file_is_told_so() -> None:
    async with open_simulated() as service:
        first = await service.http.get("/page/page.css")
        again = await service.http.get(
            "/page/page.css", headers={"If-None-Match": first.headers["etag"]}
        )
        other = await service.http.get("/page/page.css", headers={"If-None-Match": '"other"'})

    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (other.status_code, other.content) == (200, first.content)
