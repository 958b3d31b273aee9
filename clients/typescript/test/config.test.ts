import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { secureContext, tlsName } from "../src/config.js";
import { ConfigError, loadConfig, parseConfig } from "../src/index.js";
import { Pki } from "./pki.js";

const GOOD =
  "# comment\nendpoint = \"https://127.0.0.1:8443\" # here\nca = 'ca.pem'\r\ncert = \"c.pem\"\nkey = \"/k/c.key\"\n";

test("relative paths start at the file", () => {
  assert.deepEqual(parseConfig(GOOD, "/etc/lethe/client.toml"), {
    endpoint: "https://127.0.0.1:8443",
    ca: "/etc/lethe/ca.pem",
    cert: "/etc/lethe/c.pem",
    key: "/k/c.key",
    serverName: undefined,
  });
});

test("the server's name is the host unless given", () => {
  const cases: [string, string][] = [
    [GOOD, "127.0.0.1"],
    [GOOD.replace("127.0.0.1", "[::1]"), "::1"],
    [`${GOOD}server_name = "vault.internal"`, "vault.internal"],
    [`${GOOD}server_name = "v\\u0061ult"`, "vault"],
  ];
  for (const [text, name] of cases) assert.equal(tlsName(parseConfig(text, "/x/client.toml")), name);
});

test("each mistake of a configuration is named", () => {
  const cases: [string, string, RegExp][] = [
    ["https", "http", /must start with https:\/\//],
    [":8443", "", /names no port/],
    [":8443", ":84430", /not https:\/\/host:port/],
    [":8443", ":8443/path", /not https:\/\/host:port/],
    ["127.0.0.1", "user@127.0.0.1", /not https:\/\/host:port/],
    ["ca = ", "cacert = ", /line 3: unknown key cacert/],
    ["ca = 'ca.pem'", "", /ca is missing/],
    ["ca = 'ca.pem'", "ca = ''", /ca is missing/],
    ["cert = ", "ca = ", /line 4: ca is given twice/],
    ["cert = ", "[cert]", /line 4: not key/],
    ['"c.pem"', "c.pem", /line 4: cert is not a string/],
    ['"c.pem"', '"c.pem', /line 4: cert is not closed/],
    ['"c.pem"', '"c.pem" x', /line 4: cert is followed by more/],
    ['"c.pem"', '"c\\q"', /line 4: cert has an unknown escape/],
    ['"c.pem"', '"c\\ud800"', /line 4: cert has an unknown escape/],
    ['"c.pem"', '"c\u0000"', /line 4: cert holds a control character/],
    ["key = ", 'server_name = "a b"\nkey = ', /server_name is neither/],
    ["key = ", 'server_name = ""\nkey = ', /server_name is empty/],
  ];
  for (const [old, now, expected] of cases) {
    assert.throws(() => parseConfig(GOOD.replace(old, now), "/x/client.toml"), (error: Error) => {
      assert(error instanceof ConfigError && error.message.includes("client.toml"));
      assert.match(error.message, expected);
      return true;
    });
  }
});

test("files are bounded, and a key that all can read is refused", (t) => {
  const pki = new Pki();
  t.after(() => pki.remove());
  assert.throws(() => loadConfig(join(pki.folder, "no.toml")), /no\.toml: ENOENT/);
  const large = join(pki.folder, "large.toml");
  writeFileSync(large, "#".repeat((1 << 20) + 1));
  assert.throws(() => loadConfig(large), /larger than 1 MiB/);
  writeFileSync(large, Buffer.from([0xff]));
  assert.throws(() => loadConfig(large), /not UTF-8/);

  const config = pki.config(1);
  secureContext(config);
  chmodSync(config.key, 0o604);
  assert.throws(() => secureContext(config), /every user can read it/);
  chmodSync(config.key, 0o640);
  secureContext(config);
  writeFileSync(config.key, "secret");
  assert.throws(() => secureContext(config), (error: Error) => /are not a PEM/.test(error.message) && !/secret/.test(error.stack ?? ""));
  writeFileSync(config.ca, "secret");
  assert.throws(() => secureContext(config), /holds no PEM certificate/);
});
