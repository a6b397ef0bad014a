"""Reads components: what they import and export, and how their core modules fit together."""
