import { type MessageInitShape } from "@bufbuild/protobuf";

import { broken, invalid } from "./errors.js";
import {
  Classification as WireClass, type Field as WireField, FieldKind as WireKind, MaskKind as WireMask, type Schema as Wire,
  type SchemaSchema, SchemaService,
} from "./gen/lethe/v1/schema_pb.js";
import { dateOf, paged } from "./paging.js";
import { type CallOptions, type Transport } from "./transport.js";

/** What a field holds and how it is checked. */
export type FieldKind = Exclude<keyof typeof WireKind, "UNSPECIFIED">;
/** How sensitive a field is. */
export type Classification = Exclude<keyof typeof WireClass, "UNSPECIFIED">;
/** How a value is shown to a reader without the clear right. */
export type MaskKind = Exclude<keyof typeof WireMask, "UNSPECIFIED">;

/** One field of a schema. */
export interface Field {
  readonly name: string;
  readonly kind: FieldKind;
  readonly classification: Classification;
  readonly required?: boolean;
  /** No two live records of the type may have the same value. Implies `indexed`. */
  readonly unique?: boolean;
  /** Records can be found by this field's value. */
  readonly indexed?: boolean;
  /** For TEXT and BYTES; 4096 unless said. */
  readonly maxBytes?: number;
  /** The default of the kind unless said. */
  readonly mask?: MaskKind | undefined;
  /** Purposes for which the field may be read; empty means any. */
  readonly purposes?: readonly string[];
  readonly description?: string;
}

/** The shape of a record type. */
export interface SchemaDraft {
  readonly fields: readonly Field[];
  /** How long a record is kept, such as `P3Y`; without it until it is erased by request. */
  readonly retainFor?: string | undefined;
  readonly eraseOldVersionsSynchronously?: boolean;
}

/** A schema that the vault has. */
export interface Schema extends SchemaDraft {
  /** `tenants/{tenant}/schemas/{type}` */
  readonly name: string;
  /** 1, 2, … */
  readonly revision: number;
  readonly updateTime: Date | undefined;
}

/** Calls about schemas. */
export class Schemas {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Creates the schema of a record type. It is sent once: it carries no request id. */
  async create(parent: string, schemaId: string, draft: SchemaDraft, options: CallOptions = {}): Promise<Schema> {
    const request = { parent, schemaId, schema: toWire("", draft) };
    const answer = await this.#transport.unary(SchemaService.method.createSchema, "never", request, options);
    return schemaOf(answer.schema);
  }

  /**
   * Replaces the schema of this name by a compatible newer revision; with a `mask` only the parts that it names, such as
   * `fields.city`. It is sent once.
   */
  async update(
    name: string, draft: SchemaDraft, options: CallOptions & { mask?: readonly string[] } = {},
  ): Promise<Schema> {
    const request = { schema: toWire(name, draft), updateMask: { paths: [...(options.mask ?? [])] } };
    const answer = await this.#transport.unary(SchemaService.method.updateSchema, "never", request, options);
    return schemaOf(answer.schema);
  }

  /** The current revision. */
  async get(name: string, options: CallOptions = {}): Promise<Schema> {
    const answer = await this.#transport.unary(SchemaService.method.getSchema, "safely", { name }, options);
    return schemaOf(answer.schema);
  }

  /** The schemas of a tenant, by type. */
  list(parent: string, options: CallOptions = {}): AsyncGenerator<Schema, void, undefined> {
    return paged(async (pageToken) => {
      const request = { parent, pageToken };
      const answer = await this.#transport.unary(SchemaService.method.listSchemas, "safely", request, options);
      return { all: answer.schemas.map(schemaOf), nextPageToken: answer.nextPageToken };
    });
  }
}

function toWire(name: string, draft: SchemaDraft): MessageInitShape<typeof SchemaSchema> {
  return {
    name,
    eraseOldVersionsSynchronously: draft.eraseOldVersionsSynchronously ?? false,
    retention:
      draft.retainFor === undefined
        ? { case: "openEnded", value: true }
        : { case: "retainFor", value: draft.retainFor },
    fields: draft.fields.map((field, at) => ({
      name: field.name,
      kind: numberOf(WireKind, field.kind, `schema.fields[${at}].kind`),
      classification: numberOf(WireClass, field.classification, `schema.fields[${at}].classification`),
      mask: field.mask === undefined ? 0 : numberOf(WireMask, field.mask, `schema.fields[${at}].mask`),
      required: field.required ?? false,
      unique: field.unique ?? false,
      indexed: field.indexed ?? false,
      maxBytes: field.maxBytes ?? 0,
      purposes: [...(field.purposes ?? [])],
      description: field.description ?? "",
    })),
  };
}

/** Callers in JavaScript are not held to the names by a compiler. */
export function numberOf(names: Record<string, string | number>, name: string, field: string): number {
  const number = Object.hasOwn(names, name) ? names[name] : undefined;
  if (typeof number !== "number") throw invalid({ field, description: "is not a known name" });
  return number;
}

function schemaOf(wire: Wire | undefined): Schema {
  if (!wire) throw broken("lacks the schema");
  return {
    name: wire.name,
    fields: wire.fields.map(fieldOf),
    retainFor: wire.retention.case === "retainFor" ? wire.retention.value : undefined,
    eraseOldVersionsSynchronously: wire.eraseOldVersionsSynchronously,
    revision: wire.revision,
    updateTime: dateOf(wire.updateTime),
  };
}

export function classOf(wire: WireClass): Classification {
  return (WireClass[wire] ?? String(wire)) as Classification;
}

/** A kind that this client does not know yet comes as its number. */
function fieldOf(wire: WireField): Field {
  return {
    name: wire.name,
    kind: (WireKind[wire.kind] ?? String(wire.kind)) as FieldKind,
    classification: classOf(wire.classification),
    required: wire.required,
    unique: wire.unique,
    indexed: wire.indexed,
    maxBytes: wire.maxBytes,
    mask: wire.mask === WireMask.UNSPECIFIED ? undefined : ((WireMask[wire.mask] ?? String(wire.mask)) as MaskKind),
    purposes: wire.purposes,
    description: wire.description,
  };
}
