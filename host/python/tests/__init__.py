"""Unit tests: `python -m unittest` in the folder above. The conformance suite has the rules."""
