"""Exports and imports that break off and go on, watches that do not; bounds of both."""

from __future__ import annotations

import asyncio
import threading
import time

import grpc
import grpc.aio
import pytest
from fake import UNAVAILABLE, Fail

import lethe
from lethe import ChangeKind, NewRecord, _aio_streams, _core
from lethe.admin.v1 import audit_pb2
from lethe.v1 import record_pb2

ROWS = [NewRecord("customer", {"n": n}) for n in range(1100)]
ID = "5e0d2b7c-9d0a-4f0e-8d55-0c5a2f1b7e11"


def part(names, token):
    records = [record_pb2.Record(name=n) for n in names]
    return record_pb2.ExportRecordsResponse(records=records, next_page_token=token)


def test_an_export_that_breaks_off_goes_on_at_its_token(fake, client):
    def breaks(request, context):
        yield part("ab", "after-b")
        context.abort(grpc.StatusCode.UNAVAILABLE, "")

    def ends_early(request, context):
        yield part("c", "after-c")

    def last(request, context):
        yield part("d", "")

    fake.answer("ExportRecords", breaks, ends_early, last)
    got = [r.name for page in client.export_records("t", "customer", mask=["x"], purpose="p") for r in page.records]
    assert got == list("abcd")
    asked = fake.requests("ExportRecords")
    assert [r.page_token for r in asked] == ["", "after-b", "after-c"]
    assert {(r.schema, tuple(r.read_mask.paths), r.purpose) for r in asked} == {
        ("tenants/t/schemas/customer", ("x",), "p")
    }


def test_an_export_whose_time_is_up_goes_on_if_it_moved(fake, client):
    def late(request, context):
        yield part("a", "after-a")
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "")

    fake.answer("ExportRecords", late, lambda request, context: iter([part("b", "")]))
    assert len(list(client.export_records("t"))) == 2

    def stuck(request, context):
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "")
        yield

    # Were it tried again, it would succeed.
    fake.answer("ExportRecords", stuck, lambda request, context: iter([part("c", "")]))
    with pytest.raises(lethe.DeadlineExceeded):
        list(client.export_records("t"))


def test_an_audit_export_that_breaks_off_goes_on_at_its_index(fake, client):
    def part(*indexes):
        return audit_pb2.ExportAuditEntriesResponse(entries=[audit_pb2.AuditEntry(index=n) for n in indexes])

    def broken(request, context):
        yield part(5, 6)
        UNAVAILABLE.abort(context)

    def whole(request, context):
        yield part(7)
        yield part(8)

    fake.answer("ExportAuditEntries", broken, whole)
    assert [e.index for e in client.export_audit_entries(5)] == [5, 6, 7, 8]
    assert [r.start_index for r in fake.requests("ExportAuditEntries")] == [5, 7]
    with pytest.raises(lethe.InvalidArgument):
        list(client.export_audit_entries(-1))


def test_an_export_that_does_not_move_is_given_up(fake, client):
    def breaks(request, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, "")
        yield

    fake.answer("ExportRecords", breaks)
    with pytest.raises(lethe.Unavailable):
        list(client.export_records("t"))
    assert len(fake.seen) == 4


def test_an_export_waits_no_longer_than_its_deadline(fake, client):
    released = threading.Event()

    def silent(request, context):
        released.wait(10)
        yield part("a", "")

    fake.answer("ExportRecords", silent)
    start = time.monotonic()
    with pytest.raises(lethe.DeadlineExceeded):
        list(client.export_records("t", deadline=0.5))
    released.set()
    assert time.monotonic() - start < 3


class Importer:
    """A vault's side of imports: what it has, and when it breaks off."""

    def __init__(self, breaks_before_answer=(), has=0):
        self.next_index, self.last = has, None
        self.chunks, self.starts, self.ids = [], 0, set()
        self._breaks = list(breaks_before_answer)

    def __call__(self, incoming, context):
        first = next(incoming)
        self.starts += 1
        self.ids.add(first.start.import_id)
        yield record_pb2.ImportRecordsResponse(next_index=self.next_index)
        for message in incoming:
            chunk = message.chunk
            bounds = (chunk.first_index, chunk.first_index + len(chunk.records))
            self.chunks.append(bounds)
            assert bounds[0] == self.next_index or bounds == self.last
            self.next_index, self.last = bounds[1], bounds
            if bounds in self._breaks:
                self._breaks.remove(bounds)
                context.abort(grpc.StatusCode.UNAVAILABLE, "")
            names = [f"n{at}" for at in range(*bounds)]
            yield record_pb2.ImportRecordsResponse(next_index=self.next_index, names=names)


def test_an_import_whose_answer_was_lost_repeats_that_chunk_whole(fake, client):
    vault = Importer(breaks_before_answer=[(500, 1000)])
    fake.answer("ImportRecords", vault)
    parts = list(client.import_records("t", iter(ROWS), import_id=ID))
    assert vault.chunks == [(0, 500), (500, 1000), (500, 1000), (1000, 1100)]
    assert [name for p in parts for name in p.names] == [f"n{at}" for at in range(1100)]
    assert (vault.starts, vault.ids) == (2, {ID})


def test_an_import_goes_on_in_another_process(fake, client):
    # The vault has 700, in chunks of 350; the caller handled the first.
    vault = Importer(has=700)
    vault.last = (350, 700)
    fake.answer("ImportRecords", vault)
    parts = list(client.import_records("t", ROWS, import_id=ID, done=350))
    assert vault.chunks == [(350, 700), (700, 1100)]
    assert [(p.first_index, p.next_index) for p in parts] == [(350, 700), (700, 1100)]

    vault = Importer(has=700)
    fake.answer("ImportRecords", vault)
    list(client.import_records("t", ROWS, import_id=ID))
    assert vault.chunks == [(700, 1100)]


def test_an_import_of_other_records_is_noticed(fake, client):
    fake.answer("ImportRecords", Importer(has=2000))
    with pytest.raises(lethe.InvalidArgument, match="records: are fewer"):
        list(client.import_records("t", ROWS, import_id=ID))
    with pytest.raises(lethe.InvalidArgument, match="done: is beyond"):
        list(client.import_records("t", ROWS, import_id=ID, done=2001))


def test_an_import_that_another_caller_goes_on_with_stops(fake, client):
    vault = Importer(breaks_before_answer=[(0, 500)])

    def other(incoming, context):
        if vault.starts:
            vault.next_index = 1700
        yield from vault(incoming, context)

    fake.answer("ImportRecords", other)
    with pytest.raises(lethe.Aborted):
        list(client.import_records("t", ROWS, import_id=ID))


def test_an_import_that_is_refused_ends_at_once(fake, client):
    def refused(incoming, context):
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "")
        yield

    fake.answer("ImportRecords", refused)
    with pytest.raises(lethe.PermissionDenied):
        list(client.import_records("t", ROWS, import_id=ID))
    # With asyncio the refusal may strike while the start is written, and is then heard at the next attempt.
    assert len(fake.seen) < 4


def test_a_message_under_which_the_stream_ended_is_sent_again():
    """asyncio only: a refusal that met a write was told as an internal error."""

    class Stream:
        def __init__(self, whole):
            self.whole = whole

        async def write(self, message):
            if not self.whole:
                none = grpc.aio.Metadata()
                raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, none, none, "Internal error from Core")

        async def read(self):
            return record_pb2.ImportRecordsResponse(next_index=7)

        def cancel(self):
            pass

    class Channel:
        streams = [Stream(False), Stream(True)]

        def stream_stream(self, *_, **__):
            return lambda timeout: self.streams.pop(0)

    session = _aio_streams.Import(Channel(), record_pb2.ImportRecordsRequest(), 10)
    assert asyncio.run(session.position()) == 7


def test_an_import_waits_no_longer_than_its_deadline(fake, client):
    released = threading.Event()

    def silent(incoming, context):
        released.wait(10)
        yield record_pb2.ImportRecordsResponse()

    fake.answer("ImportRecords", silent)
    start = time.monotonic()
    with pytest.raises(lethe.DeadlineExceeded):
        list(client.import_records("t", ROWS, import_id=ID, deadline=0.5))
    released.set()
    assert time.monotonic() - start < 3


def test_an_import_leaves_no_thread_behind(fake):
    fake.answer("ImportRecords", Importer())
    with lethe.Vault.connect(fake.config) as vault:
        before = threading.active_count()
        for _ in range(20):
            iterator = vault.import_records("t", ROWS, import_id=ID)
            fake.answer("ImportRecords", Importer())
            next(iterator)
            iterator.close()
        end = time.monotonic() + 5
        # The fake has up to eight of its own.
        while threading.active_count() > before + 8 and time.monotonic() < end:
            time.sleep(0.05)
        assert threading.active_count() <= before + 8


@pytest.mark.parametrize("size", [0, 501, -1])
def test_a_chunk_has_1_to_500_records(client, size):
    with pytest.raises(lethe.InvalidArgument, match="chunk_size"):
        list(client.import_records("t", ROWS, import_id=ID, chunk_size=size))


def test_a_chunk_ends_before_its_message_is_too_large():
    chunker = _core.Chunker("t", 0, None, 500)
    big = NewRecord("customer", {"photo": bytes(1_000_000)})
    chunks = [c for c in (chunker.add(big) for _ in range(10)) if c] + [chunker.finish()]
    assert [(c.first, c.end) for c in chunks] == [(0, 4), (4, 8), (8, 10)]
    assert all(c.message().ByteSize() <= 4 << 20 for c in chunks)
    with pytest.raises(lethe.InvalidArgument, match=r"records\[0\]"):
        _core.Chunker("t", 0, None, 500).add(NewRecord("customer", {"photo": bytes(4 << 20)}))


def change(kind):
    return record_pb2.WatchRecordsResponse(kind=kind, name="n")


def test_a_watch_that_breaks_off_says_so(fake, client):
    def breaks(request, context):
        yield record_pb2.WatchRecordsResponse()
        yield change(1)
        context.abort(grpc.StatusCode.UNAVAILABLE, "")

    fake.answer("WatchRecords", breaks)
    watch = client.watch_records("t")
    assert next(watch).kind is ChangeKind.CREATED
    with pytest.raises(lethe.Unavailable):
        next(watch)
    assert len(fake.seen) == 1


def test_a_watch_that_fell_behind_because_it_was_slow_does_not_end_as_if_all_was_well(fake, client):
    def stalled(request, context):
        yield record_pb2.WatchRecordsResponse()
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "")

    fake.answer("WatchRecords", stalled)
    watch = client.watch_records("t", seconds=30)
    with pytest.raises(lethe.DeadlineExceeded):
        next(watch)


def test_a_watch_ends_when_its_time_is_up(fake, client):
    released = threading.Event()

    def quiet(request, context):
        yield record_pb2.WatchRecordsResponse()
        released.wait(10)

    fake.answer("WatchRecords", quiet)
    start = time.monotonic()
    with client.watch_records("t", seconds=0.7) as watch, pytest.raises((StopIteration, StopAsyncIteration)):
        next(watch)
    released.set()
    assert 0.5 < time.monotonic() - start < 3
    with pytest.raises(ValueError, match="seconds"):
        client.watch_records("t", seconds=3601)


def test_a_watch_that_does_not_begin_is_given_up(fake, client):
    released = threading.Event()

    def silent(request, context):
        released.wait(10)
        yield record_pb2.WatchRecordsResponse()

    fake.answer("WatchRecords", silent)
    start = time.monotonic()
    with pytest.raises(lethe.DeadlineExceeded):
        client.watch_records("t", deadline=0.5)
    released.set()
    assert time.monotonic() - start < 3


def test_a_watch_is_closed_from_another_thread(fake):
    released = threading.Event()

    def quiet(request, context):
        yield record_pb2.WatchRecordsResponse()
        released.wait(10)

    fake.answer("WatchRecords", quiet)
    with lethe.Vault.connect(fake.config) as vault:
        watch = vault.watch_records("t")
        threading.Timer(0.3, watch.close).start()
        start = time.monotonic()
        assert list(watch) == []
        released.set()
        assert time.monotonic() - start < 3


def test_damaged_records_are_not_passed_over(fake, client):
    fake.answer(
        "ListRecords",
        record_pb2.ListRecordsResponse(records=[record_pb2.Record(name="a")], damaged_names=["b"], next_page_token="t"),
        record_pb2.ListRecordsResponse(records=[record_pb2.Record(name="c")]),
    )
    seen = []
    with pytest.raises(lethe.DataLoss) as caught:
        for record in client.list_records("t"):
            seen.append(record.name)
    assert seen == ["a", "c"] and caught.value.names == ["b"]
    fake.answer("FindRecords", record_pb2.FindRecordsResponse(incomplete=True))
    assert client.find_records("t", "customer", "x", "y").incomplete


def test_the_answer_of_a_server_that_is_not_the_vault(fake, client):
    fake.answer("GetRecord", Fail(grpc.StatusCode.UNIMPLEMENTED, "no such thing"), UNAVAILABLE)
    with pytest.raises(lethe.LetheError) as caught:
        client.get_record("n")
    assert caught.value.code == "UNIMPLEMENTED"
