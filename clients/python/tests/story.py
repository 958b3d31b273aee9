"""Who tells the story of clients/CONFORMANCE.md, and what of it the steps share."""

from __future__ import annotations

import datetime as dt
import secrets
import uuid

import pytest
from blocking import connect

import lethe
from lethe import NewRecord

NOBODY = "00000000-0000-4000-8000-000000000000"
CALLER = "spiffe://dev.lethe/"
SECRETS = ("ada@example.org", "London", "canary")
A_FIELDS = {
    "email": "ada@example.org",
    "city": "London",
    "visits": 3,
    "score": 1.5,
    "member": True,
    "born": dt.date(1815, 12, 10),
    "photo": b"\x00\xff",
    "phone": "+441234567890",
}


def new(email, city="Rome", **more):
    return NewRecord("customer", {"email": email, "city": city}, **more)


class Story:
    def __init__(self, flavour, folder):
        self.folder, self.flavour = folder, flavour
        self.operator = self.connect(folder / "client-operator.toml")
        self.app = self.connect(folder / "client-application.toml")
        self.auditor = self.connect(folder / "client-auditor.toml")
        self.officer = self.connect(folder / "client-privacy-officer.toml")
        self.tenant = f"conf-{secrets.token_hex(6)}"
        self.second = f"conf-{secrets.token_hex(6)}"
        self.request_id = str(uuid.uuid4())
        self.printed = []

    def connect(self, file, **more):
        return connect(self.flavour, file, **more)

    def refused(self, kind, call, *args, **named):
        """The call must fail with exactly this error; returns it."""
        with pytest.raises(lethe.LetheError) as caught:
            result = call(*args, **named)
            list(result) if hasattr(result, "__next__") else result
        error = caught.value
        assert type(error) is kind, f"{type(error).__name__}: {error.message}"
        self.printed += [str(error), repr(error), repr(vars(error))]
        return error

    def violated(self, call, *args, **named):
        error = self.refused(lethe.InvalidArgument, call, *args, **named)
        return [v.field for v in error.violations]

    def create(self, email, **fields):
        return self.app.create_record(self.tenant, "customer", {"email": email, **fields})

    def found(self, field, value, tenant=None):
        found = self.app.find_records(tenant or self.tenant, "customer", field, value)
        assert not found.incomplete
        return [r.name for r in found.records]

    def names(self, tenant=None):
        return [r.name for r in self.app.list_records(tenant or self.tenant, "customer", mask=["city"])]

    def no_record(self):
        return f"tenants/{self.tenant}/records/{NOBODY}"

    def close(self):
        for vault in (self.operator, self.app, self.auditor, self.officer):
            vault.close()
