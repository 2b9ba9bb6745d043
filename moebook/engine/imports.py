"""Imported first, this keeps a grammar of IRIs out of a process: jsonschema, beneath papermill and
vLLM, would compile it as it is imported, in 3 s, and falls back to no check of IRIs. Nothing here
has one to check."""

import sys

sys.modules.setdefault("rfc3987_syntax", None)
