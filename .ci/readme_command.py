"""Print one of the README's commands: the block under the marker `<!-- NAME -->`."""

import re
import sys
from pathlib import Path

readme = Path(__file__).parents[1].joinpath("README.md").read_text()
block = re.search(rf"<!-- {re.escape(sys.argv[1])} -->\s*```sh\n(.*?)```", readme, re.DOTALL)
if block is None:
    sys.exit(f"README.md has no command marked {sys.argv[1]!r}")
print(block[1])
