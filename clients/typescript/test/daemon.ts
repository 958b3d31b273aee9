/**
 * The folder of a `lethed dev`: that which LETHE_DEV_DIR names, or one of the program that LETHED names, started for
 * the file of tests that asks. Undefined if neither is set.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Client } from "../src/index.js";

export const SKIP =
  process.env["LETHE_DEV_DIR"] || process.env["LETHED"] ? false : "neither LETHE_DEV_DIR nor LETHED is set";

export async function devFolder(): Promise<string> {
  const named = process.env["LETHE_DEV_DIR"];
  if (named) return named;
  const parent = mkdtempSync(join(tmpdir(), "lethe-dev-"));
  const folder = join(parent, "vault");
  const listen = `127.0.0.1:${await freePort()}`;
  const daemon = spawn(process.env["LETHED"] ?? "", ["dev", "--dir", folder, "--listen", listen], { stdio: "ignore" });
  after(async () => {
    if (daemon.exitCode === null && daemon.kill("SIGTERM")) await once(daemon, "exit");
    rmSync(parent, { recursive: true });
  });
  const config = join(folder, "client-application.toml");
  for (const end = Date.now() + 30_000; ; await sleep(100)) {
    try {
      if (existsSync(config)) {
        const client = Client.open(config);
        await client.tenants.list().next().finally(() => client.close());
        return folder;
      }
    } catch (error) {
      if (Date.now() > end) throw error;
    }
    if (Date.now() > end || daemon.exitCode !== null) throw new Error("lethed does not serve");
  }
}

const LETHECTL = process.env["LETHECTL"];
export const SKIP_SUPPORT = LETHECTL ? false : "LETHECTL is not set, so there is nobody whose reads are masked";

/** The configuration of a caller in the role `support`, who is let in within seconds; made where there is none. */
export function support(folder: string): string {
  const [config, uri] = [join(folder, "client-support.toml"), "spiffe://dev.lethe/support"];
  if (existsSync(config)) return config;
  execFileSync(LETHECTL ?? "",
    ["pki", "issue", "--dir", join(folder, "pki"), "--uri", uri, "--out", "support", "--force"]);
  const daemon = join(folder, "lethed.toml");
  const text = readFileSync(daemon, "utf8");
  if (!text.includes(uri)) {
    writeFileSync(`${daemon}.new`, `${text}\n[[identity]]\nuri = "${uri}"\nrole = "support"\ntenants = ["*"]\n`);
    renameSync(`${daemon}.new`, daemon);
  }
  const application = readFileSync(join(folder, "client-application.toml"), "utf8");
  writeFileSync(config, application.replaceAll("/application.", "/support."));
  return config;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const address = server.address();
  await once(server.close(), "close");
  return typeof address === "object" && address ? address.port : 0;
}
