"""The shop's own database: accounts, sessions, orders.

Of a customer it has two names in the vault and the salted hash of a password; nothing here reads or writes what a
customer typed into any other field.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import pathlib
import secrets
import sqlite3
import threading
from dataclasses import dataclass

TABLES = """
create table if not exists account (
    id integer primary key,
    subject text not null unique,
    record text unique,
    salt blob not null,
    password blob not null
);
create table if not exists session (
    token blob primary key,
    account integer not null references account on delete cascade,
    ends text not null
);
create table if not exists purchase (
    id integer primary key,
    account integer references account on delete set null,
    article text not null,
    quantity integer not null,
    day text not null
);
"""
SESSION = dt.timedelta(days=1)


@dataclass(frozen=True)
class Account:
    """Who may sign in; `record` is empty while a sign-up is under way."""

    id: int
    subject: str
    record: str


class Books:
    """One connection, one call at a time: a small shop."""

    def __init__(self, file: pathlib.Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(file, timeout=10, check_same_thread=False, isolation_level=None)
        self._db.executescript("pragma foreign_keys = on; pragma secure_delete = on;" + TABLES)

    def __enter__(self) -> Books:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def _ask(self, sql: str, *values: object) -> list[tuple]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    # Accounts

    def begin(self, subject: str, password: str) -> Account | None:
        """An account whose record is not there yet. The same subject again is the same form again; `None` if it has
        another password this time."""
        salt = secrets.token_bytes(16)
        sql = "insert into account (subject, salt, password) values (?, ?, ?) on conflict do nothing"
        self._ask(sql, subject, salt, _hash(password, salt))
        return self._checked("subject", subject, password)

    def finish(self, account: Account, record: str) -> None:
        self._ask("update account set record = ? where id = ?", record, account.id)

    def unfinished(self) -> list[Account]:
        return [Account(*row, "") for row in self._ask("select id, subject from account where record is null")]

    def forget(self, account: Account) -> None:
        """Its orders stay, without it."""
        self._ask("delete from account where id = ?", account.id)

    def check(self, record: str, password: str) -> Account | None:
        """The account of a record, if this is its password."""
        return self._checked("record", record, password)

    def _checked(self, column: str, name: str, password: str) -> Account | None:
        rows = self._ask(f"select id, subject, record, salt, password from account where {column} = ?", name)
        id, subject, record, salt, wanted = rows[0] if rows else (0, "", "", b"", b"")
        # Takes as long where there is none.
        same = hmac.compare_digest(_hash(password, salt), wanted)
        return Account(id, subject, record or "") if rows and same else None

    # Sessions

    def open_session(self, account: Account) -> str:
        token, ends = secrets.token_urlsafe(32), dt.datetime.now(dt.timezone.utc) + SESSION
        self._ask("insert into session values (?, ?, ?)", _digest(token), account.id, ends.isoformat())
        return token

    def session(self, token: str) -> Account | None:
        now = dt.datetime.now(dt.timezone.utc).isoformat()
        self._ask("delete from session where ends < ?", now)
        rows = self._ask(
            "select a.id, a.subject, a.record from session s join account a on a.id = s.account where s.token = ?",
            _digest(token),
        )
        return Account(*rows[0]) if rows else None

    def close_session(self, token: str) -> None:
        self._ask("delete from session where token = ?", _digest(token))

    # Orders

    def order(self, account: Account, article: str, quantity: int) -> None:
        day = dt.datetime.now(dt.timezone.utc).date().isoformat()
        sql = "insert into purchase (account, article, quantity, day) values (?, ?, ?, ?)"
        self._ask(sql, account.id, article, quantity, day)

    def orders(self, account: Account) -> list[tuple]:
        return self._ask("select article, quantity, day from purchase where account = ? order by id", account.id)


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=1 << 14, r=8, p=1)


def _digest(token: str) -> bytes:
    """Who reads the database cannot take over a session."""
    return hashlib.sha256(token.encode()).digest()
