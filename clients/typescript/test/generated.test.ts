import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";

const ROOT = resolve(import.meta.dirname, "../..");

function filesIn(folder: string): Map<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).sort();
  const files = names.filter((name) => statSync(join(folder, name)).isFile());
  return new Map(files.map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}

test("the generated code is what proto/ gives today", (t) => {
  const out = mkdtempSync(join(tmpdir(), "lethe-gen-"));
  t.after(() => rmSync(out, { recursive: true }));
  // The plugins' folder, src/gen, is taken below the folder that --output names.
  execFileSync(join(ROOT, "node_modules/.bin/buf"), ["generate", "--template", "buf.gen.yaml", "--output", out], {
    cwd: ROOT,
    env: { ...process.env, PATH: `${join(ROOT, "node_modules/.bin")}:${process.env["PATH"]}` },
    timeout: 60_000,
  });
  const [now, checkedIn] = [filesIn(join(out, "src/gen")), filesIn(join(ROOT, "src/gen"))];
  assert(now.size >= 7);
  assert.deepEqual([...checkedIn.keys()], [...now.keys()]);
  for (const [name, text] of now) assert(checkedIn.get(name) === text, `${name} is old: npm run generate`);
});
