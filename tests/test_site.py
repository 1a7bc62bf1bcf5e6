"""The documents as a site: links to files outside docs/, nothing loaded from elsewhere, every command in the reference."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lago_skills.commands.cli import parser
from scripts import command_reference
from tests.conftest import ROOT

PAGE = """# Start

See [the loop](../lago_skills/rl/loop.py), [its folder](more/other.md#further) and `code`.

```{toctree}
more/other
```
"""
OTHER = """# Other

## Further

A [study](../../data/studies/demo.toml), [the licence](../../LICENSE), a web page [elsewhere](https://example.org).
"""


def build(folder: Path, page: str) -> subprocess.CompletedProcess[str]:
    """A site of two pages, by the settings of docs/, as if it lay in the repository."""
    docs = folder / "docs"
    (docs / "more").mkdir(parents=True, exist_ok=True)
    (docs / "index.md").write_text(page, encoding="utf-8")
    (docs / "more/other.md").write_text(OTHER, encoding="utf-8")
    for name in ("lago_skills", "data", "LICENSE"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    told = ["-q", "-n", "-W", "--keep-going", "-E", "-c", ROOT / "docs", "-D", f"linked_sources_root={folder}"]
    command = [sys.executable, "-m", "sphinx", *told, docs, folder / "site"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)


@pytest.mark.slow
def test_links_to_files_end_at_pages_that_show_them(tmp_path: Path) -> None:
    """With the file's colours, as deep as the page may lie; and no page loads anything from elsewhere."""
    made = build(tmp_path, PAGE)
    assert made.returncode == 0, made.stderr
    site = tmp_path / "site"
    index, other = (site / name for name in ("index.html", "more/other.html"))
    (link,) = re.findall(r'href="(files/[^"]+)"', index.read_text(encoding="utf-8"))
    shown = (site / link).read_text(encoding="utf-8")
    assert 'class="highlight"' in shown
    assert "The one training loop" in re.sub(r"<[^>]+>", "", shown)
    links = re.findall(r'href="(\.\./files/[^"]+)"', other.read_text(encoding="utf-8"))
    assert [(other.parent / each).resolve().name for each in links] == ["demo.toml.html", "LICENSE.html"]
    assert all((other.parent / each).is_file() for each in links)
    assert outside(site) == []
    words = (site / "searchindex.js").read_text(encoding="utf-8")
    assert json.loads(re.sub(r"^Search\.setIndex\(|\)$", "", words))["titles"]


def outside(site: Path) -> list[str]:
    """What pages, styles and scripts would load from elsewhere when they are opened; links that one follows are none of it."""
    found: list[str] = []
    for page in site.rglob("*.html"):
        tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page.read_text(encoding="utf-8"))
        found += [tag for tag in tags if re.search(r'(?:src|href)="(?:https?:)?//', tag)]
    for style in site.rglob("*.css"):
        found += re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)\"']+", style.read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("../lago_skills/no_such.py", "no_such.py"),
        ("../lago_skills/rl", "lago_skills/rl"),
        ("more/other.md#no-such-heading", "no-such-heading"),
        ("no-such-page.md", "no-such-page"),
    ],
)
def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path, link: str, said: str) -> None:
    made = build(tmp_path, f"{PAGE}\n[wrong]({link})\n")
    assert made.returncode != 0
    assert said in made.stderr


def test_every_command_is_in_the_reference() -> None:
    """With its options as they are typed; what many commands share is told once."""
    page = command_reference.page()
    titles = re.findall(r"^##+ `(.+)`$", page, re.MULTILINE)
    assert titles == [command.prog for command, _ in command_reference.commands(parser())]
    assert re.search(r"^\| `--seeds N,M` \| default: 0,1,2 \|$", page, re.MULTILINE)
    assert len(re.findall(r"tcp://10\.0\.0\.1:8786", page)) == 1
