import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";

import { Client, Fields, readReceipts, writeReceipts } from "../src/index.js";
import { devFolder, SKIP } from "./daemon.js";

const ROOT = resolve(import.meta.dirname, "../..");

test("the README shows the example as it is", () => {
  const program = readFileSync(join(ROOT, "example/story.ts"), "utf8");
  const body = program.slice(program.indexOf("import {"), program.indexOf("\nconst [folder]"));
  assert(readFileSync(join(ROOT, "README.md"), "utf8").includes(`\`\`\`ts\n${body}\`\`\`\n`));
});

test("the example runs, and prints no value", { skip: SKIP, timeout: 60_000 }, async () => {
  const out = execFileSync(process.execPath, [join(ROOT, "dist/example/story.js"), await devFolder()], { encoding: "utf8" });
  for (const line of [
    "found Fields [born, email, visits]", "there is one with this email", "refused 1n fields.email", "exported 2",
    "erased, level E", "it is gone",
  ]) {
    assert(out.includes(line), line);
  }
  assert(!/example\.org|1815/.test(out));
});

const LETHECTL = process.env["LETHECTL"];
test("lethectl reads our receipts", { skip: SKIP || (!LETHECTL && "LETHECTL is not set"), timeout: 60_000 }, async (t) => {
  const folder = await devFolder();
  const [operator, application] = ["operator", "application"].map((role) => {
    const client = Client.open(join(folder, `client-${role}.toml`));
    t.after(() => client.close());
    return client;
  });
  assert(operator && application);
  const tenant = await operator.tenants.create(`receipts-${randomBytes(6).toString("hex")}`, "");
  const schema = await operator.schemas.create(tenant.name, "customer", {
    fields: [{ name: "email", kind: "EMAIL", classification: "SENSITIVE" }],
  });
  const record = await application.records.create(tenant.name, {
    schema: schema.name, fields: new Fields({ email: "ada@example.org" }),
  });
  const receipt = await application.records.erase(record.name, "CONTRACT");
  const out = mkdtempSync(join(tmpdir(), "lethe-receipt-"));
  t.after(() => rmSync(out, { recursive: true }));
  const file = join(out, "receipt.json");
  writeFileSync(file, writeReceipts([receipt]));
  assert.deepEqual(readReceipts(readFileSync(file, "utf8"))[0]?.leafIndex, receipt.leafIndex);
  const key = Buffer.from((await operator.vault.status()).publicKey).toString("hex");
  assert.match(execFileSync(LETHECTL ?? "", ["receipt", "verify", file, "--public-key", key], { encoding: "utf8" }), /1 verified/);
});
