"""What docs/metrics.md says of the columns that a run writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nacre.runs.tables import COUNTERS

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"


def undocumented(run: Path) -> set[str]:
    """Columns of metrics.csv without a row in the table below the heading that names the run's method."""
    method = json.loads((run / "config.json").read_text())["algorithm"]
    _, *sections = PAGE.read_text().split("\n### ")
    (section,) = (text for text in sections if f"`{method}`" in text.splitlines()[0])
    first_cells = [line.split("|")[1] for line in section.split("\n## ")[0].splitlines() if line.startswith("|")]
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    columns = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    return set(columns) - set(COUNTERS) - named
