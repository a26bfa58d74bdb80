"""Changes of a record's files, and all that a reader asks of it."""

import json


def change(folder, *path, to, file="record.json", line=0):
    """Put a value, or with `...` nothing, at a path into a file's JSON."""
    lines = (folder / file).read_text().splitlines()
    content = json.loads(lines[line])
    inner = content
    for one in path[:-1]:
        inner = inner[one]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    lines[line] = json.dumps(content)
    (folder / file).write_text("\n".join(lines) + "\n")


def all_of(record):
    """Everything that a reader asks for."""
    header, validations = record.header(), record.validations()
    images = [record.image(i) for i in range(len(header["samples"]))]
    return header, validations, images, [(record.maps(v["number"]), record.scores(v["number"])) for v in validations]
