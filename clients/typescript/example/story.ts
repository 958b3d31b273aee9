/**
 * Keeps a customer in a vault, forgets her, and checks the receipt.
 *
 *     node dist/example/story.js FOLDER    # the folder of `lethed dev`, which serves at the same time
 */
import { join } from "node:path";

import { Client, DuplicateError, ErasedError, Fields, newRequestId, verifyReceipt } from "@lethe/client";

async function run(folder: string): Promise<void> {
  const operator = Client.open(join(folder, "client-operator.toml"));
  const application = Client.open(join(folder, "client-application.toml"));
  const { records } = application;

  // A tenant and what its customers look like: once, by the operator.
  const tenant = await operator.tenants.create(`shop-${newRequestId().slice(0, 8)}`, "Shop");
  const schema = await operator.schemas.create(tenant.name, "customer", {
    retainFor: "P3Y",
    fields: [
      { name: "email", kind: "EMAIL", classification: "SENSITIVE", required: true, unique: true },
      { name: "born", kind: "DATE", classification: "SENSITIVE" },
      { name: "visits", kind: "INTEGER", classification: "GENERAL" },
    ],
  });

  // Create, find, change. Printing a record shows the names of its fields, not their values.
  const ada = await records.create(tenant.name, {
    schema: schema.name,
    fields: new Fields({ email: "ada@example.org", born: "1815-12-10", visits: 3n }),
  });
  const found = await records.find(schema.name, "email", "ada@example.org", { purpose: "delivery" });
  console.log("found", found.records[0]?.fields);
  await records.update(ada.name, { etag: ada.etag, fields: new Fields({ email: "countess@example.org" }) });

  // What is wrong is told by field, never by value.
  try {
    await records.create(tenant.name, { schema: schema.name, fields: new Fields({ email: "countess@example.org" }) });
  } catch (error) {
    if (!(error instanceof DuplicateError)) throw error;
    console.log("there is one with this", error.field);
  }

  // Many at once. Keep the import id: with it an import that broke off goes on.
  const customers = ["b@example.org", "not an address"].map((email) => ({
    schema: schema.name,
    fields: new Fields({ email }),
  }));
  for await (const chunk of records.import(tenant.name, newRequestId(), customers)) {
    for (const failure of chunk.failures) console.log("refused", failure.index, failure.violations[0]?.field);
  }
  let count = 0;
  for await (const _ of records.export(tenant.name, { mask: ["email"] })) count++;
  console.log("exported", count);

  // Erase, and check the receipt without the vault, by a key noted earlier over a path that you trust.
  const { publicKey } = await operator.vault.status();
  const receipt = await records.erase(ada.name, "SUBJECT_REQUEST");
  console.log("erased, level", verifyReceipt(receipt, publicKey).level);
  try {
    await records.get(ada.name);
  } catch (error) {
    if (!(error instanceof ErasedError)) throw error;
    console.log("it is gone");
  }

  application.close();
  operator.close();
}

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("usage: story FOLDER");
await run(folder);
