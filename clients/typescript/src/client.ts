import { Audit } from "./audit.js";
import { type Config, loadConfig } from "./config.js";
import { Records } from "./records.js";
import { Retention } from "./retention.js";
import { Schemas } from "./schemas.js";
import { Subjects } from "./subjects.js";
import { Tenants } from "./tenants.js";
import { Transport } from "./transport.js";
import { Vault } from "./vault.js";

export interface ClientOptions {
  /** The time of a call that is not given one; 30,000 unless said, at most 60,000. */
  readonly timeoutMs?: number | undefined;
}

/**
 * A client of one vault, over mutual TLS 1.3 only. Each call has a deadline; calls are made again only where that is
 * safe; errors are {@link LetheError}s; nothing that is printed holds a value of a record.
 */
export class Client {
  readonly tenants: Tenants;
  readonly schemas: Schemas;
  readonly retention: Retention;
  readonly subjects: Subjects;
  readonly records: Records;
  readonly vault: Vault;
  readonly audit: Audit;
  readonly #transport: Transport;

  /** The connection is made at the first call. */
  constructor(config: Config, options: ClientOptions = {}) {
    this.#transport = new Transport(config, options.timeoutMs);
    this.tenants = new Tenants(this.#transport);
    this.schemas = new Schemas(this.#transport);
    this.retention = new Retention(this.#transport);
    this.subjects = new Subjects(this.#transport);
    this.records = new Records(this.#transport);
    this.vault = new Vault(this.#transport);
    this.audit = new Audit(this.#transport);
  }

  /** Makes a client from a `client-*.toml` file. */
  static open(path: string, options: ClientOptions = {}): Client {
    return new Client(loadConfig(path), options);
  }

  /** Ends the connection and every call on it. */
  close(): void {
    this.#transport.close();
  }
}
