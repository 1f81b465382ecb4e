# SPDX-License-Identifier: GPL-2.0-or-later
# Turns a JSON document into a C array; a document that is not JSON stops the build.
import json
import sys

source, target, name = sys.argv[1:]
with open(source, encoding='utf-8') as f:
    text = json.dumps(json.load(f), separators=(',', ':'), ensure_ascii=True)
with open(target, 'w', encoding='ascii') as f:
    f.write(f'extern const char {name}[];\nconst char {name}[] =\n')
    for i in range(0, len(text), 90):
        part = text[i:i + 90].replace('\\', '\\\\').replace('"', '\\"')
        f.write(f'    "{part}"\n')
    f.write('    ;\n')
