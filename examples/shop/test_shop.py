"""A customer's way through the shop, against a real vault: env LETHED=/path/to/lethed.

What she typed may be in the vault and on her own screen, and nowhere else.
"""

from __future__ import annotations

import base64
import http.cookiejar
import json
import os
import pathlib
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from html import unescape

import pytest

import lethe
from lethe import receipts

HERE = pathlib.Path(__file__).resolve().parent
ADA = {
    "email": "ada.canary@example.org",
    "name": "Ada Canary-Lovelace",
    "street": "12 Canary Square",
    "postal_code": "QX1 9ZZ",
    "city": "Canaryton",
    "phone": "+447700900123",
    "password": "canary-engine-1843",
}
LATER = {"street": "7 Canary Lane", "city": "Canaryville"}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    if "LETHED" not in os.environ:
        pytest.skip("LETHED is not set: no vault to test against")
    folder = tmp_path_factory.mktemp("vault") / "dev"
    with open(folder.with_suffix(".log"), "wb") as log:
        address = f"127.0.0.1:{free_port()}"
        vault = subprocess.Popen([os.environ["LETHED"], "dev", "--dir", folder, "--listen", address], stdout=log)
    end = time.monotonic() + 30
    while True:
        assert vault.poll() is None and time.monotonic() < end, "lethed does not answer"
        try:
            with lethe.Vault.connect(folder / "client-operator.toml", deadline=2) as operator:
                operator.status()
            break
        except lethe.LetheError:
            time.sleep(0.1)
    yield folder
    vault.terminate()
    vault.wait(30)


def base64_of(raw, at):
    """What base64 makes of bytes that stand at this position of three, without the ends that depend on neighbours."""
    return base64.b64encode(bytes(at) + raw)[(at * 8 + 5) // 6 : (at + len(raw)) * 8 // 6]


class Shop:
    """The shop as a process, and its files."""

    def __init__(self, dev, data):
        self.dev, self.data, self.log = dev, data, data.with_suffix(".log")
        self.setup = self.run("setup", "client-operator.toml")
        assert self.setup.wait(30) == 0
        self.start()

    def run(self, command, config, *more):
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [sys.executable, HERE / "shop.py", command, "--config", self.dev / config, "--data", self.data, *more],
                stdout=log,
                stderr=log,
            )

    def start(self):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = self.run("serve", "client-application.toml", "--port", str(port))
        end = time.monotonic() + 30
        while self.url not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def leaks(self, values):
        """Which values are in which of the shop's files, in any of the encodings that one might meet."""
        found = []
        for file in [self.log, *self.data.iterdir()]:
            content = file.read_bytes()
            for value in values:
                raw = value.encode()
                forms = [raw, value.encode("utf-16-le"), raw.hex().encode(), urllib.parse.quote_plus(value).encode()]
                forms += [base64_of(raw, at) for at in (0, 1, 2)]
                if any(form.lower() in content.lower() for form in forms):
                    found.append((file.name, value))
        return found


@pytest.fixture
def shop(dev, tmp_path):
    shop = Shop(dev, tmp_path / "data")
    yield shop
    shop.stop()


class Browser:
    def __init__(self, shop):
        self.shop = shop
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)

    def get(self, path, form=None):
        """Status and text of a page."""
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        try:
            with self.opener.open(self.shop.url + path, data, timeout=30) as answer:
                return answer.status, unescape(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.code, unescape(error.read().decode())

    def form(self):
        """The hidden fields of a new sign-up form."""
        _, page = self.get("/")
        return dict(re.findall(r"type=hidden name=(\w+) value=([0-9a-f-]+)", page))

    def sign_up(self, **person):
        return self.get("/signup", {**self.form(), **person})


def etag(page):
    return re.search(r"name=etag value='(\w+)'", page)[1]


def names(shop):
    with sqlite3.connect(shop.data / "shop.sqlite") as db:
        return db.execute("select subject, record from account order by id").fetchall()


def test_a_customers_way_from_sign_up_to_the_receipt(shop, dev):
    ada = Browser(shop)
    assert ada.get("/me")[0] == 403
    form = {**ada.form(), **ADA}
    assert ada.get("/signup", form)[0] == 200
    # Sent twice, it makes one customer; with another password it lets nobody in.
    assert ada.get("/signup", form)[0] == 200
    assert Browser(shop).get("/signup", {**form, "password": "canary-guess-1"})[0] == 403
    ((subject, record),) = names(shop)

    status, page = ada.get("/me")
    assert status == 200 and all(value in page for name, value in ADA.items() if name != "password")
    mine = {name: value for name, value in ADA.items() if name != "password"}
    old = etag(page)
    assert ada.get("/me", {**mine, **LATER, "etag": old})[0] == 200
    assert ada.get("/me", {**mine, "etag": old})[0] == 409
    status, page = ada.get("/order", {"article": "pot", "quantity": "2"})
    assert status == 200 and "7 Canary Lane, QX1 9ZZ, Canaryville" in page and ADA["phone"] not in page
    assert ada.get("/order", {"article": "pot", "quantity": "0"})[0] == 422
    assert "2 × Pot" in ada.get("/me")[1]

    assert ada.get("/signout", {})[0] == 200 and ada.get("/me")[0] == 403
    assert ada.get("/signin", {"email": ADA["email"], "password": "canary-wrong-1"})[0] == 403
    assert ada.get("/signin", {"email": "canary.nobody@example.org", "password": ADA["password"]})[0] == 403
    assert ada.get("/signin", {"email": ADA["email"], "password": ADA["password"]})[0] == 200

    values = {*ADA.values(), *LATER.values(), "canary"}
    assert shop.leaks(values) == []
    # The control: what the shop may know is found where it is.
    assert ("shop.sqlite", record) in shop.leaks([record])

    status, page = ada.get("/delete", {})
    assert status == 200
    saved = re.search(r"<pre id=receipt>(.*?)</pre>", page, re.S)[1]
    with lethe.Vault.connect(dev / "client-operator.toml") as operator:
        key = operator.status().public_key
    assert [receipts.verify(r, key).name for r in receipts.load(saved)] == [subject, record]
    assert json.loads(saved)["receipts"][0]["reason"] == "SUBJECT_REQUEST"
    with lethe.Vault.connect(dev / "client-application.toml") as vault, pytest.raises(lethe.Erased):
        vault.get_record(record)
    assert ada.get("/me")[0] == 403
    assert names(shop) == []
    with sqlite3.connect(shop.data / "shop.sqlite") as db:
        assert db.execute("select account, article, quantity from purchase").fetchall() == [(None, "pot", 2)]
    shop.stop()
    assert shop.leaks(values) == []
    # Not even that she was a customer is left.
    assert shop.leaks([record, subject]) == []


def test_the_search_for_leaks_finds_one(shop):
    for form in (
        b"x canaryton y",
        b"0\x00" + "Canaryton".encode("utf-16-le"),
        base64.b64encode(b"a Canaryton is there"),
    ):
        (shop.data / "planted").write_bytes(form)
        assert shop.leaks(["Canaryton"]) == [("planted", "Canaryton")]


def test_what_is_wrong_is_named_and_nothing_stays(shop):
    ada = Browser(shop)
    status, page = ada.sign_up(**{**ADA, "email": "canary-at-example"})
    assert status == 422 and "E-mail" in page and "canary" not in page
    assert names(shop) == []
    assert ada.get("/signup", {"password": ADA["password"]})[0] == 422
    assert ada.sign_up(**ADA)[0] == 200
    status, page = Browser(shop).sign_up(**{**ADA, "name": "Canary Other"})
    assert status == 409 and "E-mail" in page and len(names(shop)) == 1
    # Nor do paths and bodies that are no pages of the shop reach its log.
    assert ada.get("/canary?email=canary@example.org")[0] == 404
    assert ada.get("/me", {"name": "canary" * 5000})[0] == 413
    with socket.create_connection(("127.0.0.1", int(shop.url.rpartition(":")[2])), timeout=10) as peer:
        peer.sendall(b"canary canary@example.org HTTP/9.9\r\n\r\n")
        assert peer.recv(1 << 16)
    assert "a request was not understood" in shop.log.read_text()
    assert shop.leaks(["canary"]) == []
    assert ada.get("/delete", {})[0] == 200


def test_a_sign_up_that_a_crash_cut_in_two_is_cleared_up(shop, dev):
    with lethe.Vault.connect(dev / "client-application.toml") as vault:
        subject = vault.create_subject("shop")
        shop.stop()
        with sqlite3.connect(shop.data / "shop.sqlite") as db:
            db.execute("insert into account (subject, salt, password) values (?, x'00', x'00')", [subject.name])
        shop.start()
        with pytest.raises(lethe.Erased):
            vault.get_subject(subject.name)
    assert names(shop) == []


def test_a_record_that_the_vault_erased_ends_the_account(shop, dev):
    ada = Browser(shop)
    assert ada.sign_up(**{**ADA, "email": "canary.other@example.org"})[0] == 200
    with lethe.Vault.connect(dev / "client-application.toml") as vault:
        vault.erase_record(names(shop)[0][1])
    assert ada.get("/me")[0] == 410
    assert names(shop) == []
