"""Checks values by the definitions of a JSON schema, knowing nothing of Keyward's code.

    python3 by_schema.py SCHEMA < LINES

Each line holds the name of a definition, a value and whether it has to satisfy it. Prints each difference.
"""

import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator as Validator

schema = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
Validator.check_schema(schema)
checked = 0
for line in sys.stdin:
    name, value, is_good = json.loads(line)
    of = Validator({"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]})
    errors = [f"{error.json_path}: {error.message}" for error in of.iter_errors(value)]
    if is_good and errors:
        print(f"{name} {value}: {errors}")
    if not is_good and not errors:
        print(f"{name} {value}: must be refused")
    checked += 1
print(f"{checked} checked")
