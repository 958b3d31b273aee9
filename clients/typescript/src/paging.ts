import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";

/** Walks over all pages of a list. */
export async function* paged<T>(
  page: (token: string) => Promise<{ all: T[]; nextPageToken: string }>,
): AsyncGenerator<T, void, undefined> {
  for (let token = ""; ; ) {
    const { all, nextPageToken } = await page(token);
    yield* all;
    if (nextPageToken === "") return;
    token = nextPageToken;
  }
}

export function dateOf(wire: Timestamp | undefined): Date | undefined {
  return wire && timestampDate(wire);
}
