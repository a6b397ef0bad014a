"""The canonical ABI of values."""

import unittest

from halfopen.component import values as v
from halfopen.component.functions import FunctionType
from halfopen.errors import Trapped

U8, U16, U32, U64 = (v.PRIMITIVES[code] for code in (-0x03, -0x05, -0x07, -0x09))
S8, S64, F32, F64 = (v.PRIMITIVES[code] for code in (-0x02, -0x08, -0x0A, -0x0B))
BOOL, CHAR, STRING = v.PRIMITIVES[-0x01], v.PRIMITIVES[-0x0C], v.PRIMITIVES[-0x0D]

IPV4 = v.Fields([U16, v.Fields([U8] * 4)])
IPV6 = v.Fields([U16, U32, v.Fields([U16] * 8), U32])
ADDRESS = v.Cases([("ipv4", IPV4), ("ipv6", IPV6)])
CODE = v.Cases([("refused", None), ("other", v.Optional(STRING))])


class Memory:
    """A border with a memory of its own, whose allocator never frees."""

    def __init__(self, size=4096):
        self._memory, self._next, self._handles = bytearray(size), 16, {}

    def read(self, address, length):
        if address + length > len(self._memory):
            raise Trapped("out of memory")
        return memoryview(self._memory)[address : address + length]

    def allocate(self, alignment, length):
        address = v.aligned(self._next, alignment)
        self._next = address + length
        return address

    def decode(self, data):
        return str(data, "utf-8")

    def add_handle(self, thing):
        self._handles[len(self._handles) + 1] = thing
        return len(self._handles)

    def handle(self, handle):
        return self._handles[handle]

    def take_handle(self, handle):
        return self._handles.pop(handle)


VALUES = [
    (BOOL, True),
    (S8, -128),
    (U32, 2**32 - 1),
    (S64, -(2**63)),
    (U64, 2**64 - 1),
    (F32, 0.5),
    (F64, -1e300),
    (CHAR, "é"),
    (STRING, "half öpen"),
    (v.Bytes(), bytes(range(256))),
    (v.ListOf(STRING), ["", "a", "bc"]),
    (v.ListOf(U64), [1, 2, 3]),
    (v.Labels(["more", "wait", "ended"]), "wait"),
    (v.FlagSet(["a", "b", "c"]), {"a", "c"}),
    (v.Optional(U8), None),
    (v.Optional(U8), 7),
    (ADDRESS, ("ipv4", (80, (127, 0, 0, 1)))),
    (ADDRESS, ("ipv6", (80, 1, (1, 2, 3, 4, 5, 6, 7, 8), 9))),
    (v.Cases([("ok", ADDRESS), ("err", CODE)]), ("err", ("other", "why"))),
    (v.Cases([("f", F32), ("d", F64), ("s", STRING)]), ("f", 0.25)),
    (v.Cases([("f", F32), ("d", F64), ("s", STRING)]), ("s", "text")),
]


class RoundTrips(unittest.TestCase):
    def test_through_memory(self):
        for kind, value in VALUES:
            memory = Memory()
            address = memory.allocate(kind.alignment, kind.size)
            kind.store(memory, value, address)
            self.assertEqual(kind.load(memory, address), value)

    def test_through_core_values(self):
        for kind, value in VALUES:
            memory = Memory()
            core = kind.lower(memory, value)
            self.assertEqual(len(core), len(kind.flat))
            self.assertEqual(kind.lift(memory, iter(core)), value)


class Layouts(unittest.TestCase):
    def test_addresses_lie_as_wit_bindgen_lays_them(self):
        self.assertEqual((IPV4.size, IPV4.alignment), (6, 2))
        self.assertEqual((IPV6.size, IPV6.alignment), (28, 4))
        self.assertEqual((ADDRESS.size, ADDRESS.alignment), (32, 4))
        self.assertEqual(ADDRESS.flat, ("i32",) * 12)

    def test_payloads_share_core_values(self):
        self.assertEqual(v.Cases([("f", F32), ("i", U32)]).flat, ("i32", "i32"))
        self.assertEqual(v.Cases([("f", F64), ("i", U32)]).flat, ("i32", "i64"))

    def test_what_does_not_fit_into_core_values_lies_in_memory(self):
        kind = FunctionType((U32,), v.Cases([("ok", ADDRESS), ("err", CODE)]))
        self.assertEqual(kind.lowered(), (("i32", "i32"), ()))
        many = FunctionType((U32,) * 17, None)
        self.assertEqual(many.lowered(), (("i32",), ()))


class Traps(unittest.TestCase):
    def test_what_a_guest_may_not_pass(self):
        for kind, core in (
            (STRING, [4000, 4000]),
            (v.ListOf(U64), [4, 1]),
            (v.ListOf(U64), [8, 2**29]),
            (CHAR, [0xD800]),
            (CHAR, [0x110000]),
            (v.Labels(["a", "b"]), [2]),
        ):
            with self.assertRaises(Trapped):
                kind.lift(Memory(), iter(core))


if __name__ == "__main__":
    unittest.main()
