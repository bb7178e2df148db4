"""The frames on the sockets between processes. A change here breaks running workers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.nouns.wire import (
    MAX_PAYLOAD,
    Drain,
    FrameReader,
    Kind,
    ProtocolError,
    State,
    frame,
    frame_with_meta,
    split_meta,
)

SNAPSHOT = {
    "HELLO": 0x01,
    "REQUEST": 0x02,
    "CANCEL": 0x03,
    "PAUSE": 0x04,
    "RESUME": 0x05,
    "DRAIN": 0x06,
    "PING": 0x07,
    "SLEEP": 0x08,
    "WAKE": 0x09,
    "STATE": 0x10,
    "QUEUED": 0x11,
    "STARTED": 0x12,
    "RESPONSE": 0x13,
    "HEAD": 0x14,
    "CHUNK": 0x15,
    "END": 0x16,
    "BUSY": 0x17,
    "IDLE": 0x18,
    "PONG": 0x19,
    "ACK": 0x1A,
    "NACK": 0x1B,
}


def test_the_numbers_on_the_wire_stay() -> None:
    assert {kind.name: int(kind) for kind in Kind} == SNAPSHOT
    assert frame(Kind.CANCEL, 7) == bytes.fromhex("00000000 03 00000007")
    assert frame_with_meta(Kind.REQUEST, 1, b"{}", b"x") == bytes.fromhex(
        "00000007 02 00000001 00000002 7b7d 78"
    )


def test_the_fields_of_what_workers_tell_and_are_told_stay() -> None:
    assert set(State.__annotations__) == {
        "phase",
        "permits",
        "pid",
        "replica",
        "index",
        "sleeps",
        "error",
        "device_bytes",
        "short_times",
        "short_bytes",
    }
    assert set(Drain.__annotations__) == {"within_s"}


@given(
    payloads=st.lists(st.binary(max_size=60), max_size=8),
    cuts=st.lists(st.integers(min_value=1, max_value=40), min_size=1),
)
def test_frames_survive_any_cut_of_the_stream(payloads: list[bytes], cuts: list[int]) -> None:
    sent = [(int(Kind.CHUNK), index, payload) for index, payload in enumerate(payloads)]
    stream = b"".join(frame(Kind.CHUNK, index, payload) for _, index, payload in sent)
    reader, read, position, turn = FrameReader(), [], 0, 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        read += reader.feed(stream[position : position + step])
        position, turn = position + step, turn + 1
    assert read == sent


def test_meta_and_body_come_apart_again() -> None:
    whole = frame_with_meta(Kind.RESPONSE, 3, b'{"status":200}', b"body")
    (_, _, payload), *_ = FrameReader().feed(whole)
    assert split_meta(payload) == (b'{"status":200}', b"body")


def test_an_absurd_length_is_refused_before_it_is_believed() -> None:
    header = (MAX_PAYLOAD + 1).to_bytes(4, "big") + b"\x02" + bytes(4)
    with pytest.raises(ProtocolError, match=str(MAX_PAYLOAD)):
        FrameReader().feed(header)
