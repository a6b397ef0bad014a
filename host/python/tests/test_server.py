"""The server, as another program uses it."""

import asyncio
import socket
import tempfile
import unittest
from pathlib import Path

from wasmtime import wat2wasm

import halfopen
from halfopen.errors import HalfopenError, ListenError

from .guests import guest

#: How long an answer may take: longer than any does on a busy machine.
PATIENCE = 60


class Serving(unittest.IsolatedAsyncioTestCase):
    async def serve(self, name, **settings):
        self.lines, self.errors = [], []
        settings.setdefault("stdout", self.lines.append)
        settings.setdefault("stderr", self.errors.append)
        path = name if isinstance(name, Path) else guest(name)
        server = await halfopen.serve(path, port=0, **settings)
        self.addAsyncCleanup(server.__aexit__)
        return server

    async def connect(self, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        self.addCleanup(writer.close)
        return reader, writer

    async def answers(self, server, data):
        reader, writer = await self.connect(server)
        writer.write(data)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), PATIENCE)

    async def closed(self, server):
        while server.connections:
            await asyncio.sleep(0.01)

    async def test_an_echo_in_both_isolations(self):
        for isolation in ("connection", "shared"):
            server = await self.serve("echo", isolation=isolation)
            data = bytes(one for one in range(256) if one != ord("q")) * 4096
            self.assertEqual(await self.answers(server, data), data)
            await asyncio.wait_for(self.closed(server), PATIENCE)
            self.assertTrue(self.lines[0].startswith(b"new connection 127.0.0.1 "))
            self.assertEqual(self.lines[-1], b"EOF.\n")

    async def test_the_declared_isolation_is_followed(self):
        server = await self.serve("chat")
        first, one = await self.connect(server)
        second, other = await self.connect(server)
        for reader, writer, name in ((first, one, b"ann\n"), (second, other, b"bob\n")):
            await asyncio.wait_for(reader.readline(), PATIENCE)
            writer.write(name)
            await asyncio.wait_for(reader.readline(), PATIENCE)
        one.write(b"hello\n")
        while b"hello" not in (line := await asyncio.wait_for(second.readline(), PATIENCE)):
            self.assertTrue(line, "the chat has ended")

    async def test_a_trap_resets_its_connection_and_no_other(self):
        server = await self.serve("rogue", isolation="connection")
        reader, writer = await self.connect(server)
        writer.write(b"x")
        self.assertEqual(await asyncio.wait_for(reader.readexactly(1), PATIENCE), b"x")
        bad, order = await self.connect(server)
        with self.assertLogs("halfopen", "ERROR") as logs:
            order.write(b"\xff\xfedt")
            with self.assertRaises(ConnectionResetError):
                await asyncio.wait_for(bad.read(), PATIENCE)
        self.assertIn("the service trapped", logs.output[0])
        writer.write(b"y")
        self.assertEqual(await asyncio.wait_for(reader.readexactly(1), PATIENCE), b"y")

    async def test_an_event_that_computes_for_too_long_is_a_trap(self):
        server = await self.serve("rogue", max_compute=0.2)
        bad, order = await self.connect(server)
        with self.assertLogs("halfopen", "ERROR") as logs:
            order.write(b"\xff\xfedl")
            with self.assertRaises(ConnectionResetError):
                await asyncio.wait_for(bad.read(), PATIENCE)
        self.assertIn("it computed for 0.2 s", logs.output[0])
        self.assertEqual(await self.answers(server, b"still there"), b"still there")

    async def test_an_idle_connection_is_reset(self):
        server = await self.serve("echo", idle_timeout=0.2)
        reader, _writer = await self.connect(server)
        with self.assertRaises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)

    async def test_a_connection_whose_peer_reads_slowly_is_not_idle(self):
        server = await self.serve("orders", idle_timeout=2)
        client = socket.socket()
        self.addCleanup(client.close)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        # The kernel has all of it at once: from then on, the server sends nothing.
        await loop.sock_sendall(client, b"k")
        received, begin = 0, loop.time()
        while received < 32 << 10:
            received += len(await asyncio.wait_for(loop.sock_recv(client, 1024), PATIENCE))
            await asyncio.sleep(0.15)
        self.assertGreater(loop.time() - begin, 4)

    async def test_further_connections_wait(self):
        server = await self.serve("echo", max_connections=1)
        first, one = await self.connect(server)
        one.write(b"1")
        self.assertEqual(await asyncio.wait_for(first.readexactly(1), PATIENCE), b"1")
        second, other = await self.connect(server)
        other.write(b"2")
        one.write(b"3")
        self.assertEqual(await asyncio.wait_for(first.readexactly(1), PATIENCE), b"3")
        self.assertEqual(server.connections, 1)
        one.write_eof()
        self.assertEqual(await asyncio.wait_for(second.readexactly(1), PATIENCE), b"2")

    async def test_stopping_lets_connections_finish(self):
        server = await self.serve("echo")
        reader, writer = await self.connect(server)
        writer.write(b"x")
        await asyncio.wait_for(reader.readexactly(1), PATIENCE)
        port = server.port
        stopping = asyncio.ensure_future(server.stop(PATIENCE))
        await asyncio.sleep(0)
        with self.assertRaises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"y")
        writer.write_eof()
        self.assertEqual(await asyncio.wait_for(reader.read(), PATIENCE), b"y")
        await asyncio.wait_for(stopping, PATIENCE)

    async def test_a_component_whose_parts_call_each_other(self):
        path = Path(self.enterContext(tempfile.TemporaryDirectory()), "crossing.wasm")
        path.write_bytes(wat2wasm(Path(__file__).with_name("crossing.wat").read_text()))
        server = await self.serve(path)
        self.assertEqual(await self.answers(server, b"half-open"), b"HALF-OPEN")
        reader, writer = await self.connect(server)
        for _ in range(200):
            writer.write(b"again and again")
            self.assertEqual(
                await asyncio.wait_for(reader.readexactly(15), PATIENCE), b"AGAIN AND AGAIN"
            )
        # Text that is none is a trap.
        writer.write(b"\xff")
        with self.assertLogs("halfopen", "ERROR") as logs, self.assertRaises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        self.assertIn("not UTF-8", logs.output[0])

    async def test_two_servers_in_one_loop(self):
        first, second = await self.serve("echo"), await self.serve("lines")
        self.assertEqual(await self.answers(first, b"upper x\n"), b"upper x\n")
        self.assertEqual(await self.answers(second, b"upper x\n"), b"X\n")


class Mistakes(unittest.IsolatedAsyncioTestCase):
    async def fails(self, path, why, error=HalfopenError, **settings):
        with self.assertRaisesRegex(error, why) as caught:
            await halfopen.serve(path, port=0, **settings)
        self.assertNotIn("\n", str(caught.exception))

    async def test_what_cannot_be_served(self):
        await self.fails("/nowhere.wasm", "cannot read `/nowhere.wasm`: No such file")
        await self.fails(guest("digest"), "await style")
        await self.fails(guest("state"), "it is no service")
        await self.fails(guest("echo"), "is no rule", allow_connect=["nowhere"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "module.wasm")
            path.write_bytes(b"\0asm\1\0\0\0")
            await self.fails(path, "it is a core module")
            # A name of the same length, so that the component stays valid.
            echo = guest("echo").read_bytes()
            path.write_bytes(echo.replace(b"wasi:cli/stdout@0.2.0", b"wasi:key/values@0.2.0"))
            await self.fails(path, "it imports `wasi:key/values@0.2.0`, which this host does not")

    async def test_an_address_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            await self.fails(guest("echo"), "already in use", ListenError, listen_on=[address])

    async def test_memory_that_is_too_little_to_start(self):
        await self.fails(guest("echo"), "trapped when it was started", max_memory=1 << 16)


if __name__ == "__main__":
    unittest.main()
