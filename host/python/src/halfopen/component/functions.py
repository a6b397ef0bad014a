"""The types of functions, and how their calls cross the border of a component."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from halfopen.component.values import Border, Core, Fields, ValueType, aligned
from halfopen.errors import Trapped

#: How many core values a call passes at the most. What exceeds it lies in memory.
MOST_PARAMETERS = 16
MOST_RESULTS = 1


@dataclass(frozen=True)
class FunctionType:
    """The type of a function."""

    parameters: tuple[ValueType, ...]
    result: ValueType | None

    @property
    def flat_parameters(self) -> tuple[str, ...]:
        """The core values that its parameters become."""
        return tuple(core for one in self.parameters for core in one.flat)

    @property
    def flat_result(self) -> tuple[str, ...]:
        """The core values that its result becomes."""
        return self.result.flat if self.result else ()

    def lowered(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The core parameters and results of the function, imported by a core module."""
        parameters, result = self.flat_parameters, self.flat_result
        if len(parameters) > MOST_PARAMETERS:
            parameters = ("i32",)
        if len(result) > MOST_RESULTS:
            parameters, result = (*parameters, "i32"), ()
        return parameters, result

    def lift_parameters(self, border: Border, core: Iterator[Core]) -> tuple[Any, ...]:
        """Reads the arguments of a call that a core module makes."""
        if len(self.flat_parameters) > MOST_PARAMETERS:
            return Fields(self.parameters).load(border, int(next(core)) & 0xFFFFFFFF)
        return tuple(one.lift(border, core) for one in self.parameters)

    def lower_parameters(self, border: Border, values: Sequence[Any]) -> list[Core]:
        """Passes arguments to a core module."""
        if len(self.flat_parameters) > MOST_PARAMETERS:
            fields = Fields(self.parameters)
            address = border.allocate(fields.alignment, fields.size)
            fields.store(border, values, address)
            return [address]
        pairs = zip(self.parameters, values, strict=True)
        return [core for one, value in pairs for core in one.lower(border, value)]

    def lifted(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The core parameters and results of the function, exported by a core module."""
        parameters, result = self.flat_parameters, self.flat_result
        if len(parameters) > MOST_PARAMETERS:
            parameters = ("i32",)
        return parameters, ("i32",) if len(result) > MOST_RESULTS else result

    def lift_result(self, border: Border, core: Iterator[Core]) -> Any:
        """Reads the result of a call of a core module."""
        if self.result is None:
            return None
        if len(self.flat_result) > MOST_RESULTS:
            return self.result.load(border, int(next(core)) & 0xFFFFFFFF)
        return self.result.lift(border, core)

    def lower_result(self, border: Border, value: Any, core: Iterator[Core]) -> list[Core]:
        """Passes the result back. `core` are the arguments that were not read."""
        if self.result is None:
            return []
        if len(self.flat_result) <= MOST_RESULTS:
            return self.result.lower(border, value)
        address = int(next(core)) & 0xFFFFFFFF
        if address != aligned(address, self.result.alignment):
            raise Trapped("the service passed a pointer that is not aligned")
        border.read(address, self.result.size)
        self.result.store(border, value, address)
        return []
