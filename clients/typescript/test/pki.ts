/** Certificates for the tests: a minimal writer of X.509 (RFC 5280) with ECDSA P-256 keys. */
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { type Config } from "../src/config.js";

function der(tag: number, ...parts: Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  const length =
    body.length < 0x80
      ? [body.length]
      : body.length < 0x100
        ? [0x81, body.length]
        : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

const seq = (...parts: Uint8Array[]): Buffer => der(0x30, ...parts);
const oid = (...bytes: number[]): Buffer => der(0x06, Buffer.from(bytes));
const octets = (part: Uint8Array): Buffer => der(0x04, part);
const ECDSA_SHA256 = seq(oid(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02));

function nameOf(common: string): Buffer {
  return seq(der(0x31, seq(oid(0x55, 0x04, 0x03), der(0x0c, Buffer.from(common)))));
}

function time(at: Date): Buffer {
  return der(0x18, Buffer.from(`${at.toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`));
}

interface Identity {
  readonly name: string;
  readonly key: KeyObject;
  readonly pem: string;
  readonly keyPem: string;
}

let serial = 1;

function certify(name: string, issuer?: Identity): Identity {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const hour = 3_600_000;
  const extensions = [seq(oid(0x55, 0x1d, 0x11), octets(seq(
    der(0x87, Buffer.from([127, 0, 0, 1])), der(0x82, Buffer.from("vault.test")),
  )))];
  if (issuer === undefined) {
    extensions.push(seq(oid(0x55, 0x1d, 0x13), der(0x01, Buffer.from([0xff])), octets(seq(der(0x01, Buffer.from([0xff]))))));
  }
  const body = seq(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([serial++])),
    ECDSA_SHA256,
    nameOf(issuer?.name ?? name),
    seq(time(new Date(Date.now() - hour)), time(new Date(Date.now() + hour))),
    nameOf(name),
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, seq(...extensions)),
  );
  const signature = sign("sha256", body, issuer?.key ?? privateKey);
  const cert = seq(body, ECDSA_SHA256, der(0x03, Buffer.from([0]), signature));
  const lines = cert.toString("base64").replace(/.{64}/g, "$&\n");
  return {
    name,
    key: privateKey,
    pem: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    keyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

/** A certificate authority with a server and a client, made for one test. */
export class Pki {
  readonly ca = certify("ca");
  readonly server = certify("server", this.ca);
  readonly folder = mkdtempSync(join(tmpdir(), "lethe-pki-"));

  constructor() {
    const client = certify("client", this.ca);
    const write = (file: string, text: string): void => {
      writeFileSync(join(this.folder, file), text);
      chmodSync(join(this.folder, file), 0o600);
    };
    write("ca.pem", this.ca.pem);
    write("client.pem", client.pem);
    write("client.key", client.keyPem);
  }

  config(port: number): Config {
    return {
      endpoint: `https://127.0.0.1:${port}`,
      ca: join(this.folder, "ca.pem"),
      cert: join(this.folder, "client.pem"),
      key: join(this.folder, "client.key"),
    };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }
}
