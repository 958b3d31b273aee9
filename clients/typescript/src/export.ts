import { Breaks, endedEarly } from "./breaks.js";
import { RecordService } from "./gen/lethe/v1/record_pb.js";
import { type Page, pageOf, type Selection, selectionOf } from "./records.js";
import { type CallOptions, type Transport } from "./transport.js";

/** The parts of an export, over as many streams as it takes. */
export async function* exportPages(
  transport: Transport, parent: string, of: Selection, options: CallOptions,
): AsyncGenerator<Page, void, undefined> {
  const breaks = new Breaks();
  for (let pageToken = of.pageToken; ; ) {
    const stream = transport.stream(RecordService.method.exportRecords, options);
    try {
      stream.send(selectionOf(parent, { ...of, pageToken }));
      stream.endRequests();
      for (;;) {
        let page: Page;
        try {
          const part = await stream.next();
          if (part === undefined) throw endedEarly();
          page = pageOf(part);
        } catch (error) {
          await breaks.orThrow(error, options.signal);
          break;
        }
        breaks.gotOn();
        pageToken = page.nextPageToken;
        yield page;
        if (pageToken === "") return;
      }
    } finally {
      stream.close();
    }
  }
}
