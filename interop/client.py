"""A client of Buslane, written from docs/protocol.md: devices that enrol and enter, and their sessions."""

import asyncio
import hashlib
import hmac
import os
import time
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import transport
import wire
from wire import common, gate, session

ALPN_GATE, ALPN_SESSION = "buslane-gate/1", "buslane/1"
GATE_EXPORTER, SESSION_EXPORTER = b"EXPORTER-buslane-gate", b"EXPORTER-buslane-session"
GATE_PREFIX, SESSION_PREFIX = b"buslane gate proof v1\0", b"buslane session proof v1\0"
VERSION = 1


class Refused(Exception):
    """A typed no."""

    def __init__(self, refusal):
        self.refusal, self.name = refusal, wire.code_name(refusal.code)
        super().__init__(f"{self.name}: {refusal.detail}")


def client_id() -> bytes:
    """A UUID of version 7 (RFC 9562, section 5.7)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return value.to_bytes(16, "big")


def direct_room(one: str, other: str) -> bytes:
    """The room of two users, computed as the protocol says."""
    low, high = sorted([one.encode(), other.encode()])
    return uuid_v8(b"direct\0" + low + b"\0" + high)


def group_room(creator: str, name: bytes) -> bytes:
    """The room of a group, from its creator and the client id of its creation."""
    return uuid_v8(b"group\0" + creator.encode() + b"\0" + name)


def uuid_v8(content: bytes) -> bytes:
    """The hash of the content, marked as a UUID of version 8 (RFC 9562, section 5.8)."""
    out = bytearray(hashlib.sha256(content).digest()[:16])
    out[6], out[8] = out[6] & 0x0F | 0x80, out[8] & 0x3F | 0x80
    return bytes(out)


class Passes:
    """Marks at hand, each for one connection; the upper two bits of a mark say for which port."""

    def __init__(self):
        self.marks: dict[str, list[tuple[bytes, float]]] = {"front": [], "wake": []}

    def add(self, batch) -> None:
        until = time.monotonic() + batch.valid_ms / 1000
        for mark in batch.marks:
            assert len(mark) == 20 and mark[0] >> 6 in (0, 1), mark
            self.marks["wake" if mark[0] >> 6 else "front"].append((mark, until))

    def take(self, port: str) -> bytes | None:
        while self.marks[port]:
            mark, until = self.marks[port].pop()
            if time.monotonic() < until - 5:
                return mark
        return None


class Gate:
    """One connection to the gateway."""

    def __init__(self, connection: transport.Connection):
        self.connection = connection
        self.statement = GATE_PREFIX + connection.export(GATE_EXPORTER)

    @classmethod
    async def open(cls, system: "System", alpn: str | None = ALPN_GATE, mark: bytes | None = None) -> "Gate":
        config = transport.configuration(alpn, system.ca, "localhost")
        return cls(await transport.connect(system.gate, config, mark))

    async def exchange(self, data: bytes):
        """Sends bytes on a stream of their own; the answer, as it is."""
        stream = self.connection.open()
        stream.write(data, end=True)
        answer = gate.GateAnswer.FromString(await stream.frame())
        assert await stream.frame() is None, "more than one answer on a stream of the gate"
        return answer

    async def ask(self, **op):
        """Sends one request; its good answer, or Refused."""
        answer = await self.exchange(wire.frame(gate.GateRequest(version=VERSION, deadline_ms=5000, **op)))
        kind = answer.WhichOneof("result")
        if kind == "refusal":
            raise Refused(answer.refusal)
        return getattr(answer, kind)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.connection.leave()


@dataclass
class System:
    """Where the system is, and whom to trust for it."""

    gate: str
    front: str
    wake: str
    ca: str


@dataclass
class Device:
    """A device: its key, and what it was given."""

    system: System
    user: str
    name: str = "interop"
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    credential: bytes = b""
    ticket: object = None
    passes: Passes = field(default_factory=Passes)

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.public_key).digest()[:16]

    def enrol_request(self, statement: bytes, **right):
        right = right or {"open": True}
        return gate.Enrol(
            user=self.user,
            device_key=self.public_key,
            device_name=self.name,
            proof=self.key.sign(statement),
            **right,
        )

    async def enrol(self, **right):
        async with await Gate.open(self.system) as door:
            enrolled = await door.ask(enrol=self.enrol_request(door.statement, **right))
        self.credential = enrolled.credential
        return enrolled

    async def enter(self, app_state=common.APP_STATE_FOREGROUND):
        self.ticket = await self.ask_for_ticket(app_state)
        return self.ticket

    async def ask_for_ticket(self, app_state=common.APP_STATE_FOREGROUND):
        """A ticket, and the passes that come with it."""
        async with await Gate.open(self.system, mark=self.passes.take("front")) as door:
            proof = self.key.sign(door.statement)
            request = gate.Enter(
                credential=self.credential, proof=proof, app_state=app_state, reason=common.REASON_OPENED
            )
            ticket = await door.ask(enter=request)
        self.passes.add(ticket.passes)
        return ticket

    async def fresh_pass(self) -> bytes:
        """A pass for the foreground port; the gateway is asked when there is none left."""
        if (mark := self.passes.take("front")) is None:
            await self.ask_for_ticket()
            mark = self.passes.take("front")
        return mark

    async def dial(self, port: str = "front", alpn: str | None = ALPN_SESSION, **options) -> transport.Connection:
        """A connection to the session manager of the ticket, without a hello."""
        address = self.ticket.addresses[0]
        config = transport.configuration(alpn, self.system.ca, address.server_name, **options)
        mark = await self.fresh_pass() if port == "front" else self.passes.take("wake")
        return await transport.connect(getattr(address, port), config, mark)

    def hello(self, connection: transport.Connection, **fields):
        """The hello for this connection; fields replace what it would hold."""
        exported = connection.export(SESSION_EXPORTER)
        proof = hmac.new(self.ticket.proof_key, SESSION_PREFIX + exported, "sha256").digest()
        values = {
            "version": VERSION,
            "proof": proof,
            "app_state": common.APP_STATE_FOREGROUND,
            "reason": common.REASON_OPENED,
            "agent": "interop aioquic",
        }
        if "resume" not in fields:
            values["ticket"] = self.ticket.ticket
        return session.ClientFrame(hello=session.Hello(**(values | fields)))

    async def session_in(self, slot: bytes) -> "Session":
        """A session on the background port, in a slot: it is shown in the first packet and named in the hello."""
        address = self.ticket.addresses[0]
        config = transport.configuration(ALPN_SESSION, self.system.ca, address.server_name)
        opened = Session(self, await transport.connect(address.wake, config, slot))
        hello = self.hello(opened.connection, app_state=common.APP_STATE_BACKGROUND, slot=slot)
        opened.talk.write(wire.frame(hello))
        await opened.begin()
        return opened

    async def session(self, port: str = "front", behind_hello=(), window: int = 1 << 20, **hello) -> "Session":
        """A session; `behind_hello` are requests that are sent in the flight of the hello."""
        if self.ticket is None:
            await self.enter()
        connection = await self.dial(port, window=window)
        opened = Session(self, connection)
        flight = wire.frame(self.hello(connection, **hello))
        waits = []
        for op in behind_hello:
            data, wait = opened.prepare(op)
            flight += data
            waits.append(wait)
        opened.talk.write(flight)
        await opened.begin()
        opened.behind_hello = [await asyncio.wait_for(wait, transport.LIMIT_S) for wait in waits]
        return opened


class Session:
    """One session: requests by their id, events in their order."""

    def __init__(self, device: Device, connection: transport.Connection):
        self.device, self.connection = device, connection
        self.talk = connection.open()
        self.waiting: dict[int, asyncio.Future] = {}
        self.events: list = []
        self.changed = asyncio.Event()
        self.seen = 0
        self.next_id = 0
        self.welcome = None
        self.advice = None
        self.advised = asyncio.Event()
        self.go_away = None
        self.tasks: list[asyncio.Task] = []
        self.behind_hello: list = []

    async def begin(self) -> None:
        first = session.ServerFrame.FromString(await self.talk.frame())
        if first.WhichOneof("kind") == "refusal":
            end = await self.connection.closed()
            assert end.by_application and end.code == first.refusal.code, f"closed by {end}, not by {first.refusal.code}"
            raise Refused(first.refusal)
        self.welcome, self.advice = first.welcome, first.welcome.advice
        self.device.passes.add(first.welcome.passes)
        self.tasks = [asyncio.create_task(self.read()), asyncio.create_task(self.beat())]

    async def beat(self) -> None:
        """The heartbeat that the server asks for, as often as its newest advice says."""
        last = time.monotonic()
        while self.connection.end is None:
            self.advised.clear()
            left = last + self.advice.ping_interval_ms / 1000 - time.monotonic()
            try:
                await asyncio.wait_for(self.advised.wait(), max(left, 0))
            except TimeoutError:
                last = time.monotonic()
                if self.connection.end is None:
                    self.talk.write(self.prepare({"ping": session.Ping()})[0])

    async def read(self) -> None:
        """Takes answers and events until the connection ends."""
        try:
            while (body := await self.talk.frame(limit_s=3600)) is not None:
                kind = (frame := session.ServerFrame.FromString(body)).WhichOneof("kind")
                if kind == "answer":
                    self.take(frame.answer)
                elif kind == "event":
                    self.events.append(frame.event)
                    if frame.event.HasField("posture"):
                        self.advice = frame.event.posture.advice
                        self.advised.set()
                elif kind == "go_away":
                    self.go_away = frame.go_away
                self.changed.set()
        except transport.Closed:
            pass
        finally:
            self.changed.set()
            for wait in self.waiting.values():
                if not wait.done():
                    wait.set_exception(self.connection.end or ConnectionError("the talk stream ended"))
                    wait.exception()  # whoever waits gets it all the same; nobody may wait for a heartbeat

    def take(self, answer) -> None:
        if answer.HasField("pong"):
            self.device.passes.add(answer.pong.passes)
        wait = self.waiting.pop(answer.id)  # KeyError: an answer that nobody asked for, or a second one
        if not wait.done():
            wait.set_result(answer)

    def prepare(self, op: dict, deadline_ms: int = 10_000) -> tuple[bytes, asyncio.Future]:
        self.next_id += 1
        request = session.Request(id=self.next_id, deadline_ms=deadline_ms, **op)
        wait = asyncio.get_running_loop().create_future()
        self.waiting[self.next_id] = wait
        return wire.frame(session.ClientFrame(request=request)), wait

    async def answer(self, **op):
        """Sends a request on the talk stream; its answer, as it is."""
        data, wait = self.prepare(op)
        self.talk.write(data)
        return await asyncio.wait_for(wait, transport.LIMIT_S)

    async def ask(self, **op):
        """Sends a request on the talk stream; its good result, or Refused."""
        return result(await self.answer(**op))

    async def ask_all(self, ops: list[dict]) -> list:
        """Sends requests in one flight; their answers, as they are."""
        prepared = [self.prepare(op) for op in ops]
        self.talk.write(b"".join(data for data, _ in prepared))
        return await asyncio.wait_for(asyncio.gather(*(wait for _, wait in prepared)), 6 * transport.LIMIT_S)

    async def ask_bulk(self, **op):
        """Sends a request on a stream of its own; its good result, or Refused."""
        stream = self.connection.open()
        data, _ = self.prepare(op)
        number = self.next_id  # a heartbeat may take the next one while this waits
        del self.waiting[number]
        stream.write(data, end=True)
        answer = session.ServerFrame.FromString(await stream.frame()).answer
        assert answer.id == number
        assert await stream.frame() is None, "the server ends a bulk stream that the client has ended"
        return result(answer)

    async def send(self, room: bytes, body: bytes | str, **fields):
        body = body.encode() if isinstance(body, str) else body
        values = {"client_id": client_id()} | fields
        return await self.ask(send=session.Send(room=room, body=body, **values))

    async def until(self, found, limit_s: float = transport.LIMIT_S):
        """Waits until `found()` is something, and gives it back."""
        async with asyncio.timeout(limit_s):
            while not (value := found()):
                self.changed.clear()
                await self.changed.wait()
        return value

    async def delivered(self, room: bytes, seq: int):
        """The delivery of one message."""
        def find():
            messages = (e.delivery for e in self.events if e.HasField("delivery"))
            return next((d for d in messages if d.message.room == room and d.message.seq == seq), None)
        return await self.until(find)

    def tell_seen(self) -> None:
        if self.events:
            self.talk.write(wire.frame(session.ClientFrame(seen=self.events[-1].no)))

    def fall_silent(self) -> None:
        """No more heartbeats, as if the app had hung."""
        self.tasks[1].cancel()

    async def leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        await self.connection.leave()

    def vanish(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.connection.vanish()


def result(answer):
    kind = answer.WhichOneof("result")
    if kind == "refusal":
        raise Refused(answer.refusal)
    return getattr(answer, kind)
