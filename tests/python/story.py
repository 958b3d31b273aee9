#!/usr/bin/env python3
"""The story of one customer, told by a client that shares no code with the vault (grpcio over mutual TLS).

    pip install grpcio grpcio-tools googleapis-common-protos cryptography
    tests/python/story.py DIR        # the folder of `lethed dev`, which serves at the same time

Stubs are generated from proto/ into a temporary folder. The tenant is new at each run. Prints `N passed, N failed`;
the exit code is 0 only if none failed.
"""

import hashlib
import importlib
import json
import pathlib
import secrets
import struct
import sys
import tempfile
import time
import tomllib

import grpc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.rpc import error_details_pb2, status_pb2
from grpc_tools import protoc

import certificate

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
DEADLINE = 30
NOBODY = "00000000-0000-4000-8000-000000000000"


def stubs():
    """Compiles proto/ and imports what comes out."""
    folder = tempfile.TemporaryDirectory(prefix="lethe-stubs-")
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    files = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
    out = [f"--python_out={folder.name}", f"--grpc_python_out={folder.name}"]
    if protoc.main(["protoc", f"-I{PROTO}", f"-I{include}", *out, *files]) != 0:
        sys.exit("proto/ does not compile")
    sys.path.insert(0, folder.name)
    names = ["erasure", "tenant", "schema", "subject", "record", "hold", "certificate"]
    api = {}
    for module in [f"lethe.v1.{n}_pb2" for n in names] + [
            f"lethe.admin.v1.{n}_pb2" for n in ("vault", "audit", "log")]:
        for part in (module, f"{module}_grpc"):
            api.update(vars(importlib.import_module(part)))
    return folder, type("Api", (), {k: v for k, v in api.items() if not k.startswith("__")})


def channel(folder, role):
    """A connection with the identity of client-<role>.toml."""
    path = folder / f"client-{role}.toml"
    config = tomllib.loads(path.read_text())
    read = lambda key: (folder / config[key]).read_bytes()
    credentials = grpc.ssl_channel_credentials(read("ca"), read("key"), read("cert"))
    options = []
    if "server_name" in config:
        options.append(("grpc.ssl_target_name_override", config["server_name"]))
    return grpc.secure_channel(config["endpoint"].removeprefix("https://").rstrip("/"), credentials, options)


class Story:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, holds):
        self.passed += bool(holds)
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {what}")
        return bool(holds)

    def refused(self, what, code, call, *args):
        """The call must fail with this code; returns the error."""
        try:
            call(*args, timeout=DEADLINE)
        except grpc.RpcError as error:
            self.check(f"{what}: {error.code().name}", error.code() is code)
            return error
        self.check(f"{what}: accepted instead of {code.name}", False)
        return None


def violated(error):
    """The fields that google.rpc.BadRequest names."""
    for key, value in error.trailing_metadata() or () if error else ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                bad = error_details_pb2.BadRequest()
                if detail.Unpack(bad):
                    return {v.field for v in bad.field_violations}
    return set()


def text(api, **fields):
    return {name: api.Value(string_value=value) for name, value in fields.items()}


def schema(api):
    def field(name, kind, **more):
        return api.Field(name=name, kind=kind, classification=api.CLASSIFICATION_SENSITIVE, **more)

    return api.Schema(
        retain_for="P1Y",
        erase_old_versions_synchronously=True,
        fields=[
            field("email", api.FIELD_KIND_EMAIL, required=True, unique=True, mask=api.MASK_KIND_EMAIL),
            field("city", api.FIELD_KIND_TEXT, indexed=True, max_bytes=200),
            field("visits", api.FIELD_KIND_INTEGER),
        ],
    )


def receipt_holds(story, api, receipt, key, name):
    """Signature and layout of docs/FORMAT.md §7."""
    story.check("the receipt names the record", receipt.name == name)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(receipt.signature, receipt.signed_bytes)
        story.check("the receipt's signature is the vault's", True)
    except InvalidSignature:
        story.check("the receipt's signature is the vault's", False)
    try:
        forged = bytes([receipt.signed_bytes[0] ^ 1]) + receipt.signed_bytes[1:]
        Ed25519PublicKey.from_public_bytes(key).verify(receipt.signature, forged)
        story.check("control: a changed receipt is noticed", False)
    except InvalidSignature:
        story.check("control: a changed receipt is noticed", True)
    signed = receipt.signed_bytes
    if not story.check("signed bytes have the length of the format", len(signed) == 3 + 16 + 208 + 1 + 1 + 8):
        return
    tag, _vault, magic, kind, reason = struct.unpack_from(">3s16s4sBB", signed)
    seq, generation = struct.unpack_from(">QQ", signed, 3 + 16 + 8)
    level = signed[3 + 16 + 208]
    story.check("they are a record's erasure", (tag, magic, kind) == (b"VE1", b"LTL1", 1))
    story.check("they say what the receipt says", (seq, generation, level + 1, reason) == (
        receipt.leaf_index, receipt.generation, receipt.level, receipt.reason))


def tell(story, api, folder):
    operator, application = channel(folder, "operator"), channel(folder, "application")
    tenant = f"story-{secrets.token_hex(6)}"
    parent, kind = f"tenants/{tenant}", f"tenants/{tenant}/schemas/customer"
    tenants, schemas = api.TenantServiceStub(operator), api.SchemaServiceStub(operator)
    records, vault = api.RecordServiceStub(application), api.VaultServiceStub(operator)
    code = grpc.StatusCode

    made = tenants.CreateTenant(
        api.CreateTenantRequest(tenant_id=tenant, tenant=api.Tenant(display_name="Story")), timeout=DEADLINE)
    story.check("the operator creates a tenant", made.tenant.name == parent)
    story.refused("the application may not", code.PERMISSION_DENIED,
                  api.TenantServiceStub(application).CreateTenant, api.CreateTenantRequest(tenant_id=f"{tenant}-b"))
    story.refused("nor rotate the key", code.PERMISSION_DENIED,
                  api.VaultServiceStub(application).RotateKey, api.RotateKeyRequest())
    made = schemas.CreateSchema(
        api.CreateSchemaRequest(parent=parent, schema_id="customer", schema=schema(api)), timeout=DEADLINE)
    story.check("the operator creates a schema", made.schema.name == kind and made.schema.revision == 1)

    def create(**fields):
        record = api.Record(schema=kind, fields=text(api, **fields))
        return records.CreateRecord(api.CreateRecordRequest(parent=parent, record=record), timeout=DEADLINE).record

    ada = create(email="ada@example.org", city="London")
    story.check("a record is created", ada.name.startswith(f"{parent}/records/") and ada.etag != "")
    got = records.GetRecord(api.GetRecordRequest(name=ada.name), timeout=DEADLINE).record
    story.check("and read", got.fields["email"].string_value == "ada@example.org" and got.expire_date != "")
    got = records.GetRecord(
        api.GetRecordRequest(name=ada.name, read_mask={"paths": ["fields.city"]}), timeout=DEADLINE).record
    story.check("a read mask gives just its fields", set(got.fields) == {"city"})
    create_call = records.CreateRecord
    error = story.refused("a bad e-mail address", code.INVALID_ARGUMENT, create_call, api.CreateRecordRequest(
        parent=parent, record=api.Record(schema=kind, fields=text(api, email="canary-at-example"))))
    story.check("the field is named", "record.fields.email" in violated(error))
    story.check("the value is not repeated", error is not None and "canary" not in str(error))
    story.refused("the same e-mail address twice", code.ALREADY_EXISTS, create_call, api.CreateRecordRequest(
        parent=parent, record=api.Record(schema=kind, fields=text(api, email="ada@example.org"))))

    change = api.Record(name=ada.name, etag=ada.etag, fields=text(api, city="Paris"))
    new = records.UpdateRecord(api.UpdateRecordRequest(record=change), timeout=DEADLINE).record
    story.check("an update with the current etag", new.etag != ada.etag)
    story.refused("an update with a stale etag", code.ABORTED,
                  records.UpdateRecord, api.UpdateRecordRequest(record=change))

    def find(city):
        request = api.FindRecordsRequest(schema=kind, field="city", value=api.Value(string_value=city))
        return [r.name for r in records.FindRecords(request, timeout=DEADLINE).records]

    story.check("it is found by its new value", find("Paris") == [ada.name])
    story.check("and not by its old one", find("London") == [])

    all_names = {ada.name} | {create(email=f"c{n}@example.org", city="Rome").name for n in range(6)}
    listed, token, pages = [], "", 0
    for _ in range(20):
        page = records.ListRecords(
            api.ListRecordsRequest(parent=parent, schema=kind, page_size=3, page_token=token), timeout=DEADLINE)
        listed += [r.name for r in page.records]
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
    story.check("a list comes in pages, each record once, in order",
                pages >= 3 and set(listed) == all_names and listed == sorted(set(listed)))

    erased = records.EraseRecord(
        api.EraseRecordRequest(name=ada.name, reason=api.ERASURE_REASON_SUBJECT_REQUEST), timeout=DEADLINE)
    key = vault.GetStatus(api.GetStatusRequest(), timeout=DEADLINE).public_key
    receipt_holds(story, api, erased.receipt, key, ada.name)
    get = records.GetRecord
    story.refused("a read after the erasure", code.NOT_FOUND, get, api.GetRecordRequest(name=ada.name))
    story.refused("a read of what never was", code.NOT_FOUND, get,
                  api.GetRecordRequest(name=f"{parent}/records/{NOBODY}"))
    story.check("the erased record is not found", find("Paris") == [])
    again = create(email="ada@example.org", city="Oslo")
    story.check("its unique value is free again, under a new name", again.name != ada.name)
    hold_keeps(story, api, folder, parent, create(email="grace@example.org", city="Bern").name)
    audit_holds(story, api, folder, parent, ada.name)
    records.EraseRecord(api.EraseRecordRequest(name=again.name), timeout=DEADLINE)
    certificate_holds(story, api, folder, ada.name, key)


def certificate_holds(story, api, folder, record, key):
    """The certificate of the record holds by docs/CERTIFICATES.md alone, and none of its spoilt copies does."""
    auditor, application = channel(folder, "auditor"), channel(folder, "application")
    request = api.GetCertificateRequest(parent="/".join(record.split("/")[:2]), record=record)
    story.refused("the application gets no certificate", grpc.StatusCode.PERMISSION_DENIED,
                  api.CertificateServiceStub(application).GetCertificate, request)
    log = api.LogServiceStub(auditor)
    held = log.GetCheckpoint(api.GetCheckpointRequest(log=api.LOG_LEDGER), timeout=DEADLINE)
    request.checkpoint_size = held.size
    text = api.CertificateServiceStub(auditor).GetCertificate(request, timeout=DEADLINE).document
    facts = certificate.verify(text, held.checkpoint, key)
    story.check("the certificate is of the record", facts["destroyed"]["name"] == record)
    story.check("its level is in the ledger", facts["erasure"]["level_leaf"] is not None)
    asked = facts["asked_by"]
    story.check("it says who asked", (asked["kind"], asked["call"]) == ("CALLER", "EraseRecord"))

    def refuses(spoilt):
        try:
            certificate.verify(spoilt, held.checkpoint, key)
            return False
        except certificate.Refused:
            return True

    flipped = (text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1:] for at in range(0, len(text), 7))
    story.check("a flipped bit of it is noticed", all(refuses(bad) for bad in flipped))
    cut = json.loads(text)
    cut["leaves"][0]["path"].pop()
    story.check("a proof that was cut is noticed", refuses(json.dumps(cut)))


def hold_keeps(story, api, folder, parent, record):
    """A legal hold wins over an erasure, which happens by itself when the hold ends."""
    holds = api.HoldServiceStub(channel(folder, "privacy-officer"))
    records = api.RecordServiceStub(channel(folder, "application"))
    code, erase = grpc.StatusCode, api.EraseRecordRequest(name=record)
    asked = api.PlaceHoldRequest(parent=parent, hold=api.Hold(record=record, reason="litigation"))
    story.refused("a hold by an application", code.PERMISSION_DENIED,
                  api.HoldServiceStub(channel(folder, "application")).PlaceHold, asked)
    story.refused("a hold without a reason", code.INVALID_ARGUMENT, holds.PlaceHold,
                  api.PlaceHoldRequest(parent=parent, hold=api.Hold(record=record)))
    hold = holds.PlaceHold(asked, timeout=DEADLINE).hold
    told = records.EraseRecord(erase, timeout=DEADLINE)
    story.check("an erasure of what is held waits", told.postponed.name == record and not told.HasField("receipt"))
    story.refused("a read meanwhile", code.FAILED_PRECONDITION, records.GetRecord, api.GetRecordRequest(name=record))
    waits = holds.ListPostponedErasures(api.ListPostponedErasuresRequest(parent=parent), timeout=DEADLINE).postponed
    story.check("it is listed with its hold", [list(p.holds) for p in waits if p.name == record] == [[hold.name]])
    ended = holds.ReleaseHold(api.ReleaseHoldRequest(name=hold.name, note="closed"), timeout=DEADLINE).hold
    story.check("the hold has ended", ended.HasField("end_time") and ended.release_note == "closed")
    for _ in range(200):
        told = records.EraseRecord(erase, timeout=DEADLINE)
        if told.HasField("receipt"):
            break
        time.sleep(0.05)
    story.check("then it is erased", told.receipt.name == record)


def tree_hash(hashes):
    """RFC 9162 §2.1.1, from its recursive definition."""
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256(b"").digest()
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + tree_hash(hashes[:half]) + tree_hash(hashes[half:])).digest()


def audit_holds(story, api, folder, tenant, record):
    """The log tells the story, its head is signed over exactly its entries (docs/FORMAT.md §9), and it names nobody."""
    auditor, application = channel(folder, "auditor"), channel(folder, "application")
    audit, code = api.AuditServiceStub(auditor), grpc.StatusCode
    story.refused("the application may not read the log", code.PERMISSION_DENIED,
                  api.AuditServiceStub(application).ListAuditEntries, api.ListAuditEntriesRequest(parent=tenant))
    story.refused("a forged page token", code.INVALID_ARGUMENT, audit.ListAuditEntries,
                  api.ListAuditEntriesRequest(parent=tenant, page_token="forged"))
    page = audit.ListAuditEntries(
        api.ListAuditEntriesRequest(parent=tenant, page_size=200), timeout=DEADLINE).entries
    methods = {e.method for e in page}
    story.check("the log tells of what was done", {"CreateTenant", "CreateRecord", "GetRecord", "UpdateRecord",
                "FindRecords", "ListRecords", "EraseRecord"} <= methods)
    story.check("and of whom by pseudonyms", all(len(m.subject) == 16 for e in page for m in e.members))
    story.check("the newest comes first", [e.index for e in page] == sorted((e.index for e in page), reverse=True))
    uuid = bytes.fromhex(record.rsplit("/", 1)[1].replace("-", ""))
    story.check("no entry holds a record's id or a value",
                not any(uuid in e.leaf or b"example.org" in e.leaf or b"Paris" in e.leaf for e in page))
    head = audit.GetAuditHead(api.GetAuditHeadRequest(), timeout=DEADLINE)
    story.check("nothing of it was pruned", (head.minimum_index, len(head.minimum_peaks)) == (0, 0))
    leaves = {}
    for part in audit.ExportAuditEntries(api.ExportAuditEntriesRequest(), timeout=DEADLINE):
        leaves.update((e.index, e.leaf) for e in part.entries)
    story.check("an export has every entry", sorted(leaves)[:head.size] == list(range(head.size)))
    hashes = [hashlib.sha256(b"\x00" + leaves[n]).digest() for n in range(head.size)]
    story.check("their tree has the root of the head", tree_hash(hashes) == head.root)
    story.check("control: with one changed entry it has another",
                tree_hash(hashes[:-1] + [hashlib.sha256(b"x").digest()]) != head.root)
    try:
        Ed25519PublicKey.from_public_bytes(head.public_key).verify(head.signature, head.signed_bytes)
        signed = struct.unpack(">3s16sQ32sQq", head.signed_bytes)
        story.check("the head is signed", (signed[0], signed[2], signed[3]) == (b"VD1", head.size, head.root))
    except InvalidSignature:
        story.check("the head is signed", False)


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 64
    story = Story()
    folder, api = stubs()
    with folder:
        try:
            tell(story, api, pathlib.Path(sys.argv[1]).resolve())
        except grpc.RpcError as error:
            story.check(f"a call failed: {error.code().name}: {error.details()}", False)
    print(f"{story.passed} passed, {story.failed} failed")
    return 0 if story.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
