import { inspect } from "node:util";

import { type MessageInitShape } from "@bufbuild/protobuf";

import { broken, invalid, type Violation } from "./errors.js";
import { type Value, type ValueSchema } from "./gen/lethe/v1/record_pb.js";

/**
 * A value of a field. TEXT, EMAIL, PHONE, RESIDENT_ID, USCC and POSTAL_CODE are strings, DATE is the string
 * `2026-01-31`, INTEGER is a bigint, NUMBER a number, BOOLEAN a boolean, BYTES a Uint8Array.
 */
export type FieldValue = string | bigint | number | boolean | Uint8Array;

/**
 * A record's values by the names of their fields. No printed form of it, JSON included, holds a value: only the
 * fields' names. {@link Fields.get} and {@link Fields.toObject} give the values.
 */
export class Fields implements Iterable<[string, FieldValue]> {
  readonly #values: ReadonlyMap<string, FieldValue>;

  /** Throws InvalidArgumentError, which names the fields, where a value is of no type that the vault knows. */
  constructor(values: Readonly<Record<string, FieldValue>> | Iterable<readonly [string, FieldValue]> = {}) {
    const entries = Symbol.iterator in values ? [...values] : Object.entries(values);
    const faults: Violation[] = [];
    for (const [name, value] of entries) {
      const description = faultOf(value);
      if (description !== undefined) faults.push({ field: `fields.${name}`, description });
    }
    if (faults.length > 0) throw invalid(...faults);
    this.#values = new Map(entries);
  }

  get(name: string): FieldValue | undefined {
    return this.#values.get(name);
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  get size(): number {
    return this.#values.size;
  }

  /** The fields' names in order. */
  names(): string[] {
    return [...this.#values.keys()].sort();
  }

  [Symbol.iterator](): Iterator<[string, FieldValue]> {
    return this.#values.entries();
  }

  /** The values in the open: what is made of it is the caller's to keep. */
  toObject(): Record<string, FieldValue> {
    return Object.fromEntries(this.#values);
  }

  toString(): string {
    return `Fields [${this.names().join(", ")}]`;
  }

  /** The names only, since loggers write JSON too. */
  toJSON(): string[] {
    return this.names();
  }

  [inspect.custom](): string {
    return this.toString();
  }
}

function faultOf(value: unknown): string | undefined {
  switch (typeof value) {
    case "string":
      // Half a character would be changed in silence on its way.
      return value.isWellFormed() ? undefined : "is not well-formed text";
    case "bigint":
      return BigInt.asIntN(64, value) === value ? undefined : "does not fit 64 bits";
    case "number":
    case "boolean":
      return undefined;
    default:
      return value instanceof Uint8Array ? undefined : "is not a string, bigint, number, boolean or Uint8Array";
  }
}

export function valueToWire(value: FieldValue, field: string): MessageInitShape<typeof ValueSchema> {
  const description = faultOf(value);
  if (description !== undefined) throw invalid({ field, description });
  switch (typeof value) {
    case "string":
      return { kind: { case: "stringValue", value } };
    case "bigint":
      return { kind: { case: "integerValue", value } };
    case "number":
      return { kind: { case: "numberValue", value } };
    case "boolean":
      return { kind: { case: "boolValue", value } };
    default:
      return { kind: { case: "bytesValue", value } };
  }
}

export function fieldsToWire(fields: Fields | undefined): Record<string, MessageInitShape<typeof ValueSchema>> {
  const out: Record<string, MessageInitShape<typeof ValueSchema>> = Object.create(null);
  for (const [name, value] of fields ?? []) out[name] = valueToWire(value, `fields.${name}`);
  return out;
}

export function fieldsOf(wire: Record<string, Value>): Fields {
  return new Fields(
    Object.entries(wire).map(([name, { kind }]) => {
      if (kind.case === undefined) throw broken("has a value of no known kind");
      return [name, kind.value] as const;
    }),
  );
}
