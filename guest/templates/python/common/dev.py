"""Builds what `halfopen dev` serves.

That is build/dev/python.wasm, the interpreter with the modules that the service imports, and
build/dev/env, the service as text, which it loads. The first takes seconds, and seldom changes.
"""

import ast
import hashlib
import json
import subprocess
import sys
import traceback
from pathlib import Path

OUTPUT = Path("build/dev")
NOT_SERVICE = ("build", "test", "venv")

LOADER = '''
import importlib, importlib.abc, importlib.util, json, sys, traceback
from wit_world.imports import environment

for name in {names!r}:
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # a name in a module, or a module that is not there: the service says so


class Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def __init__(self, sources):
        self.sources = sources

    def find_spec(self, name, path=None, target=None):
        if name in self.sources:
            return importlib.util.spec_from_loader(name, self, origin=self.sources[name][0])

    def is_package(self, name):
        return self.sources[name][0].endswith("__init__.py")

    def get_source(self, name):
        return self.sources[name][1]

    def get_code(self, name):
        path, source = self.sources[name]
        return compile(source, path, "exec")


exports = {}


def loaded(name):
    """The object that an export calls."""
    if not exports:
        text = dict(environment.get_environment())["HALFOPEN_DEV"]
        sys.meta_path.insert(0, Sources(json.loads(text)))
        try:
            exports["service"] = importlib.import_module("service")
        except Exception:
            traceback.print_exc()
            raise
    if name not in exports:
        exports[name] = getattr(exports["service"], name)()
    return exports[name]


class Events:
    def connection(self, socket): loaded("Events").connection(socket)
    def data(self, socket, data): loaded("Events").data(socket, data)
    def end(self, socket): loaded("Events").end(socket)
    def drain(self, socket): loaded("Events").drain(socket)
    def timeout(self, socket): loaded("Events").timeout(socket)
    def error(self, socket, code): loaded("Events").error(socket, code)
    def close(self, socket, had_error): loaded("Events").close(socket, had_error)


class TimerEvents:
    def fired(self, timer): loaded("TimerEvents").fired(timer)
'''


def main() -> None:
    sources = {}
    for path in sorted(Path().rglob("*.py")):
        own = path.parts[0] not in NOT_SERVICE and not any(p.startswith(".") for p in path.parts)
        if own and path != Path("dev.py"):
            parts = path.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            sources[name] = (str(path), path.read_text())
    imported = set()
    for path, source in sources.values():
        try:
            tree = ast.parse(source, path)
        except SyntaxError:
            traceback.print_exc(limit=0)
            sys.exit(1)
        imported |= imports(tree)
    names = sorted(name for name in imported if name.split(".")[0] not in sources)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    loader = LOADER.replace("{names!r}", repr(names))
    wit = "".join(path.read_text() for path in sorted(Path("wit").rglob("*.wit")))
    key = hashlib.sha256((loader + wit).encode()).hexdigest()
    key_file = OUTPUT / "key"
    if not key_file.exists() or key_file.read_text() != key:
        print("the imports are new, so the component is built, which takes longer", file=sys.stderr)
        (OUTPUT / "loader.py").write_text(loader)
        command = ["componentize-py", "--quiet", "--wit-path", "wit", "--world", "guest"]
        command += ["componentize", "loader", "--python-path", str(OUTPUT)]
        command += ["--output", str(OUTPUT / "python.wasm")]
        if subprocess.run(command).returncode != 0:
            sys.exit(1)
        key_file.write_text(key)
    (OUTPUT / "env").write_text(f"HALFOPEN_DEV={json.dumps(sources)}\n")


def imports(tree: ast.AST) -> set[str]:
    """Returns the modules that a module imports, and what may be modules."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*"}
    return names


if __name__ == "__main__":
    main()
