import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";

const ROOT = resolve(import.meta.dirname, "../..");

/**
 * What src/gen was made from, and what came out, as scripts/generate noted it: a contract that changed since, and
 * generated code that was edited, do not pass.
 */
test("the generated code is of this contract", () => {
  const lines: string[] = [];
  for (const [folder, ending] of [["../../proto", ".proto"], ["proto", ".proto"], ["src/gen", ".ts"]] as const) {
    const names = readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" });
    const files = names.filter((name) => name.endsWith(ending));
    assert(files.length > 0, folder);
    for (const name of files) {
      const sum = createHash("sha256").update(readFileSync(join(ROOT, folder, name))).digest("hex");
      lines.push(`${sum}  ${folder}/${name}\n`);
    }
  }
  lines.sort((a, b) => (a.slice(66) < b.slice(66) ? -1 : 1));
  assert.equal(readFileSync(join(ROOT, "src/gen/SHA256SUMS"), "utf8"), lines.join(""), "run npm run generate");
});
