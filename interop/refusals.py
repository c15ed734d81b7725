"""Refused properly: whatever is wrong gets its typed no, and the server goes on. Each function is a step."""

import asyncio
import hmac
import os

import client
import transport
import wire
from client import ALPN_GATE, ALPN_SESSION, Device, Gate, client_id
from flows import World, refused
from wire import gate, session

NO_APPLICATION_PROTOCOL = 0x100 + 120  # a QUIC error that carries a TLS alert
SKIPPED_FIELD = b"\xfa\x3e\x03abc"  # field 1007, three bytes: nobody knows it


def tampered(token: bytes, at: int = -5) -> bytes:
    changed = bytearray(token)
    changed[at] ^= 1
    return bytes(changed)


async def closed_with(name: str, connection: transport.Connection) -> None:
    end = await connection.closed()
    assert end.by_application and end.code == wire.code_number(name), f"expected {name}, got {end}"


async def alpn(world: World):
    """another ALPN, the other port's ALPN, or none: no handshake"""
    system, alice = world.system, world.device("alice")
    offers = [(system.gate, [ALPN_SESSION, "h3", None]), (system.front, [ALPN_GATE, "buslane/2", None])]
    for address, names in offers:
        for name in names:
            try:
                config = transport.configuration(name, system.ca, "localhost")
                await transport.connect(address, config, await alice.fresh_pass())
            except transport.Closed as end:
                assert end.code == NO_APPLICATION_PROTOCOL, f"{name} at {address}: {end}"
            else:
                raise AssertionError(f"{address} accepted the ALPN {name}")


async def gate_bytes(world: World):
    """gate: malformed, oversized, truncated and doubled frames are answered, then the connection is closed"""
    good = wire.frame(gate.GateRequest(version=1, enter=gate.Enter()))
    attempts = [
        ("malformed", wire.framed(b"\xff" * 20)),
        ("malformed", wire.framed(b"\x5a\x7f")),  # enrol, announced longer than it is
        ("too_large", (4097).to_bytes(4, "big") + b"x" * 100),
        ("too_large", b"\xff\xff\xff\xff"),
        ("malformed", good[:-1]),
        ("malformed", b"\x00\x00"),
        ("malformed", b""),
        ("malformed", good + good),
    ]
    for name, data in attempts:
        async with await Gate.open(world.system) as door:
            answer = await door.exchange(data)
            assert wire.code_name(answer.refusal.code) == name, f"{data[:24]!r}: {answer}"
            await closed_with(name, door.connection)


async def gate_unknown(world: World):
    """gate: an unknown request and version 0 are refused, unknown fields are skipped, the connection goes on"""
    async with await Gate.open(world.system) as door:
        answer = await door.exchange(wire.framed(b"\x08\x01" + SKIPPED_FIELD))
        assert wire.code_name(answer.refusal.code) == "unsupported" and not answer.refusal.retryable
        answer = await door.exchange(wire.frame(gate.GateRequest(enter=gate.Enter())))
        assert wire.code_name(answer.refusal.code) == "bad_version"
        alice = world.device("alice")
        request = gate.Enter(credential=alice.credential, proof=alice.key.sign(door.statement))
        data = gate.GateRequest(version=7, enter=request).SerializeToString() + SKIPPED_FIELD
        assert (await door.exchange(wire.framed(data))).HasField("ticket")


async def gate_fields(world: World):
    """gate: a wrong name, key or right is named"""
    async with await Gate.open(world.system) as door:
        for user in ["", "Alice", "-a", "a b", "a" * 65, "ünal"]:
            refusal = await refused("bad_field", door.ask(enrol=Device(world.system, user).enrol_request(door.statement)))
            assert refusal.field == "user", refusal
        request = Device(world.system, "dora").enrol_request(door.statement)
        request.device_key = request.device_key[:31]
        assert (await refused("bad_field", door.ask(enrol=request))).field == "device_key"
        request = Device(world.system, "dora", name="x" * 65).enrol_request(door.statement)
        assert (await refused("bad_field", door.ask(enrol=request))).field == "device_name"
        request = Device(world.system, "dora").enrol_request(door.statement)
        request.ClearField("open")
        assert (await refused("bad_field", door.ask(enrol=request))).field == "right"


async def gate_proofs(world: World):
    """gate: a proof by another key or from another connection is worth nothing"""
    alice = world.device("alice")
    async with await Gate.open(world.system) as one, await Gate.open(world.system) as other:
        assert one.statement != other.statement
        stolen = alice.key.sign(other.statement)
        for proof in [stolen, Device(world.system, "x").key.sign(one.statement), b"", os.urandom(64)]:
            await refused("bad_proof", one.ask(enter=gate.Enter(credential=alice.credential, proof=proof)))
        request = Device(world.system, "dora").enrol_request(one.statement)
        request.proof = stolen
        await refused("bad_proof", one.ask(enrol=request))


async def gate_rights(world: World):
    """gate: a taken name, a wrong code, a credential that is not one"""
    stranger = Device(world.system, "alice")
    await refused("name_taken", stranger.enrol())
    for code in ["", "0000000000000", "nonsense", "x" * 500]:
        await refused("bad_code", stranger.enrol(code=code))
    await refused("bad_code", Device(world.system, "nobody").enrol(code="0000000000000"))
    await refused("enrolment_closed", stranger.enrol(jwt="eyJhbGciOiJub25lIn0.e30."))
    alice = world.device("alice")
    for credential in [b"", b"x", tampered(alice.credential), alice.ticket.ticket, os.urandom(200)]:
        forged = Device(world.system, "alice", key=alice.key, credential=credential)
        await refused("bad_credential", forged.enter())


async def hello_tokens(world: World):
    """hello: tampered, foreign and misused tokens"""
    alice = world.device("alice")
    ticket = alice.ticket.ticket
    for token in [b"", b"x", ticket[:-1], tampered(ticket), tampered(ticket, 1), alice.credential, os.urandom(300)]:
        await refused("bad_ticket", alice.session(ticket=token))
        await refused("bad_ticket", alice.session(resume=token, seen=0))
    await refused("bad_ticket", alice.session(resume=ticket, seen=0))
    await refused("bad_ticket", alice.session(ticket=world.on("alice").welcome.resume))
    await refused("bad_version", alice.session(version=0))
    await refused("bad_field", alice.session(agent="x" * 65))


async def hello_proofs(world: World):
    """hello: another device's ticket, a proof from another connection, a replayed hello"""
    alice, bob = world.device("alice"), world.device("bob")
    await refused("bad_proof", alice.session(ticket=bob.ticket.ticket))
    await refused("bad_proof", alice.session(resume=world.on("bob").welcome.resume, seen=0))
    await refused("bad_proof", alice.session(proof=b""))
    await refused("bad_proof", alice.session(proof=os.urandom(32)))
    await refused("bad_proof", alice.session(proof=hmac.new(alice.ticket.proof_key, b"", "sha256").digest()))
    one, other = await alice.dial(), await alice.dial()
    overheard = wire.frame(alice.hello(one))
    replay = client.Session(alice, other)
    replay.talk.write(overheard)
    await refused("bad_proof", replay.begin())
    await one.leave()
    await world.on("alice").ask(ping=session.Ping())  # none of this replaced her session


async def hello_first(world: World):
    """session: something else than a hello first"""
    alice = world.device("alice")
    for frame in [
        session.ClientFrame(request=session.Request(id=1, ping=session.Ping())),
        session.ClientFrame(seen=1),
        session.ClientFrame(cancel=1),
    ]:
        connection = await alice.dial()
        connection.open().write(wire.frame(frame))
        await closed_with("hello_required", connection)


async def hello_bytes(world: World):
    """session: malformed, oversized and truncated frames before the welcome"""
    alice = world.device("alice")
    attempts = [
        ("malformed", wire.framed(b"\xff" * 20), False),
        ("too_large", (4097).to_bytes(4, "big") + b"x" * 200, False),
        ("malformed", b"\x00\x00\x00\x40abc", True),
    ]
    for name, data, end in attempts:
        connection = await alice.dial()
        connection.open().write(data, end=end)
        await closed_with(name, connection)


async def session_bytes(world: World):
    """session: malformed, oversized and truncated frames after the welcome, on the talk stream and on a bulk stream"""
    dora = await world.enrolled("dora")
    attempts = [
        ("malformed", wire.framed(b"\xff" * 20), False),
        ("too_large", (65_537).to_bytes(4, "big") + b"x" * 100, False),
        ("malformed", b"\x00\x00\x00\x40abc", True),
    ]
    for name, data, end in attempts:
        for bulk in [False, True]:
            opened = await dora.session()
            stream = opened.connection.open() if bulk else opened.talk
            stream.write(data, end=end)
            await closed_with(name, opened.connection)
            await opened.leave()


async def unknown(world: World):
    """session: an unknown request is refused; unknown frames and fields are skipped; the session goes on"""
    alice = world.on("alice")
    await refused("unsupported", alice.ask())
    data, wait = alice.prepare({})
    request = session.ClientFrame.FromString(data[4:]).request.SerializeToString() + SKIPPED_FIELD  # an op of the future
    alice.talk.write(wire.framed(b"\x12" + bytes([len(request)]) + request))
    answer = await asyncio.wait_for(wait, transport.LIMIT_S)
    assert wire.code_name(answer.refusal.code) == "unsupported"
    alice.talk.write(wire.framed(SKIPPED_FIELD) + wire.framed(b""))
    data, wait = alice.prepare({"ping": session.Ping()})
    alice.talk.write(wire.framed(data[4:] + SKIPPED_FIELD))
    assert client.result(await asyncio.wait_for(wait, transport.LIMIT_S)).now_ms


async def requests(world: World):
    """requests: each wrong one gets its code, and nothing of it is done"""
    alice, bob, carol = world.on("alice"), world.on("bob"), world.on("carol")
    nowhere = os.urandom(16)
    before = (await alice.ask(describe_room=session.DescribeRoom(room=world.room))).head
    await refused("unknown_room", alice.send(nowhere, "hello?"))
    await refused("unknown_room", alice.ask(sync=session.Sync(room=nowhere)))
    await refused("unknown_room", carol.ask(sync=session.Sync(room=world.room)))  # a direct room of two others
    await refused("unknown_room", carol.send(world.room, "let me in"))
    await refused("unknown_room", carol.ask(history=session.History(room=world.room)))
    await refused("unknown_room", carol.ask(mark=session.Mark(cursors=[session.Cursor(room=world.room, read=1)])))
    await refused("not_a_member", carol.send(world.group, "let me in"))
    await refused("not_a_member", carol.ask(list_members=session.ListMembers(room=world.group)))
    await refused("not_invited", carol.ask(join=session.Join(room=world.group)))
    await refused("too_long", alice.send(world.room, b"x" * 16_385))
    assert (await refused("bad_field", alice.send(b"short", "x"))).field == "room"
    assert (await refused("bad_field", alice.send(world.room, "x", client_id=b"1"))).field == "client_id"
    assert (await refused("bad_field", alice.send(world.room, "x", mentions=["carol"]))).field == "mentions"
    await refused("unknown_user", alice.ask(open_direct=session.OpenDirect(peer="nobody-here")))
    await refused("bad_field", alice.ask(open_direct=session.OpenDirect(peer="alice")))
    await refused("not_allowed", alice.ask(leave=session.Leave(room=world.room)))
    await refused("not_allowed", alice.ask(invite=session.Invite(room=world.room, users=["carol"])))
    create = session.CreateRoom(client_id=client_id(), title="x" * 129)
    await refused("too_long", alice.ask(create_room=create))
    await refused("unknown_device", alice.ask(revoke_device=session.RevokeDevice(device=nowhere)))
    await refused("bad_field", bob.ask(read_counts=session.ReadCounts(room=world.room, to=1001)))
    after = (await alice.ask(describe_room=session.DescribeRoom(room=world.room))).head
    assert before == after, "something that was refused was stored"


async def in_flight(world: World):
    """600 requests at once: one answer for each, and only too_many_in_flight for what is over the limit (or busy)"""
    alice = world.on("alice")
    ops = [{"send": session.Send(room=world.room, client_id=client_id(), body=b"flood")} for _ in range(600)]
    answers = await alice.ask_all(ops)
    over = [a.refusal for a in answers if a.HasField("refusal")]
    codes = {wire.code_name(r.code) for r in over}
    # It is more than a person does, so a server with nothing to spare may take some of them for background's. One run on a slow machine had
    # another code than the first of these, and did not say which; any third one fails here and is named.
    assert codes <= {"too_many_in_flight", "busy"}, codes
    assert all(r.retryable and not r.maybe_applied for r in over)
    sequences = [a.receipt.seq for a in answers if a.HasField("receipt")]
    assert sequences == sorted(set(sequences))
    assert len(sequences) >= 256 or "busy" in codes, len(sequences)
    return f"{len(over)} refused"


async def cancel(world: World):
    """cancel: of something running, done, or never asked for; each request still has one answer"""
    alice = world.on("alice")
    name = client_id()
    op = {"send": session.Send(room=world.room, client_id=name, body=b"never mind")}
    data, wait = alice.prepare(op)
    cancel_frame = wire.frame(session.ClientFrame(cancel=alice.next_id))
    alice.talk.write(data + cancel_frame + wire.frame(session.ClientFrame(cancel=987_654)))
    answer = await asyncio.wait_for(wait, transport.LIMIT_S)
    if answer.HasField("refusal"):
        assert wire.code_name(answer.refusal.code) == "cancelled" and answer.refusal.maybe_applied
    receipt = client.result(await alice.answer(**op))
    assert receipt.seq and receipt.duplicate in (True, False)
    again = client.result(await alice.answer(**op))
    assert again.duplicate and again.seq == receipt.seq
    return "done" if answer.HasField("receipt") else "cancelled"


async def too_many_streams(world: World):
    """more bulk streams than allowed: the transport holds the client back, the session goes on"""
    alice = world.on("alice")
    streams = []
    for number in range(2_000_000, 2_000_006):
        stream = alice.connection.open()
        request = session.Request(id=number, list_blocked=session.ListBlocked())
        stream.write(wire.frame(session.ClientFrame(request=request)))
        streams.append(stream)
    for stream in streams[:3]:
        assert session.ServerFrame.FromString(await stream.frame()).answer.HasField("users")
    await alice.ask(ping=session.Ping())
    assert not any(stream.buffer or stream.ended for stream in streams[3:]), "a stream beyond the limit was served"
    for stream in streams:
        stream.write(b"", end=True)
    for stream in streams[3:]:
        assert session.ServerFrame.FromString(await stream.frame()).answer.HasField("users")


STEPS = [
    alpn, gate_bytes, gate_unknown, gate_fields, gate_proofs, gate_rights, hello_tokens, hello_proofs, hello_first,
    hello_bytes, session_bytes, unknown, requests, in_flight, cancel, too_many_streams,
]  # fmt: skip
