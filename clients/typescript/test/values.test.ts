import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";

import { create } from "@bufbuild/protobuf";

import { ValueSchema } from "../src/gen/lethe/v1/record_pb.js";
import { Fields, InvalidArgumentError, type NewRecord } from "../src/index.js";
import { fieldsOf, fieldsToWire } from "../src/values.js";

test("no printed form of a record holds a value", () => {
  const fields = new Fields({ email: "canary", photo: Buffer.from("canary"), visits: 271828n, score: 2.71828 });
  const record: NewRecord = { schema: "tenants/t/schemas/s", fields };
  for (const one of [fields, record, [record], { change: { fields } }]) {
    const printed = [
      inspect(one), inspect(one, { showHidden: true, depth: null, getters: true, customInspect: false }), String(one),
      `${JSON.stringify(one)}`, JSON.stringify(Object.entries(one)), inspect(structuredClone({ ...fields })),
    ].join("\n");
    for (const value of ["canary", Buffer.from("canary").toString("hex"), "63 61 6e", "271828", "2.71828"]) {
      assert(!printed.includes(value), `${value} is in ${printed}`);
    }
  }
  assert.match(inspect(record), /email, photo, score, visits/);
  assert.equal(fields.get("email"), "canary");
  assert.equal(fields.toObject()["visits"], 271828n);
});

test("values go and come in their own types", () => {
  const values = {
    a: "text", b: -(2n ** 63n), c: 1.5, d: true, e: new Uint8Array([0, 255]), f: "2026-01-31", __proto__x: "x",
  };
  const wire = fieldsToWire(new Fields(values));
  const back = Object.fromEntries(Object.entries(wire).map(([name, value]) => [name, create(ValueSchema, value)]));
  assert.deepEqual(fieldsOf(back).toObject(), values);
});

test("a value of a foreign type is named and not repeated", () => {
  const wrong = { a: "\ud800", b: { x: "canary" }, c: null, d: 2n ** 63n, e: new Date(), fine: "x" };
  assert.throws(() => new Fields(wrong as never), (error: Error) => {
    assert(error instanceof InvalidArgumentError);
    assert.deepEqual(error.violations.map((v) => v.field), ["fields.a", "fields.b", "fields.c", "fields.d", "fields.e"]);
    assert(!inspect(error).includes("canary"));
    return true;
  });
});
