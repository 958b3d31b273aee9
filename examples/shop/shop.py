#!/usr/bin/env python3
"""A small web shop that keeps its orders in SQLite and its customers in Lethe.

    shop.py setup --config client-operator.toml --data DIR     # once: tenant, schema, the vault's public key
    shop.py serve --config client-application.toml --data DIR --port 8000

What SQLite knows of a customer: the names of a record and a subject in the vault, and a salted hash of a password. The
log has a method, a page's name and a number for each request, never a path, since a path may hold anything.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import uuid
from html import escape
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from books import Account, Books

import lethe
from lethe import Field, Kind, Mask, Schema, Vault, receipts

TENANT, TYPE = "shop", "customer"
BODY_BYTES_MAX = 16 << 10
ARTICLES = {"tea": "Tea, 100 g", "cup": "Cup", "pot": "Pot"}
LABELS = {
    "email": "E-mail",
    "name": "Name",
    "street": "Street",
    "postal_code": "Postal code",
    "city": "City",
    "phone": "Phone",
}
SCHEMA = Schema(
    retain_for="P3Y",
    # A corrected address is gone at once, not within a day.
    erase_old_versions_synchronously=True,
    fields=(
        Field("email", Kind.EMAIL, required=True, unique=True, mask=Mask.EMAIL),
        Field("name", Kind.TEXT, required=True, max_bytes=200, mask=Mask.NAME),
        Field("street", Kind.TEXT, max_bytes=200, mask=Mask.ADDRESS, purposes=("delivery", "access")),
        Field("postal_code", Kind.POSTAL_CODE, purposes=("delivery", "access")),
        Field("city", Kind.TEXT, max_bytes=200, purposes=("delivery", "access")),
        Field("phone", Kind.PHONE, mask=Mask.PHONE, purposes=("delivery", "access")),
    ),
)


class Shop(ThreadingHTTPServer):
    """The shop: the vault, the books, and the key that checks receipts."""

    daemon_threads = True

    def __init__(self, port: int, vault: Vault, books: Books, public_key: bytes) -> None:
        self.vault, self.books, self.public_key = vault, books, public_key
        super().__init__(("127.0.0.1", port), Page)

    def clear_up(self) -> None:
        """Ends sign-ups that a crash cut in two: whom they are about is known, what was stored is not."""
        for account in self.books.unfinished():
            self.vault.erase_subject(account.subject)
            self.books.forget(account)

    def handle_error(self, request: object, client_address: object) -> None:
        kind = sys.exc_info()[0]
        print(f"a request ended with {kind.__name__ if kind else 'an error'}", file=sys.stderr)


class Answer(Exception):
    """Ends a request with a page."""

    def __init__(self, status: HTTPStatus, title: str, body: str = "", cookie: str = "") -> None:
        super().__init__(title)
        self.status, self.title, self.body, self.cookie = status, title, body, cookie


class Page(BaseHTTPRequestHandler):
    server: Shop
    timeout = 10
    page = "?"

    def do_GET(self) -> None:
        self.answer({"/": self.front, "/me": self.show_me, "/signin": self.sign_in_form})

    def do_POST(self) -> None:
        self.answer(
            {
                "/signup": self.sign_up,
                "/signin": self.sign_in,
                "/signout": self.sign_out,
                "/me": self.correct_me,
                "/order": self.order,
                "/delete": self.delete_me,
            }
        )

    def answer(self, pages: dict) -> None:
        self.page = self.path if self.path in pages else "unknown"
        try:
            if self.page == "unknown":
                raise Answer(HTTPStatus.NOT_FOUND, "No such page")
            pages[self.page]()
        except Answer as answer:
            self.write(answer)
        except lethe.InvalidArgument as error:
            faults = "".join(f"<li>{escape(label(v.field))}: {escape(v.description)}" for v in error.violations)
            self.write(Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "Please correct", f"<ul>{faults}</ul>"))
        except lethe.Duplicate as error:
            body = f"{escape(label(error.field))}: there is an account with it. <a href=/signin>Sign in</a>"
            self.write(Answer(HTTPStatus.CONFLICT, "Please correct", body))
        except lethe.Erased:
            self.write(Answer(HTTPStatus.GONE, "This form was used", "<a href=/>Begin again</a>"))
        except lethe.Stale:
            body = "Your data changed in another window. <a href=/me>Look again</a>"
            self.write(Answer(HTTPStatus.CONFLICT, "Please correct", body))
        except lethe.LetheError as error:
            # The kind is for the log; a customer cannot mend it.
            print(f"the vault answered {error.code}", file=sys.stderr)
            self.write(Answer(HTTPStatus.SERVICE_UNAVAILABLE, "Please try again in a while"))

    # Pages

    def front(self) -> None:
        account = self.account()
        if account is None:
            rows = "".join(
                f"<p><label>{text}<br><input name={name} {'required' if name in ('email', 'name') else ''}></label>"
                for name, text in LABELS.items()
            )
            # The same form that is sent twice makes one customer.
            ids = "".join(f"<input type=hidden name={what} value={uuid.uuid4()}>" for what in ("once", "record_once"))
            form = f"""<form method=post action=/signup>{ids}{rows}
                <p><label>Password<br><input name=password type=password required minlength=8></label>
                <p><button>Sign up</button></form><p><a href=/signin>I have an account</a>"""
            raise Answer(HTTPStatus.OK, "Sign up", form)
        options = "".join(f"<option value={key}>{escape(text)}" for key, text in ARTICLES.items())
        form = f"""<form method=post action=/order><select name=article>{options}</select>
            <input name=quantity type=number min=1 max=99 value=1><button>Order</button></form>
            <p><a href=/me>My data</a>"""
        raise Answer(HTTPStatus.OK, "Order", form)

    def sign_up(self) -> None:
        form = self.form()
        if len(form.get("password", "")) < 8:
            raise Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "Please correct", "Password: at least 8 characters")
        vault, books = self.server.vault, self.server.books
        # First whom it is about, then the books, then the data: a crash in between leaves nothing without a handle.
        subject = vault.create_subject(TENANT, request_id=form.get("once"))
        account = books.begin(subject.name, form["password"])
        if account is None:
            raise Answer(HTTPStatus.FORBIDDEN, "This form was sent before, with another password")
        fields = {name: form[name] for name in LABELS if form.get(name)}
        once = form.get("record_once", "")
        try:
            record = vault.create_record(TENANT, TYPE, fields, subject=subject.name, request_id=once)
        except (lethe.InvalidArgument, lethe.Duplicate):
            if not account.record:
                vault.erase_subject(subject.name)
                books.forget(account)
            raise
        books.finish(account, record.name)
        self.enter(account, "Welcome")

    def sign_in_form(self) -> None:
        form = """<form method=post action=/signin><p><label>E-mail<br><input name=email></label>
            <p><label>Password<br><input name=password type=password></label><p><button>Sign in</button></form>"""
        raise Answer(HTTPStatus.OK, "Sign in", form)

    def sign_in(self) -> None:
        form = self.form()
        found = self.server.vault.find_records(TENANT, TYPE, "email", form.get("email", ""), mask=["email"])
        record = found.records[0].name if found.records else ""
        account = self.server.books.check(record, form.get("password", ""))
        if account is None:
            raise Answer(HTTPStatus.FORBIDDEN, "The e-mail address or the password is wrong")
        self.enter(account, "Welcome back")

    def enter(self, account: Account, title: str) -> None:
        token = self.server.books.open_session(account)
        cookie = f"session={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age=86400"
        raise Answer(HTTPStatus.OK, title, "<a href=/>To the shop</a>", cookie)

    def sign_out(self) -> None:
        self.server.books.close_session(self.token())
        raise Answer(HTTPStatus.OK, "Good bye", "", "session=; Path=/; Max-Age=0")

    def show_me(self) -> None:
        account = self.signed_in()
        record = self.own(account, purpose="access")
        rows = "".join(
            f"<p><label>{text}<br><input name={name} value='{escape(str(record.fields.get(name, '')))}'></label>"
            for name, text in LABELS.items()
        )
        orders = "".join(
            f"<li>{day}: {quantity} × {escape(ARTICLES[article])}"
            for article, quantity, day in self.server.books.orders(account)
        )
        body = f"""<form method=post action=/me><input type=hidden name=etag value='{escape(record.etag)}'>{rows}
            <p><button>Correct</button></form><p>Kept until {record.expire_date} at the latest.</p>
            <h2>Orders</h2><ul>{orders}</ul>
            <form method=post action=/signout><button>Sign out</button></form>
            <form method=post action=/delete><button>Delete my account</button></form>"""
        raise Answer(HTTPStatus.OK, "My data", body)

    def correct_me(self) -> None:
        account, form = self.signed_in(), self.form()
        given = {name: form[name] for name in LABELS if form.get(name)}
        # A field that was emptied is named in the mask and not among the fields: it is removed.
        self.server.vault.update_record(account.record, given, mask=list(LABELS), etag=form.get("etag", ""))
        raise Answer(HTTPStatus.OK, "Corrected", "<a href=/me>My data</a>")

    def order(self) -> None:
        account, form = self.signed_in(), self.form()
        article, quantity = form.get("article", ""), form.get("quantity", "")
        if article not in ARTICLES or not (quantity.isdecimal() and 1 <= int(quantity) <= 99):
            raise Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "Please correct", "Quantity: 1 to 99")
        wanted = ["name", "street", "postal_code", "city"]
        to = self.own(account, mask=wanted, purpose="delivery").fields
        self.server.books.order(account, article, int(quantity))
        address = ", ".join(escape(str(to[name])) for name in wanted if name in to)
        raise Answer(HTTPStatus.OK, "Ordered", f"We send it to {address}. <p><a href=/>To the shop</a>")

    def delete_me(self) -> None:
        account = self.signed_in()
        erased = self.server.vault.erase_subject(account.subject)
        self.server.books.forget(account)
        # Whose first try was erased without an answer has the record's receipt by asking for it again.
        of_records = erased.record_receipts or [self.server.vault.erase_record(account.record)]
        all_receipts = [erased.receipt, *of_records]
        try:
            proofs = [receipts.verify(r, self.server.public_key) for r in all_receipts]
        except receipts.Unproven:
            print("a receipt did not verify", file=sys.stderr, flush=True)
            raise Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "Your account is deleted, but we cannot prove it") from None
        rows = "".join(f"<li>{p.name}: {p.level.name}, {p.scrubbed:%Y-%m-%d %H:%M:%S} UTC" for p in proofs)
        body = f"""<p>Your data is erased. Your orders stay in our books, without you.</p><ul>{rows}</ul>
            <p>{escape(erased.receipt.caveat)}</p>
            <p>Keep this; <code>lethectl receipt verify</code> checks it without us.</p>
            <pre id=receipt>{escape(receipts.dump(all_receipts))}</pre>"""
        raise Answer(HTTPStatus.OK, "Good bye", body, "session=; Path=/; Max-Age=0")

    # What pages need

    def own(self, account: Account, **how: Any) -> lethe.Record:
        """The customer's record. The vault may have erased it by itself, when its time was up."""
        try:
            return self.server.vault.get_record(account.record, **how)
        except lethe.Erased:
            self.server.books.forget(account)
        raise Answer(HTTPStatus.GONE, "Your account is gone", "<a href=/>Sign up</a>")

    def token(self) -> str:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get("session")
        except CookieError:
            return ""
        return found.value if found else ""

    def account(self) -> Account | None:
        return self.server.books.session(self.token())

    def signed_in(self) -> Account:
        account = self.account()
        if account is None:
            raise Answer(HTTPStatus.FORBIDDEN, "Please sign in", "<a href=/signin>Sign in</a>")
        return account

    def form(self) -> dict[str, str]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            raise Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is too much")
        sent = self.rfile.read(int(length)).decode(errors="replace")
        return {name: values[0].strip() for name, values in parse_qs(sent, max_num_fields=20).items()}

    def write(self, answer: Answer) -> None:
        body = f"""<!doctype html><html lang=en><meta charset=utf-8><title>Shop</title>
            <h1>{escape(answer.title)}</h1>{answer.body}</html>""".encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        # No copy of a customer's data in a browser's or a proxy's cache.
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "default-src 'none'; form-action 'self'")
        if answer.cookie:
            self.send_header("Set-Cookie", answer.cookie)
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        status = code.value if isinstance(code, HTTPStatus) else code
        print(f"{self.command} {self.page} {status}", file=sys.stderr, flush=True)

    def log_message(self, format: str, *args: object) -> None:
        # The library's own messages quote what the peer sent.
        print("a request was not understood", file=sys.stderr, flush=True)


def label(path: str) -> str:
    """`record.fields.email` as a customer knows it."""
    return LABELS.get(path.rpartition(".")[2], "The form")


def setup(config: pathlib.Path, data: pathlib.Path) -> None:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Vault.connect(config) as operator:
        try:
            operator.create_tenant(TENANT, "The shop")
        except lethe.AlreadyExists:
            print("the tenant is there already")
        try:
            operator.create_schema(TENANT, TYPE, SCHEMA)
        except lethe.AlreadyExists:
            print("the schema is there already")
        # Kept from before the first erasure, so that a receipt is not checked by a key that came with it.
        (data / "vault.key").write_text(operator.status().public_key.hex())


def serve(config: pathlib.Path, data: pathlib.Path, port: int) -> None:
    public_key = bytes.fromhex((data / "vault.key").read_text())
    with Vault.connect(config, deadline=10) as vault, Books(data / "shop.sqlite") as books:
        with Shop(port, vault, books, public_key) as shop:
            shop.clear_up()
            print(f"http://127.0.0.1:{shop.server_port}/", flush=True)
            shop.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["setup", "serve"])
    parser.add_argument("--config", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    if given.command == "setup":
        setup(given.config, given.data)
    else:
        serve(given.config, given.data, given.port)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
