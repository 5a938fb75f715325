"""Which remembered connections lead nowhere; reading entries never raises."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.address import Prefix
from proxy.conntrack import Entry, parse, stale, untranslated
from proxy.layout import Endpoint, Target
from proxy.netlink import attribute, attributes, nested

SERVICE, ELSEWHERE = bytes((10, 96, 0, 10)), bytes((192, 0, 2, 1))
CLIENT, FIRST, SECOND = (bytes((10, 244, 1, last)) for last in (9, 1, 2))
ADDRESSES = st.sampled_from([SERVICE, ELSEWHERE, FIRST, SECOND])


def one_way(source: bytes, source_port: int, target: bytes, port: int, protocol: int) -> tuple[bytes, bytes]:
    ends = nested(1, attribute(1, source), attribute(2, target))
    ports = (attribute(1, bytes((protocol,))), attribute(2, source_port.to_bytes(2, "big")))
    return ends, nested(2, *ports, attribute(3, port.to_bytes(2, "big")))


def entry(called: Target, answers: Endpoint) -> bytes:
    original = nested(1, *one_way(CLIENT, 4000, called.address, called.port, called.protocol))
    reply = nested(2, *one_way(answers.address, answers.port, CLIENT, 4000, called.protocol))
    return original + reply + attribute(12, b"\0\0\0\x07") + attribute(3, b"\0\0\0\0")


@given(
    st.builds(Target, ADDRESSES, st.sampled_from([17, 132]), st.integers(1, 65535)),
    st.builds(Endpoint, ADDRESSES, st.integers(1, 65535)),
)
def test_entries_are_read(called: Target, answers: Endpoint) -> None:
    body = entry(called, answers)
    read = parse(body)
    assert read
    assert (read.target, read.answers) == (called, answers)
    assert dict(attributes(read.identity)) == {kind: dict(attributes(body))[kind] for kind in (1, 12)}


@given(st.binary(max_size=120), st.integers(0, 200))
def test_garbage_is_no_entry_and_does_not_raise(data: bytes, cut: int) -> None:
    parse(data)
    whole = entry(Target(SERVICE, 17, 53), Endpoint(FIRST, 53))
    parse(whole[:cut])
    parse(whole[:cut] + data)


def found(
    entries: list[Entry], present: dict[Target, tuple[Endpoint, ...]], services: Prefix | None = None
) -> list[Entry]:
    return list(stale(entries, present, services))


def test_gone_and_untranslated_ends_are_stale_and_others_are_not() -> None:
    target = Target(SERVICE, 17, 53)
    here, gone = Endpoint(FIRST, 53), Endpoint(SECOND, 53)
    good = Entry(target, here, b"")
    left = Entry(target, gone, b"")
    untranslated = Entry(target, Endpoint(SERVICE, 53), b"")
    other_port = Entry(Target(SERVICE, 17, 54), gone, b"")
    foreign = Entry(Target(ELSEWHERE, 17, 53), gone, b"")
    everything = [good, left, untranslated, other_port, foreign]
    assert found(everything, {target: (here,)}) == [left, untranslated]
    assert found(everything, {target: ()}) == [good, left, untranslated]
    in_range = Prefix.parse("10.96.0.0/12")
    assert found(everything, {target: (here,)}, in_range) == [left, untranslated, other_port]


def test_only_calls_that_went_to_a_service_address_itself_are_untranslated() -> None:
    to_service = Entry(Target(SERVICE, 6, 80), Endpoint(SERVICE, 80), b"")
    translated = Entry(Target(SERVICE, 6, 80), Endpoint(FIRST, 8080), b"")
    elsewhere = Entry(Target(ELSEWHERE, 6, 80), Endpoint(ELSEWHERE, 80), b"")
    everything = [to_service, translated, elsewhere]
    assert list(untranslated(everything, Prefix.parse("10.96.0.0/12"))) == [to_service]
