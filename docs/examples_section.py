"""Griffe's Google parser knows the section "Examples"; the docstrings here have one example and say "Example"."""

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Lets `Example:` be shown as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section of every docstring, `Example::` with its plain block of code too."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example::?$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
