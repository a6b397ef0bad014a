"""Reading and linking components."""

import random
import unittest

from halfopen.component import definitions, linking
from halfopen.component.reader import Reader
from halfopen.errors import HalfopenError, InvalidComponent, Unsupported

from .guests import guest


def link(binary: bytes) -> linking.Plan:
    return linking.link(definitions.read(binary))


class Numbers(unittest.TestCase):
    def test_leb128_is_read_as_the_specification_says(self):
        for data, value in (
            (b"\x00", 0),
            (b"\xe5\x8e\x26", 624485),
            (b"\xff\xff\xff\xff\x0f", 2**32 - 1),
        ):
            self.assertEqual(Reader(data).u32(), value)
        for data, value in (
            (b"\x7f", -1),
            (b"\x40", -64),
            (b"\xc0\xbb\x78", -123456),
            (b"\x3f", 63),
        ):
            self.assertEqual(Reader(data).s33(), value)

    def test_numbers_that_are_too_long_or_large_are_refused(self):
        for data in (b"\xff\xff\xff\xff\x1f", b"\x80\x80\x80\x80\x80\x00", b"\x80"):
            with self.assertRaises(InvalidComponent):
                Reader(data).u32()


class Plans(unittest.TestCase):
    def test_a_service_exports_its_events_and_imports_what_it_needs(self):
        plan = link(guest("echo").read_bytes())
        self.assertIn("data", plan.exports["halfopen:tcp/events@0.1.0"])
        self.assertIn("halfopen:tcp/sockets@0.1.0", plan.imports)
        self.assertEqual(plan.steps[-1].module, 2)

    def test_a_declared_isolation_is_seen(self):
        self.assertIn(
            "halfopen:tcp/isolation-shared@0.1.0", link(guest("chat").read_bytes()).exports
        )

    def test_a_service_in_await_style_is_named_as_such(self):
        with self.assertRaisesRegex(Unsupported, "await style"):
            link(guest("digest").read_bytes())

    def test_a_core_module_is_named_as_such(self):
        with self.assertRaisesRegex(InvalidComponent, "core module"):
            link(b"\0asm\1\0\0\0")


class Damage(unittest.TestCase):
    """Whatever the bytes are, the outcome is a plan or an error of this package."""

    def setUp(self):
        self.binary = guest("echo").read_bytes()
        self.random = random.Random(1)

    def expect_plan_or_error(self, binary: bytes):
        try:
            link(binary)
        except HalfopenError as error:
            self.assertNotIn("\n", str(error))

    def test_a_component_that_ends_early(self):
        for _ in range(300):
            length = self.random.randrange(len(self.binary))
            with self.assertRaises(HalfopenError, msg=f"the first {length} bytes"):
                link(self.binary[:length])
                # It ends between two sections: what is missing is an export.
                raise HalfopenError

    def test_a_component_with_wrong_bytes(self):
        # The core modules are most of the bytes, and not read here.
        places = [at for at in range(len(self.binary)) if at < 3000 or at > len(self.binary) - 3000]
        for _ in range(2000):
            damaged = bytearray(self.binary)
            for at in self.random.choices(places, k=self.random.randrange(1, 4)):
                damaged[at] = self.random.randrange(256)
            self.expect_plan_or_error(bytes(damaged))

    def test_components_that_are_nested_too_deep(self):
        component = definitions.COMPONENT_MAGIC
        for _ in range(200):
            length, size = len(component), b""
            while length >= 0x80:
                size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
            component = definitions.COMPONENT_MAGIC + b"\x04" + size + bytes([length]) + component
        with self.assertRaisesRegex(InvalidComponent, "too deep"):
            link(component)


if __name__ == "__main__":
    unittest.main()
