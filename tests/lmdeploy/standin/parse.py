"""What LMDeploy's own command line makes of words, without doing it.

    parse.py < LINES.json

Reads a JSON list of command lines (the words after `lmdeploy`), prints what each was read as.
"""

import json
import sys

from lmdeploy.cli.cli import CLI
from lmdeploy.cli.lite import SubCliLite
from lmdeploy.cli.serve import SubCliServe

for part in (CLI, SubCliServe, SubCliLite):
    part.add_parsers()
for words in json.load(sys.stdin):
    print(json.dumps({k: v for k, v in vars(CLI.parser.parse_args(words)).items() if k != "run"}, default=str))
