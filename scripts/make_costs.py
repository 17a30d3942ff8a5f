"""Writes what each model costs: `zoo list` shows it, and tracing all models takes a minute.

python scripts/make_costs.py [OUT]
"""

import json
import sys
from pathlib import Path

import zoo

TARGET = Path(__file__).parent.parent / "zoo" / "models" / "costs.json"


def main(target: Path = TARGET) -> None:
    """Counts by tracing, and writes the table."""
    rows = []
    for name in zoo.list_models(task=None):
        described = zoo.describe(name)
        cost = {"parameters": described.parameters, "multiply_adds": described.multiply_adds}
        rows.append(f"  {json.dumps(name)}: {json.dumps(cost)}")
    target.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    print(f"{target}: {len(rows)} models")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
