import { type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";

import { Breaks, endedEarly } from "./breaks.js";
import { type CallOptions, type Method, type Transport } from "./transport.js";

/** One export, and where it stands. */
export interface Export<I extends DescMessage, O extends DescMessage, P> {
  readonly method: Method<I, O>;
  /** What goes on after all that was taken. */
  readonly request: () => MessageInitShape<I>;
  /** Makes a page of a part, and notes that it was taken. */
  readonly take: (part: MessageShape<O>) => P;
  /** Without it the stream's end alone says that all has come. */
  readonly isLast?: (page: P) => boolean;
}

/** The parts of an export, over as many streams as it takes. */
export async function* exported<I extends DescMessage, O extends DescMessage, P>(
  transport: Transport, { method, request, take, isLast }: Export<I, O, P>, options: CallOptions,
): AsyncGenerator<P, void, undefined> {
  const breaks = new Breaks();
  for (;;) {
    const stream = transport.stream(method, options);
    try {
      stream.send(request());
      stream.endRequests();
      for (;;) {
        let page: P;
        try {
          const part = await stream.next();
          if (part === undefined) {
            if (!isLast) return;
            throw endedEarly();
          }
          page = take(part);
        } catch (error) {
          await breaks.orThrow(error, options.signal);
          break;
        }
        breaks.gotOn();
        yield page;
        if (isLast?.(page)) return;
      }
    } finally {
      stream.close();
    }
  }
}
