"""The story of clients/CONFORMANCE.md against a real vault, step by step, with threads and with asyncio."""

from __future__ import annotations

import dataclasses
import datetime as dt
import secrets
import socket
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import evidence_steps
import grpc
import pytest
import retention_steps
from conftest import SCHEMA, lethectl, support
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from story import A_FIELDS, CALLER, SECRETS, Story, new

import lethe
from lethe import AuditKind, ChangeKind, Classification, NewRecord, Reason, Vault, _config, audit, logs, receipts


@pytest.fixture(scope="class", params=["threads", "asyncio"])
def story(request, dev_dir):
    told = Story(request.param, dev_dir)
    yield told
    told.close()


def test_threads_share_a_vault(dev_dir, tenant):
    with Vault.connect(dev_dir / "client-application.toml") as vault, ThreadPoolExecutor(16) as pool:

        def work(n):
            name = vault.create_record(tenant, "customer", {"email": f"t{n}@example.org", "visits": n}).name
            return vault.get_record(name)["visits"]

        assert list(pool.map(work, range(64))) == list(range(64))


class TestStory:
    def test_step_01_connect(self, story):
        assert isinstance(list(story.app.list_tenants()), list)

    def test_step_02_no_certificate_no_entry(self, story):
        identity = _config.load(story.folder / "client-application.toml")
        channels = [
            grpc.secure_channel(identity.target, grpc.ssl_channel_credentials(identity.ca)),
            grpc.insecure_channel(identity.target),
        ]
        for channel in channels:
            with channel, pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/lethe.v1.TenantService/ListTenants")(b"", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    def test_step_03_tenant_and_schema(self, story):
        for tenant in (story.tenant, story.second):
            assert story.operator.create_tenant(tenant, "Conformance").name == f"tenants/{tenant}"
            made = story.operator.create_schema(tenant, "customer", SCHEMA)
            assert made.revision == 1
        # The vault fills in what was left to it, such as masks.
        told = [(f.name, f.kind, f.required, f.unique, f.indexed, f.purposes) for f in SCHEMA.fields]
        kept = story.operator.get_schema(story.tenant, "customer")
        assert [(f.name, f.kind, f.required, f.unique, f.indexed, f.purposes) for f in kept.fields] == told
        assert (kept.retain_for, kept.erase_old_versions_synchronously) == ("P1Y", True)
        assert [s.name for s in story.app.list_schemas(story.tenant)] == [f"tenants/{story.tenant}/schemas/customer"]
        assert story.app.get_tenant(story.tenant).display_name == "Conformance"
        story.refused(lethe.AlreadyExists, story.operator.create_tenant, story.tenant)
        story.refused(lethe.PermissionDenied, story.app.create_tenant, f"{story.tenant}-b")

    def test_step_04_every_kind_of_value(self, story):
        made = story.app.create_record(story.tenant, "customer", A_FIELDS, request_id=story.request_id)
        assert made.name.startswith(f"tenants/{story.tenant}/records/")
        assert made.subject.startswith(f"tenants/{story.tenant}/subjects/")
        assert made.etag and made.type == "customer"
        assert 364 <= (made.expire_date - made.create_time.date()).days <= 367
        got = story.app.get_record(made.name, purpose="delivery")
        assert dict(got.fields) == A_FIELDS
        assert {n: type(v) for n, v in got.fields.items()} == {n: type(v) for n, v in A_FIELDS.items()}
        story.a = made
        story.printed.append(repr(got))

    def test_step_05_twice_is_once(self, story):
        again = story.app.create_record(story.tenant, "customer", A_FIELDS, request_id=story.request_id)
        assert again.name == story.a.name
        assert story.names() == [story.a.name]

    def test_step_06_one_id_one_request(self, story):
        other = {"email": "eve@example.org"}
        story.refused(
            lethe.RequestIdReused,
            story.app.create_record,
            story.tenant,
            "customer",
            other,
            request_id=story.request_id,
        )
        assert story.names() == [story.a.name]

    def test_step_07_an_unknown_field_is_named(self, story):
        fields = {"email": "x@example.org", "shoe": 42}
        assert story.violated(story.app.create_record, story.tenant, "customer", fields) == ["record.fields.shoe"]
        assert not any("x@example.org" in p or "42" in p for p in story.printed[-3:])

    def test_step_08_a_bad_value_is_named_not_repeated(self, story):
        assert story.violated(story.create, "canary-at-example") == ["record.fields.email"]
        assert not any("canary" in p for p in story.printed[-3:])

    def test_step_09_batch_create_all_or_none(self, story):
        bad = [new("b1@example.org"), new("canary-at-example"), new("b3@example.org")]
        assert story.violated(story.app.create_records, story.tenant, bad) == ["requests[1].record.fields.email"]
        taken = [new("b1@example.org"), new("ada@example.org")]
        error = story.refused(lethe.Duplicate, story.app.create_records, story.tenant, taken)
        assert (error.part, error.field, error.name) == ("requests[1]", "email", story.a.name)
        assert story.found("email", "b1@example.org") == []
        batch = [new(f"b{n}@example.org", "Bern", request_id=str(uuid.uuid4())) for n in (1, 2, 3)]
        made = story.app.create_records(story.tenant, batch)
        assert [r["email"] for r in made] == ["b1@example.org", "b2@example.org", "b3@example.org"]
        story.b = [r.name for r in made]
        assert [r.name for r in story.app.create_records(story.tenant, batch)] == story.b

    def test_step_10_read_mask(self, story):
        got = story.app.get_record(story.a.name, mask=["city", "fields.visits"])
        assert dict(got.fields) == {"city": "London", "visits": 3}
        paths = story.violated(story.app.get_record, story.a.name, mask=["city", "canary"])
        assert paths == ["read_mask.paths[1]"]

    def test_step_11_purpose(self, story):
        for purpose, expected in (("", 7), ("delivery", 8), ("marketing", 7)):
            got = story.app.get_record(story.a.name, purpose=purpose)
            assert len(got.fields) == expected and ("phone" in got.fields) == (purpose == "delivery")

    def test_step_12_batch_get(self, story):
        wanted = [story.b[2], story.a.name, story.b[0]]
        assert [r.name for r in story.app.get_records(story.tenant, wanted)] == wanted
        wanted[1] = story.no_record()
        error = story.refused(lethe.NotFound, story.app.get_records, story.tenant, wanted)
        assert error.part == "names[1]"

    def test_step_13_update_with_the_etag(self, story):
        changed = story.app.update_record(story.a.name, {"city": "Paris"}, etag=story.a.etag)
        assert changed.etag != story.a.etag
        assert story.found("city", "Paris") == [story.a.name]
        assert story.found("city", "London") == []

    def test_step_14_stale_etag(self, story):
        story.refused(lethe.Stale, story.app.update_record, story.a.name, {"city": "Rome"}, etag=story.a.etag)
        assert story.app.get_record(story.a.name)["city"] == "Paris"

    def test_step_15_remove_a_field(self, story):
        left = story.app.update_record(story.a.name, {}, mask=["score"])
        assert "score" not in left.fields
        assert set(story.app.get_record(story.a.name, purpose="delivery").fields) == A_FIELDS.keys() - {"score"}

    def test_step_16_duplicate(self, story):
        error = story.refused(lethe.Duplicate, story.create, "ada@example.org")
        assert (error.field, error.name) == ("email", story.a.name)

    def test_step_17_find(self, story):
        assert story.found("email", "ada@example.org") == [story.a.name]
        assert story.violated(story.app.find_records, story.tenant, "customer", "visits", 3) == ["field"]

    def test_step_18_pages(self, story):
        made = {story.create(f"o{n}@example.org", city="Oslo").name for n in range(6)}
        pages = list(story.app.list_pages(story.tenant, "customer", page_size=3))
        listed = [r.name for page in pages for r in page.records]
        assert len(pages) >= 4 and pages[-1].next_page_token == ""
        assert listed == sorted({story.a.name, *story.b, *made})
        assert story.names() == listed
        assert story.violated(story.app.list_pages, story.tenant, page_token="nonsense") == ["page_token"]

    def test_step_19_import(self, story):
        rows = [new("canary-at-example" if n == 700 else f"i{n}@example.org") for n in range(1200)]
        parts = list(story.app.import_records(story.second, rows, import_id=str(uuid.uuid4())))
        assert [(p.first_index, p.next_index) for p in parts] == [(0, 500), (500, 1000), (1000, 1200)]
        names = [n for p in parts for n in p.names]
        assert len(names) == 1200 and names.index("") == 700 and len({*names}) == 1200
        (failure,) = [f for p in parts for f in p.failures]
        assert (failure.index, failure.code) == (700, 3)
        assert [field for field, _ in failure.violations] == ["fields.email"]
        story.printed.append(repr(parts[1]))
        assert story.found("email", "i699@example.org", story.second) == [names[699]]

    def test_step_20_import_goes_on(self, story):
        import_id, rows = str(uuid.uuid4()), [new(f"j{n}@example.org") for n in range(1000)]
        broken = story.app.import_records(story.second, rows, import_id=import_id)
        first = next(broken)
        broken.close()
        assert first.next_index == 500 and all(first.names)
        # The answer was lost to a caller that knows of nothing: the chunk is repeated, then the rest follows.
        parts = list(story.app.import_records(story.second, rows, import_id=import_id, done=0))
        assert [p.next_index for p in parts] == [500, 1000]
        assert parts[0].names == first.names
        # A caller that handled everything has nothing to do.
        assert list(story.app.import_records(story.second, rows, import_id=import_id)) == []
        # The iterator leaves no gap, so its stream is asked below it.
        assert self.gap(story, import_id) == ["chunk.first_index"]
        assert len(story.names(story.second)) == 1199 + 1000

    def gap(self, story, import_id):
        from lethe import _calls, _core, _streams

        with Vault.connect(story.folder / "client-application.toml") as vault:
            session = _streams.Import(vault._channel, _calls.import_start(story.second, import_id), 10)
            assert session.position() == 1000
            record = lethe._wire.new_record(story.second, new("gap@example.org"), "record")
            try:
                error = story.refused(lethe.InvalidArgument, session.send, _core.Chunk(5000, [record]))
            finally:
                session.drop()
            return [v.field for v in error.violations]

    def test_step_21_export_all(self, story):
        parts = list(story.app.export_records(story.second, "customer"))
        names = [r.name for p in parts for r in p.records]
        assert len(parts) > 1 and len(names) == 2199 and names == sorted(set(names))
        rest = story.app.export_records(story.second, "customer", page_token=parts[0].next_page_token)
        assert [r.name for p in rest for r in p.records] == names[len(parts[0].records) :]
        masked = next(iter(story.app.export_records(story.second, mask=["city"], purpose="delivery")))
        assert {tuple(r.fields) for r in masked.records} == {("city",)}

    def test_step_22_watch(self, story):
        with story.app.watch_records(story.tenant, seconds=30) as watch:
            name = story.create("w@example.org").name
            story.app.update_record(name, {"city": "Wien"})
            story.app.erase_record(name)
            seen = [next(watch) for _ in range(3)]
        assert [c.kind for c in seen] == [ChangeKind.CREATED, ChangeKind.UPDATED, ChangeKind.ERASED]
        assert {c.name for c in seen} == {name}

    def test_step_23_erase_with_a_receipt(self, story):
        story.key = story.operator.status().public_key
        story.receipt = story.app.erase_record(story.a.name, Reason.SUBJECT_REQUEST)
        proof = receipts.verify(story.receipt, story.key)
        assert (proof.name, proof.reason) == (story.a.name, Reason.SUBJECT_REQUEST)
        assert proof.vault_id == story.operator.status().vault_id
        spoilt = bytearray(story.receipt.signed_bytes)
        spoilt[40] ^= 1
        other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        for forged, key in (
            (story.receipt, other),
            (dataclasses.replace(story.receipt, signed_bytes=bytes(spoilt)), story.key),
            (dataclasses.replace(story.receipt, name=story.b[0]), story.key),
        ):
            with pytest.raises(receipts.Unproven):
                receipts.verify(forged, key)

    def test_step_23_and_lethectl_agrees(self, story, tmp_path):
        if (program := lethectl()) is None:
            pytest.skip("neither LETHECTL nor one beside LETHED")
        file = tmp_path / "receipts.json"
        file.write_text(receipts.dump([story.receipt]))
        command = [program, "receipt", "verify", file, "--public-key", story.key.hex()]
        assert subprocess.run(command, capture_output=True, timeout=30).returncode == 0
        assert receipts.load(file.read_text()) == [story.receipt]
        file.write_text(receipts.dump([dataclasses.replace(story.receipt, name=story.b[0])]))
        assert subprocess.run(command, capture_output=True, timeout=30).returncode != 0

    def test_step_24_again_the_same_receipt(self, story):
        again = story.app.erase_record(story.a.name, Reason.SUBJECT_REQUEST)
        assert (again.signed_bytes, again.signature) == (story.receipt.signed_bytes, story.receipt.signature)

    def test_step_25_erased_is_gone(self, story):
        story.refused(lethe.Erased, story.app.get_record, story.a.name)
        story.refused(lethe.Erased, story.app.update_record, story.a.name, {"city": "Rome"})
        error = story.refused(lethe.Erased, story.app.get_records, story.tenant, [story.b[0], story.a.name])
        assert error.part == "names[1]"
        story.refused(
            lethe.Erased,
            story.app.create_record,
            story.tenant,
            "customer",
            A_FIELDS,
            request_id=story.request_id,
        )
        assert story.found("email", "ada@example.org") == []
        assert story.create("ada@example.org").name != story.a.name
        story.refused(lethe.NotFound, story.app.get_record, story.no_record())

    def test_step_26_batch_erase(self, story):
        got = story.app.erase_records(story.tenant, story.b[:2])
        assert [receipts.verify(r, story.key).name for r in got] == story.b[:2]

    def test_step_27_erase_a_subject(self, story):
        request_id = str(uuid.uuid4())
        subject = story.app.create_subject(story.tenant, request_id=request_id)
        assert story.app.create_subject(story.tenant, request_id=request_id) == subject
        assert story.app.get_subject(subject.name) == subject
        made = [
            story.app.create_record(story.tenant, "customer", {"email": f"s{n}@example.org"}, subject=subject.name)
            for n in (1, 2)
        ]
        erased = story.app.erase_subject(subject.name)
        assert receipts.verify(erased.receipt, story.key).name == subject.name
        proven = {receipts.verify(r, story.key).name for r in erased.record_receipts}
        assert proven == {r.name for r in made}
        for record in made:
            story.refused(lethe.Erased, story.app.get_record, record.name)
        story.refused(lethe.Erased, story.app.get_subject, subject.name)
        story.refused(
            lethe.Erased,
            story.app.create_record,
            story.tenant,
            "customer",
            {"email": "s3@example.org"},
            subject=subject.name,
        )
        assert story.app.erase_subject(subject.name).receipt == erased.receipt
        again = {r.name: r for r in map(story.app.erase_record, (r.name for r in made))}
        assert again == {r.name: r for r in erased.record_receipts}

    def test_step_28_deadlines(self, story, tmp_path):
        config = (story.folder / "client-application.toml").read_text()
        for name in ("ca.pem", "application.pem", "application.key"):
            config = config.replace(f'"pki/{name}"', f'"{story.folder / "pki" / name}"')
        here = config[config.index("https://") :].split('"')[0]
        file = tmp_path / "client.toml"
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            file.write_text(config.replace(here, f"https://127.0.0.1:{port}"))
            vault, start = story.connect(file, deadline=1), time.monotonic()
            with pytest.raises((lethe.DeadlineExceeded, lethe.Unavailable)):
                list(vault.list_tenants())
            assert 0.5 < time.monotonic() - start < 5
            vault.close()
        vault, start = story.connect(file), time.monotonic()
        story.refused(lethe.Unavailable, vault.list_tenants)
        assert 0.35 < time.monotonic() - start < 10
        vault.close()
        with pytest.raises(ValueError):
            story.app.status(deadline=61)

    def test_step_29_bounds(self, story):
        many = [new(f"m{n}@example.org") for n in range(501)]
        assert story.violated(story.app.create_records, story.tenant, many) == ["requests"]
        names = [story.no_record()] * 1001
        assert story.violated(story.app.get_records, story.tenant, names) == ["names"]
        before = story.operator.status()
        assert story.violated(story.create, "big@example.org", photo=bytes(5 << 20)) == ["request"]
        assert before.vault_id == story.operator.status().vault_id

    def test_step_30_update_a_tenant(self, story):
        first = story.app.get_tenant(story.tenant)
        update = story.operator.update_tenant
        changed = update(story.tenant, "Renamed", etag=first.etag)
        assert changed == dataclasses.replace(first, display_name="Renamed", etag=changed.etag)
        assert changed.etag != first.etag and story.app.get_tenant(story.tenant) == changed
        story.refused(lethe.Stale, update, story.tenant, "Other", etag=first.etag)
        paths = story.violated(update, story.tenant, "Other", mask=["display_name", "canary"])
        assert paths == ["update_mask.paths[1]"]
        story.refused(lethe.PermissionDenied, story.app.update_tenant, story.tenant, "Other")
        assert story.app.get_tenant(story.tenant) == changed
        assert update(story.tenant, "").display_name == ""

    def test_step_31_update_a_part_of_a_schema(self, story):
        before = story.operator.get_schema(story.tenant, "customer")
        city = dataclasses.replace(before.fields[1], classification=Classification.GENERAL)
        part = lethe.Schema(fields=(city,))
        update = story.operator.update_schema
        after = update(story.tenant, "customer", part, mask=["fields.city"])
        expected = (before.fields[0], city, *before.fields[2:])
        assert after == dataclasses.replace(before, revision=2, fields=expected)
        paths = story.violated(update, story.tenant, "customer", part, mask=["fields.city", "fields.canary"])
        assert paths == ["update_mask.paths[1]"]

    def test_step_32_masks(self, story):
        if lethectl() is None:
            pytest.skip("neither LETHECTL nor one beside LETHED: nobody whose reads are masked")
        made = story.create("mask@example.org", city="Bern", visits=3, phone="+441234567890")
        with Vault.connect(support(story.folder)) as caller:
            end = time.monotonic() + 30
            while True:
                try:
                    list(caller.list_tenants())
                    break
                except lethe.PermissionDenied:
                    assert time.monotonic() < end, "support is not let in"
                    time.sleep(0.2)
            masked = {"email": "m***@example.org", "city": "Bern", "phone": "+441****7890"}
            assert dict(caller.get_record(made.name, purpose="delivery").fields) == masked
            listed = caller.list_records(story.tenant, purpose="delivery")
            assert [dict(r.fields) for r in listed if r.name == made.name] == [masked]
            assert dict(caller.get_record(made.name, mask=["visits"]).fields) == {}
            by_email = (story.tenant, "customer", "email", "mask@example.org")
            story.refused(lethe.PermissionDenied, caller.find_records, *by_email)
            story.refused(lethe.PermissionDenied, caller.update_record, made.name, {"city": "Rome"})
        seen = list(story.auditor.list_audit_entries(story.tenant, principal=CALLER + "support"))
        (get,) = [e for e in seen if (e.method, e.purpose) == ("GetRecord", "delivery")]
        assert (get.role, get.clear, get.masked) == ("support", (Classification.GENERAL,), (Classification.SENSITIVE,))

    def test_step_33_audit_log(self, story):
        made, listed = story.create("log@example.org"), story.auditor.list_audit_entries
        story.app.get_record(made.name, purpose="delivery")
        about = list(listed(subject=made.subject))
        assert [(e.method, e.purpose) for e in about] == [("GetRecord", "delivery"), ("CreateRecord", "")]
        for e in about:
            assert (e.kind, e.code, e.total, e.part) == (AuditKind.CALL, 0, 1, 0)
            assert (e.principal, e.role) == (CALLER + "application", "application")
            assert (e.tenant, e.schema) == (f"tenants/{story.tenant}", made.schema)
            assert (e.clear, e.masked) == ((Classification.SENSITIVE,), ())
            assert e.members == about[0].members and len(e.members) == 1 and len(e.members[0].subject) == 16
        pages = list(story.auditor.list_audit_pages(story.tenant, page_size=20))
        entries = [e for page in pages for e in page.entries]
        indexes = [e.index for e in entries]
        assert len(pages) >= 3 and indexes == sorted(set(indexes), reverse=True)
        assert {e.tenant for e in entries} == {f"tenants/{story.tenant}"}
        done = "CreateTenant UpdateTenant UpdateSchema CreateRecord GetRecord FindRecords EraseRecord EraseSubject"
        assert set(done.split()) <= {e.method for e in entries}
        own = next(listed(story.tenant))
        assert (own.method, own.principal, own.role) == ("ListAuditEntries", CALLER + "auditor", "auditor")
        assert own.index > indexes[0]
        operators = list(listed(story.tenant, principal=CALLER + "operator"))
        assert {e.principal for e in operators} == {CALLER + "operator"} and operators[-1].method == "CreateTenant"
        assert story.violated(story.auditor.list_audit_pages, page_token="nonsense") == ["page_token"]
        story.refused(lethe.PermissionDenied, story.app.list_audit_entries, story.tenant)
        story.app.erase_subject(made.subject)
        story.refused(lethe.Erased, listed, subject=made.subject)
        id = made.name.rpartition("/")[2]
        for secret in ("example.org", "London", id):
            assert not any(secret in repr(e) or secret.encode() in e.leaf for e in entries)
        assert not any(uuid.UUID(id).bytes in e.leaf for e in entries)

    def test_step_34_signed_head(self, story):
        head, key = story.auditor.audit_head(), story.auditor.status().public_key
        entries = list(story.auditor.export_audit_entries())
        audit.verify(head, entries, key)
        first, *rest = entries
        spoilt = bytearray(head.signed_bytes)
        spoilt[secrets.randbelow(len(spoilt))] ^= 1
        other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        changed = dataclasses.replace(first, leaf=first.leaf[:-1] + bytes([first.leaf[-1] ^ 1]))
        for false_head, false_entries, false_key in (
            (head, entries, other),
            (dataclasses.replace(head, signed_bytes=bytes(spoilt)), entries, key),
            (head, [changed, *rest], key),
            (head, rest, key),
            (head, entries[: head.size - 1], key),
        ):
            with pytest.raises(audit.Unproven):
                audit.verify(false_head, false_entries, false_key)
        audit.verify_head(head, key)
        for claim, other in {
            "vault_id": "0" * 32,
            "size": head.size + 1,
            "root": bytes(32),
            "generation": head.generation + 1,
            "create_time": head.create_time + dt.timedelta(milliseconds=1),
        }.items():
            with pytest.raises(audit.Unproven, match=claim):
                audit.verify_head(dataclasses.replace(head, **{claim: other}), key)
        last = next(story.auditor.export_audit_entries(head.size - 1))
        assert last == entries[head.size - 1]
        story.refused(lethe.PermissionDenied, story.app.export_audit_entries)
        story.refused(lethe.PermissionDenied, story.app.audit_head)

    test_step_35_retention_policies = retention_steps.policies
    test_step_36_update_a_part_of_a_policy = retention_steps.update_a_part
    test_step_37_explain_and_preview = retention_steps.explain_and_preview
    test_step_38_pause_and_resume = retention_steps.pause_and_resume
    test_step_39_status_run_clock = retention_steps.status_run_clock
    test_step_40_delete_a_policy = retention_steps.delete_a_policy

    def test_step_42_checkpoints_and_proofs(self, story):
        key = story.auditor.status().public_key
        for log in lethe.Log:
            told = story.auditor.checkpoint(log, fresh=True)
            old = logs.verify_checkpoint(told.note, key)
            assert (old.log, old.size, old.root) == (log, told.size, told.root)
            other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
            for note, public in ((told.note, other), (told.note.replace(f"\n{old.size}\n", "\n1\n"), key)):
                with pytest.raises(logs.Unproven):
                    logs.verify_checkpoint(note, public)
            name = story.create(f"log{int(log)}@example.org").name
            story.app.erase_record(name)
            new = logs.verify_checkpoint(story.auditor.checkpoint(log, fresh=True).note, key)
            assert new.size > old.size
            grown = story.auditor.consistency_proof(log, old.size, size=new.size)
            logs.verify_consistency(grown, old, new)
            with pytest.raises(logs.Unproven):
                logs.verify_consistency(dataclasses.replace(grown, hashes=grown.hashes[1:]), old, new)
            for index in (0, new.size - 1):
                proof = story.auditor.inclusion_proof(log, index, size=new.size)
                logs.verify_inclusion(proof, new)
                with pytest.raises(logs.Unproven):
                    logs.verify_inclusion(dataclasses.replace(proof, leaf=proof.leaf[1:]), new)
            story.refused(lethe.NotFound, story.auditor.inclusion_proof, log, new.size, size=new.size)
            story.refused(lethe.PermissionDenied, story.app.checkpoint, log)
        story.refused(lethe.PermissionDenied, story.operator.checkpoint, lethe.Log.AUDIT)
        assert story.operator.checkpoint(lethe.Log.LEDGER).size > 0

    test_step_43_legal_holds = evidence_steps.holds
    test_step_44_certificates = evidence_steps.certificates

    def test_step_41_nothing_printed(self, story):
        story.printed.append(repr(NewRecord("customer", A_FIELDS)))
        assert len(story.printed) > 60
        for secret in SECRETS:
            assert not any(secret in p for p in story.printed)
