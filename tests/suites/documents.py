"""Reading the worked examples of the format documents."""

import re
from pathlib import Path

_HEX_WORDS = re.compile(r"^ {4,}((?:[0-9a-f]{2})+(?: (?:[0-9a-f]{2})+)*)(?:  .*|$)")


def hex_examples(document: Path) -> list[bytes]:
    """The bytes of each indented hex listing below "Worked example", comments left out."""
    text = document.read_text().split("## Worked example", 1)[1]
    examples: list[str] = []
    in_listing = False
    for line in text.splitlines():
        match = _HEX_WORDS.match(line)
        if match:
            if not in_listing:
                examples.append("")
            examples[-1] += match[1].replace(" ", "")
        in_listing = match is not None
    return [bytes.fromhex(example) for example in examples]
