"""QUIC by aioquic, as docs/protocol.md wants it: one connection, its streams, its exporter, its end."""

import asyncio
import ssl

from aioquic import tls
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

import exporter

LIMIT_S = 10.0


class Closed(Exception):
    """The connection or the stream has ended."""

    def __init__(self, code: int, by_application: bool, reason: str):
        super().__init__(f"closed with code {code:#x} ({'application' if by_application else 'transport'}): {reason}")
        self.code, self.by_application, self.reason = code, by_application, reason


class Stream:
    """One stream: bytes out, frames in."""

    def __init__(self, connection: "Connection", number: int):
        self.connection, self.number = connection, number
        self.buffer = bytearray()
        self.ended = False
        self.reset: int | None = None
        self.changed = asyncio.Event()

    def write(self, data: bytes, end: bool = False) -> None:
        self.connection._quic.send_stream_data(self.number, data, end)
        self.connection.transmit()

    async def frame(self, limit_s: float = LIMIT_S) -> bytes | None:
        """The next frame; None at the end of the stream."""
        async with asyncio.timeout(limit_s):
            while True:
                if len(self.buffer) >= 4:
                    length = int.from_bytes(self.buffer[:4], "big")
                    assert length <= 524_288, f"the server sent a frame of {length} bytes"
                    if len(self.buffer) >= 4 + length:
                        body = bytes(self.buffer[4 : 4 + length])
                        del self.buffer[: 4 + length]
                        return body
                if self.ended:
                    assert not self.buffer, "the server ended a stream inside a frame"
                    return None
                if self.reset is not None:
                    raise Closed(self.reset, True, "stream reset")
                if self.connection.end is not None:
                    raise self.connection.end
                self.changed.clear()
                await self.changed.wait()


class Connection(QuicConnectionProtocol):
    """One connection."""

    def __init__(self, quic: QuicConnection):
        super().__init__(quic)
        self.streams: dict[int, Stream] = {}
        self.end: Closed | None = None
        self.ready = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.HandshakeCompleted) and not self.ready.done():
            self.ready.set_result(None)
        elif isinstance(event, events.ConnectionTerminated):
            self.end = Closed(event.error_code, event.frame_type is None, event.reason_phrase)
            self.over.set()
            if not self.ready.done():
                self.ready.set_exception(self.end)
            for stream in self.streams.values():
                stream.changed.set()
        elif isinstance(event, events.StreamDataReceived) and event.stream_id in self.streams:
            stream = self.streams[event.stream_id]
            stream.buffer += event.data
            stream.ended |= event.end_stream
            stream.changed.set()
        elif isinstance(event, events.StreamReset) and event.stream_id in self.streams:
            stream = self.streams[event.stream_id]
            stream.reset = event.error_code
            stream.changed.set()

    def open(self) -> Stream:
        number = self._quic.get_next_available_stream_id()
        self.streams[number] = Stream(self, number)
        return self.streams[number]

    def export(self, label: bytes) -> bytes:
        return exporter.export(self._quic.tls.key_schedule, label)

    async def closed(self, limit_s: float = LIMIT_S) -> Closed:
        """How it ended, once it has."""
        async with asyncio.timeout(limit_s):
            await self.over.wait()
        return self.end

    async def leave(self, code: int = 47) -> None:
        """Ends it, and gives back its socket."""
        if self.end is None:
            self.close(error_code=code)
            # Not wait_closed(): that waits out the draining period of QUIC.
        self._transport.close()

    def vanish(self) -> None:
        """Loses the connection as a phone does that goes out of reach: without a word."""
        if self._timer is not None:
            self._timer.cancel()
        self.transmit = lambda: None
        self._transport.close()

    async def move(self) -> None:
        """Goes on from another address, as a phone does that changes its network."""
        old = self._transport
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        old.close()

    def key_phase(self) -> int:
        """Which of two turns the keys are at; each change of keys, of whichever side, is one turn."""
        return self._quic._cryptos[tls.Epoch.ONE_RTT].key_phase

    def stop_reading(self) -> None:
        """Gives the server no more room to send, as an app does that never reads."""
        self._quic._write_stream_limits = lambda *args, **kwargs: None
        self._quic._write_connection_limits = lambda *args, **kwargs: None


def configuration(alpn: str | None, ca: str, server_name: str, window: int = 1 << 20) -> QuicConfiguration:
    config = QuicConfiguration(
        is_client=True,
        alpn_protocols=[alpn] if alpn else None,
        server_name=server_name,
        verify_mode=ssl.CERT_REQUIRED,
        idle_timeout=120.0,
        max_data=window,
        max_stream_data=window,
    )
    config.load_verify_locations(cafile=ca)
    return config


def show(quic: QuicConnection, mark: bytes) -> None:
    """Makes the first packets carry `mark` as the connection id of the server. aioquic draws one at random and has no way to
    name it; it keeps it in these two places until the first packet leaves."""
    quic._peer_cid.cid = mark
    quic._original_destination_connection_id = mark


async def connect(
    address: str, config: QuicConfiguration, mark: bytes | None = None, limit_s: float = LIMIT_S
) -> Connection:
    """A connection whose handshake has ended; raises Closed when the server refuses it, TimeoutError when it says nothing."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    quic = QuicConnection(configuration=config)
    if mark is not None:
        show(quic, mark)
    _, connection = await loop.create_datagram_endpoint(lambda: Connection(quic), local_addr=("127.0.0.1", 0))
    connection.connect((host.strip("[]"), int(port)))
    try:
        async with asyncio.timeout(limit_s):
            await connection.ready
    except TimeoutError:
        connection.vanish()
        raise
    return connection
