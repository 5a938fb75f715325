"""The documents of this project, cut into what can be checked: blocks, inline code, command lines."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]


class Block(NamedTuple):
    """A block of code: fenced with its language, or indented with none."""

    page: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text = page.read_text()
    found: list[tuple[int, Block]] = []

    def fenced(match: re.Match[str]) -> str:
        found.append((match.start(), Block(page.name, match["language"], textwrap.dedent(match["text"]))))
        return re.sub(r"[^\n]", " ", match[0])

    text = re.sub(r"^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```$", fenced, text, flags=re.MULTILINE | re.DOTALL)
    indented = re.finditer(r"(?<=\n\n)(?: {4}.*\n)+", text)
    found += [(match.start(), Block(page.name, "", textwrap.dedent(match[0]))) for match in indented]
    return [block for _, block in sorted(found, key=lambda item: item[0])]


def inline(page: Path) -> list[str]:
    """All code inside sentences, line breaks in it as blanks."""
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def commands(page: Path) -> list[str]:
    """All command lines of a page that begin with `edgemesh` or `make`, without comments and redirections."""
    lines = [line for block in blocks(page) if block.language in ("", "sh") for line in block.text.splitlines()]
    found = [re.split(r"\s+#|\s*>", line)[0].strip() for line in [*lines, *inline(page)]]
    return [line for line in found if re.match(r"(edgemesh|make)( |$)", line)]
