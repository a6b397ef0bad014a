"""Where the tests find components."""

from pathlib import Path

_PROJECT = Path(__file__).parents[3]


def guest(name: str) -> Path:
    """Returns the path of a component of the project."""
    shipped = _PROJECT / "guest" / "dist" / f"{name}.wasm"
    return shipped if shipped.exists() else _PROJECT / "tests" / "guests" / "dist" / f"{name}.wasm"
