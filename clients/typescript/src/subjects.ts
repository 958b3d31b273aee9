import { SubjectService, type Subject as Wire } from "./gen/lethe/v1/subject_pb.js";
import { broken, checkPostponed } from "./errors.js";
import { dateOf } from "./paging.js";
import { type ErasureReason, reasonToWire, type Receipt, receiptOf } from "./receipt.js";
import { newRequestId } from "./request_id.js";
import { type CallOptions, type Transport } from "./transport.js";

/** A person whom records are about. */
export interface Subject {
  /** `tenants/{tenant}/subjects/{uuid}`. Keep it: it is the only handle. */
  readonly name: string;
  readonly createTime: Date | undefined;
}

/** The receipts of a subject's erasure. */
export interface ErasedSubject {
  /** The subject's own. */
  readonly receipt: Receipt;
  /** One for each of its records. */
  readonly recordReceipts: Receipt[];
}

/** Calls about subjects. */
export class Subjects {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Creates a subject of a tenant. The client makes the request id unless it is given. */
  async create(parent: string, options: CallOptions & { requestId?: string } = {}): Promise<Subject> {
    const request = { parent, requestId: options.requestId ?? newRequestId() };
    const answer = await this.#transport.unary(SubjectService.method.createSubject, "safely", request, options);
    return subjectOf(answer.subject);
  }

  async get(name: string, options: CallOptions = {}): Promise<Subject> {
    const answer = await this.#transport.unary(SubjectService.method.getSubject, "safely", { name }, options);
    return subjectOf(answer.subject);
  }

  /**
   * Erases a subject with all its records. It is sent once; when its outcome is not known, erase again: what is erased
   * already is not harmed.
   */
  async erase(name: string, reason: ErasureReason, options: CallOptions = {}): Promise<ErasedSubject> {
    const request = { name, reason: reasonToWire(reason) };
    const answer = await this.#transport.unary(SubjectService.method.eraseSubject, "never", request, options);
    const recordReceipts = answer.recordReceipts.map(receiptOf);
    checkPostponed(answer.postponed, recordReceipts);
    return { receipt: receiptOf(answer.receipt), recordReceipts };
  }
}

function subjectOf(wire: Wire | undefined): Subject {
  if (!wire) throw broken("lacks the subject");
  return { name: wire.name, createTime: dateOf(wire.createTime) };
}
