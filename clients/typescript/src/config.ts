import { X509Certificate } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { isIP } from "node:net";
import { dirname, isAbsolute, join } from "node:path";
import { createSecureContext, type SecureContext } from "node:tls";

import { parseKeys } from "./toml.js";

/** The greatest size of a file that a client reads at start. */
const FILE_BYTES_MAX = 1 << 20;

/** Where the vault is and who the client is. */
export interface Config {
  /** `https://host:port`; there is no other way in. */
  readonly endpoint: string;
  /** PEM file with the certificates that the server's certificate may chain to. */
  readonly ca: string;
  /** PEM file with the client's certificate, and intermediates after it. */
  readonly cert: string;
  /** PEM file with the client's private key. */
  readonly key: string;
  /** The name that the server's certificate must hold; the endpoint's host if absent. */
  readonly serverName?: string | undefined;
}

/** A configuration or a file that it names cannot be used. It names the file and the key, never a value. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** Reads a `client-*.toml` file. */
export function loadConfig(path: string): Config {
  const bytes = readBounded(`client configuration ${path}`, path).bytes;
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ConfigError(`client configuration ${path}: it is not UTF-8 text`);
  }
  return parseConfig(text, path);
}

/** Reads the text of a `client-*.toml` file. Relative paths in it start at the folder of `path`. */
export function parseConfig(text: string, path: string): Config {
  try {
    const keys = parseKeys(text, ["endpoint", "ca", "cert", "key", "server_name"]);
    const needed = (key: string): string => {
      const value = keys.get(key);
      if (!value) throw new Error(`${key} is missing`);
      return value;
    };
    const place = (file: string): string => (isAbsolute(file) ? file : join(dirname(path), file));
    const config: Config = {
      endpoint: needed("endpoint"),
      ca: place(needed("ca")),
      cert: place(needed("cert")),
      key: place(needed("key")),
      serverName: keys.get("server_name"),
    };
    tlsName(config);
    return config;
  } catch (cause) {
    throw new ConfigError(`client configuration ${path}: ${(cause as Error).message}`);
  }
}

/** The endpoint's `host:port`. */
export function authority(config: Config): string {
  return hostAndPort(config).authority;
}

function hostAndPort({ endpoint }: Config): { authority: string; host: string } {
  if (!endpoint.startsWith("https://")) {
    throw new ConfigError("endpoint must start with https://, there is no other way in");
  }
  const authority = endpoint.slice("https://".length).replace(/\/+$/, "");
  const parts = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?$/.exec(authority);
  const [, host, port] = parts ?? [];
  if (host === undefined) throw new ConfigError("endpoint is not https://host:port");
  if (port === undefined) throw new ConfigError("endpoint names no port");
  if (Number(port) < 1 || Number(port) > 65535) throw new ConfigError("endpoint is not https://host:port");
  return { authority, host: host.replace(/^\[|\]$/g, "") };
}

/** The name to check the server's certificate against. */
export function tlsName(config: Config): string {
  const { host } = hostAndPort(config);
  const name = config.serverName ?? host;
  if (name === "") throw new ConfigError("server_name is empty");
  const isName = /^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?$/.test(name);
  if (isIP(name) === 0 && (name.length > 253 || !isName)) {
    throw new ConfigError("server_name is neither a DNS name nor an IP address");
  }
  return name;
}

/** Reads the files and makes the one TLS setting that there is: version 1.3, both sides with certificates. */
export function secureContext(config: Config): SecureContext {
  const ca = readBounded(`ca ${config.ca}`, config.ca).bytes;
  const cert = readBounded(`cert ${config.cert}`, config.cert).bytes;
  const key = readBounded(`key ${config.key}`, config.key);
  try {
    // Group access is left to the machine's owner, as with mounted secrets.
    if ((key.mode & 0o004) !== 0) {
      throw new ConfigError(`key ${config.key}: every user can read it; take that right away: chmod o-r`);
    }
    try {
      new X509Certificate(ca);
    } catch {
      throw new ConfigError(`ca ${config.ca}: holds no PEM certificate`);
    }
    try {
      return createSecureContext({ ca, cert, key: key.bytes, minVersion: "TLSv1.3" });
    } catch {
      // The library's error may quote what it found in the files.
      throw new ConfigError(`cert ${config.cert} and key ${config.key}: are not a PEM certificate and its PEM key`);
    }
  } finally {
    key.bytes.fill(0);
  }
}

function readBounded(what: string, path: string): { bytes: Buffer; mode: number } {
  let file: number | undefined;
  try {
    file = openSync(path, "r");
    const bytes = Buffer.alloc(FILE_BYTES_MAX + 1);
    let length = 0;
    for (let read = -1; read !== 0 && length <= FILE_BYTES_MAX; length += read) {
      read = readSync(file, bytes, length, bytes.length - length, null);
    }
    if (length > FILE_BYTES_MAX) throw new Error("is larger than 1 MiB");
    return { bytes: bytes.subarray(0, length), mode: fstatSync(file).mode };
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new ConfigError(`${what}: ${code ?? message}`);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
