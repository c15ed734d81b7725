"""The schema as Python classes, made by protoc when the test starts, and the frames around its messages."""

import importlib
import struct
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ["common", "gate", "session"]


def _compile() -> None:
    out = tempfile.mkdtemp(prefix="buslane-interop-")
    names = [f"buslane/v1/{name}.proto" for name in SCHEMAS]
    if protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", *names]) != 0:
        raise SystemExit("the schema does not compile")
    sys.path.insert(0, out)


_compile()
common = importlib.import_module("buslane.v1.common_pb2")
gate = importlib.import_module("buslane.v1.gate_pb2")
session = importlib.import_module("buslane.v1.session_pb2")


def frame(message) -> bytes:
    """A message as it goes on a stream."""
    return framed(message.SerializeToString())


def framed(body: bytes) -> bytes:
    """Bytes as a frame, whatever they are."""
    return struct.pack(">I", len(body)) + body


def code_name(number: int) -> str:
    """`bad_ticket` for 40."""
    return common.RefusalCode.Name(number).removeprefix("REFUSAL_CODE_").lower()


def code_number(name: str) -> int:
    """40 for `bad_ticket`."""
    return common.RefusalCode.Value(f"REFUSAL_CODE_{name.upper()}")
