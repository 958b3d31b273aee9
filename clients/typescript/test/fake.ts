/** A vault whose answers a test chooses, served over mutual TLS. */
import { type TestContext } from "node:test";

import { create, type DescMessage, type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import {
  Metadata, Server, ServerCredentials, type ServiceDefinition, status as Code, type UntypedServiceImplementation,
} from "@grpc/grpc-js";

import { Client, type ClientOptions, type Config } from "../src/index.js";
import { AuditService } from "../src/gen/lethe/admin/v1/audit_pb.js";
import { RecordService } from "../src/gen/lethe/v1/record_pb.js";
import { RetentionService } from "../src/gen/lethe/v1/retention_pb.js";
import { TenantService } from "../src/gen/lethe/v1/tenant_pb.js";
import { Pki } from "./pki.js";

// Handlers are given what grpc-js gives, whose calls differ in type by the kind of method.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Handlers = Record<string, (call: any, answer: any) => void>;

export async function serve(
  test: TestContext, handlers: Handlers, options: ClientOptions = {}, pki = new Pki(),
  change: (config: Config) => Config = (config) => config,
): Promise<Client> {
  // What is too large must be refused by the client, not here.
  const server = new Server({ "grpc.max_receive_message_length": 16 << 20 });
  for (const service of [AuditService, RecordService, RetentionService, TenantService]) {
    const definition: Record<string, unknown> = {};
    const known: UntypedServiceImplementation = {};
    for (const method of service.methods as readonly DescMethod[]) {
      definition[method.localName] = definitionOf(method);
      const handler = handlers[method.localName];
      if (handler) known[method.localName] = handler;
    }
    server.addService(definition as unknown as ServiceDefinition, known);
  }
  const credentials = ServerCredentials.createSsl(
    Buffer.from(pki.ca.pem),
    [{ cert_chain: Buffer.from(pki.server.pem), private_key: Buffer.from(pki.server.keyPem) }],
    true,
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const client = new Client(change(pki.config(port)), options);
  test.after(() => {
    client.close();
    server.forceShutdown();
    pki.remove();
  });
  return client;
}

function definitionOf(method: DescMethod) {
  const coder = (schema: DescMessage) => ({
    write: (message: object): Buffer => Buffer.from(toBinary(schema, create(schema, message as never))),
    read: (bytes: Buffer): Message => fromBinary(schema, bytes),
  });
  const [input, output] = [coder(method.input), coder(method.output)];
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: method.methodKind.startsWith("bidi"),
    responseStream: method.methodKind !== "unary",
    requestSerialize: input.write,
    requestDeserialize: input.read,
    responseSerialize: output.write,
    responseDeserialize: output.read,
  };
}

/** A field of a message by hand, so that the details are written by other code than reads them. */
function field(number: number, value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length & 0x7f]), bytes]);
}

/** A detail of google.rpc. Its parts are short: their lengths fit one byte. */
export function detail(type: string, ...parts: Buffer[]): Buffer {
  return field(3, Buffer.concat([field(1, `t/google.rpc.${type}`), field(2, Buffer.concat(parts))]));
}

export { field };

/** An error as the vault sends it. */
export function told(code: keyof typeof Code, reason: string, ...more: Buffer[]) {
  const metadata = new Metadata();
  const info = detail("ErrorInfo", field(1, reason), field(2, "lethe"), field(3, Buffer.concat([field(1, "field"), field(2, "email")])));
  metadata.set("grpc-status-details-bin", Buffer.concat([info, ...more]));
  return { code: Code[code] as number, details: "said the vault", metadata };
}
