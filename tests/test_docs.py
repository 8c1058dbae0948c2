"""What the documents say of the suite is so."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trioproxy"
DOCUMENTS = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]


def test_every_test_that_a_document_names_exists() -> None:
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    defined = set(re.findall(r"^ *(?:async )?def (test_\w+)", tests, re.MULTILINE))

    named = {
        name for document in DOCUMENTS for name in re.findall(r"`(test_\w+)`", document.read_text())
    }

    assert named - defined == set()


def test_every_file_that_a_document_names_exists() -> None:
    path = r"`((?:trioproxy|tests|benchmarks|docs|fanout|wire|upstream|web|serving)/[\w/.]*)`"

    named = {name for document in DOCUMENTS for name in re.findall(path, document.read_text())}
    named.discard("benchmarks/results/")  # made by the benchmarks

    missing = [one for one in named if not any((at / one).exists() for at in (ROOT, PACKAGE))]
    assert missing == []


def test_every_link_within_the_documents_leads_somewhere() -> None:
    broken: list[str] = []
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(document)):
            if "://" in target or target.startswith("mailto:"):
                continue
            path, _, anchor = target.partition("#")
            file = (document.parent / path).resolve() if path else document
            if not file.exists() or (anchor and anchor not in anchors_of(file)):
                broken.append(f"{document.name}: {target}")

    assert broken == []


def prose_of(file: Path) -> str:
    """Its text without code."""
    return re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)


def anchors_of(file: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(file), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
