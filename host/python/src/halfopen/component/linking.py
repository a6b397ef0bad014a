"""Finds out what the definitions of a component stand for.

The result is a plan that needs no more of the component model than its functions: which core
modules to instantiate in which order, where each of their imports comes from, and which core
functions the exports are. Components within components are resolved here, once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from halfopen.component import definitions as d
from halfopen.component import type_definitions as t
from halfopen.component import values as v
from halfopen.component.externals import Alias, Import, OuterAlias
from halfopen.component.functions import FunctionType
from halfopen.errors import InvalidComponent, Unsupported


@dataclass(frozen=True)
class CoreExport:
    """An export of one of the core instances of the plan."""

    instance: int
    name: str


@dataclass(frozen=True)
class HostFunction:
    """One of the plan's functions of the host, by its number."""

    number: int


Source = CoreExport | HostFunction


@dataclass(frozen=True)
class CoreBundle:
    """Core things under names."""

    items: dict[str, Source]


@dataclass(frozen=True)
class CoreInstance:
    """A core instance of the plan, by its number."""

    number: int


@dataclass(frozen=True)
class Step:
    """The instantiation of a core module; its imports come from these."""

    module: int
    arguments: dict[str, CoreInstance | CoreBundle]


@dataclass(frozen=True)
class Options:
    """How a function reaches the memory of its component."""

    encoding: str
    memory: Source | None
    realloc: Source | None
    post_return: Source | None


@dataclass(frozen=True)
class Imported:
    """A function that the host has to have."""

    interface: str
    name: str
    type: FunctionType


@dataclass(frozen=True)
class Lowered:
    """A function of the host, for the core modules of a component."""

    function: Imported
    options: Options


@dataclass(frozen=True)
class Crossing:
    """A function of another component, for the core modules of a component."""

    function: Lifted
    options: Options


@dataclass(frozen=True)
class Drop:
    """A function that drops a handle."""


@dataclass(frozen=True)
class Lifted:
    """A function that the component exports."""

    core: Source
    type: FunctionType
    options: Options


@dataclass
class Plan:
    """How to make an instance of a component."""

    modules: list[bytes] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    host_functions: list[Lowered | Crossing | Drop] = field(default_factory=list)
    #: The names of all interfaces that the component imports.
    imports: list[str] = field(default_factory=list)
    #: What the component exports: the functions of each interface.
    exports: dict[str, dict[str, Lifted]] = field(default_factory=dict)


class _Resource:
    """A resource of the host."""


class _Scope:
    """What a component has defined so far, by sort and index."""

    def __init__(self, parent: _Scope | None) -> None:
        self.parent = parent
        self._spaces: dict[str, list[Any]] = {}

    def add(self, sort: str, thing: Any) -> None:
        self._spaces.setdefault(sort, []).append(thing)

    def get(self, sort: str, index: int) -> Any:
        space = self._spaces.get(sort, [])
        if index >= len(space):
            raise InvalidComponent(f"there is no {sort} {index}")
        return space[index]

    def outer(self, alias: OuterAlias) -> Any:
        scope: _Scope | None = self
        for _ in range(alias.count):
            scope = scope.parent if scope else None
        if scope is None:
            raise InvalidComponent("an alias points out of the component")
        return scope.get(alias.sort, alias.index)


@dataclass(frozen=True)
class _Component:
    """A component, and the one around it."""

    component: d.Component
    scope: _Scope


@dataclass(frozen=True)
class _Declared:
    """The type of an instance or a component, and where it was written."""

    declarations: t.Declarations
    scope: _Scope


def link(component: d.Component) -> Plan:
    """Resolves a component. Raises `InvalidComponent`, or `Unsupported`."""
    return _Linker().link(component)


class _Linker:
    def __init__(self) -> None:
        self._plan = Plan()
        self._instantiated = 0

    def link(self, component: d.Component) -> Plan:
        exports = self._instantiate(component, None, None)
        for name, thing in exports.items():
            if isinstance(thing, dict):
                functions = {key: one for key, one in thing.items() if isinstance(one, Lifted)}
                self._plan.exports[name] = functions
        return self._plan

    def _instantiate(
        self, component: d.Component, parent: _Scope | None, arguments: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Evaluates a component's definitions; returns its exports.

        Only the outermost component has no arguments: the host provides its imports.
        """
        self._instantiated += 1
        if self._instantiated > 10_000:
            raise InvalidComponent("it instantiates too many components")
        scope, exports = _Scope(parent), {}
        for definition in component.definitions:
            match definition:
                case d.CoreModule(code):
                    scope.add("core module", len(self._plan.modules))
                    self._plan.modules.append(code)
                case d.CoreInstantiation(module, with_instances):
                    step = Step(
                        scope.get("core module", module),
                        {
                            name: scope.get("core instance", at)
                            for name, at in with_instances.items()
                        },
                    )
                    scope.add("core instance", CoreInstance(len(self._plan.steps)))
                    self._plan.steps.append(step)
                case d.CoreBundle(items):
                    bundle = {name: scope.get(*item) for name, item in items.items()}
                    scope.add("core instance", CoreBundle(bundle))
                case d.Component():
                    scope.add("component", _Component(definition, scope))
                case d.Instantiation(index, items):
                    made: _Component = scope.get("component", index)
                    given = {name: scope.get(*item) for name, item in items.items()}
                    scope.add("instance", self._instantiate(made.component, made.scope, given))
                case d.Bundle(items):
                    scope.add("instance", {name: scope.get(*item) for name, item in items.items()})
                case Alias():
                    scope.add(definition.sort, self._alias(scope, definition))
                case OuterAlias():
                    scope.add(definition.sort, scope.outer(definition))
                case d.Type(type_definition):
                    scope.add("type", _type(scope, type_definition))
                case d.Lift(core, type_index, options):
                    function = scope.get("type", type_index)
                    _expect(function, FunctionType)
                    core_function = scope.get("core func", core)
                    scope.add("func", Lifted(core_function, function, _options(scope, options)))
                case d.Lower(function_index, options):
                    function = scope.get("func", function_index)
                    if isinstance(function, t.AsyncType):
                        _expect(function, Imported)
                    kind = Lowered if isinstance(function, Imported) else Crossing
                    self._add_host_function(scope, kind(function, _options(scope, options)))
                case d.ResourceDrop():
                    self._add_host_function(scope, Drop())
                case Import():
                    thing = self._import(scope, definition, arguments)
                    scope.add(definition.sort, thing)
                case d.Export(name, item):
                    thing = scope.get(*item)
                    exports[name] = thing
                    scope.add(item.sort, thing)
                case _:
                    raise Unsupported(f"it has a {type(definition).__name__}")
        return exports

    def _add_host_function(self, scope: _Scope, function: Lowered | Crossing | Drop) -> None:
        scope.add("core func", HostFunction(len(self._plan.host_functions)))
        self._plan.host_functions.append(function)

    def _alias(self, scope: _Scope, alias: Alias) -> Any:
        if not alias.sort.startswith("core "):
            exports = scope.get("instance", alias.instance)
            if alias.name not in exports:
                raise InvalidComponent(f"an instance has no `{alias.name}`")
            return exports[alias.name]
        instance = scope.get("core instance", alias.instance)
        if isinstance(instance, CoreInstance):
            return CoreExport(instance.number, alias.name)
        if alias.name not in instance.items:
            raise InvalidComponent(f"a core instance has no `{alias.name}`")
        return instance.items[alias.name]

    def _import(self, scope: _Scope, one: Import, arguments: dict[str, Any] | None) -> Any:
        if arguments is not None:
            if one.name not in arguments:
                raise InvalidComponent(f"`{one.name}` is not provided")
            return arguments[one.name]
        self._plan.imports.append(one.name)
        if one.sort == "type" and not one.is_resource:
            return scope.get("type", one.type)
        if one.sort != "instance":
            raise Unsupported(f"it imports `{one.name}`, which this host does not have")
        declared = scope.get("type", one.type)
        _expect(declared, _Declared)
        return _imported(one.name, declared)


def _imported(interface: str, declared: _Declared) -> dict[str, Any]:
    """Makes an instance of an interface that the host provides."""
    scope, exports = _Scope(declared.scope), {}
    for declaration in declared.declarations.declarations:
        match declaration:
            case t.TypeDeclaration(definition):
                scope.add("type", _type(scope, definition))
            case Alias(sort, instance, name):
                outer = scope.get("instance", instance)
                if name not in outer:
                    raise InvalidComponent(f"an instance has no `{name}`")
                scope.add(sort, outer[name])
            case OuterAlias():
                scope.add(declaration.sort, scope.outer(declaration))
            case t.ExportDeclaration(external):
                thing: Any
                if external.is_resource:
                    thing = _Resource()
                else:
                    thing = scope.get("type", external.type)
                if external.sort == "func":
                    if isinstance(thing, FunctionType):
                        thing = Imported(interface, external.name, thing)
                elif external.sort != "type":
                    raise Unsupported(f"`{interface}` has a {external.sort}")
                exports[external.name] = thing
                scope.add(external.sort, thing)
            case _:
                raise Unsupported(f"`{interface}` has imports of its own")
    return exports


def _options(scope: _Scope, options: d.Options) -> Options:
    memory = None if options.memory is None else scope.get("core memory", options.memory)
    realloc = None if options.realloc is None else scope.get("core func", options.realloc)
    if options.encoding != "utf8":
        raise Unsupported(f"its strings are in {options.encoding}; this host knows UTF-8")
    post_return = None
    if options.post_return is not None:
        post_return = scope.get("core func", options.post_return)
    return Options(options.encoding, memory, realloc, post_return)


def _expect(thing: Any, kind: type) -> None:
    if isinstance(thing, t.AsyncType):
        raise Unsupported(
            f"it uses `{thing.what}` of the component model; "
            "this host runs services in callback style"
        )
    if not isinstance(thing, kind):
        raise InvalidComponent("a type is of another kind than where it is used")


def _type(scope: _Scope, definition: t.TypeDefinition) -> Any:
    """Makes the type that a definition stands for."""

    def value(used: int) -> v.ValueType:
        if used < 0:
            if used not in v.PRIMITIVES:
                raise Unsupported("it uses error contexts, which this host does not know")
            return v.PRIMITIVES[used]
        found = scope.get("type", used)
        _expect(found, v.ValueType)
        return found  # type: ignore[no-any-return]

    def payload(used: int | None) -> v.ValueType | None:
        return None if used is None else value(used)

    try:
        match definition:
            case t.Primitive(code):
                return value(code)
            case t.Record(fields):
                return v.Fields([value(used) for _, used in fields])
            case t.Variant(cases):
                return v.Cases([(name, payload(used)) for name, used in cases])
            case t.Enum(labels):
                return v.Labels(labels)
            case t.Flags(labels):
                return v.FlagSet(labels)
            case t.List(element):
                of = value(element)
                return v.Bytes() if of is v.U8 else v.ListOf(of)
            case t.Option(used):
                return v.Optional(value(used))
            case t.Result(ok, error):
                return v.Cases([("ok", payload(ok)), ("err", payload(error))])
            case t.Handle(resource, owned):
                _expect(scope.get("type", resource), _Resource)
                return v.HandleOf(owned)
            case t.Function(parameters, result):
                return FunctionType(tuple(value(used) for _, used in parameters), payload(result))
            case t.Declarations():
                return _Declared(definition, scope)
            case t.Resource():
                raise Unsupported(
                    "it defines resources of its own, which a service in callback style has not"
                )
            case _:
                return definition
    except Unsupported:
        if isinstance(definition, t.Function):
            # A function of this type may never be called.
            return t.AsyncType("stream, future or async func")
        raise
