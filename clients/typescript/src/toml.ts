/**
 * The part of TOML that a client's configuration needs: `key = "text"` lines with basic or literal strings, comments
 * and blank lines. Everything else is an error with its line, so that no file is half understood. An error never
 * repeats a value.
 */
export function parseKeys(text: string, allowed: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const [at, raw] of text.split("\n").entries()) {
    const line = raw.replace(/\r$/, "").replace(/^[ \t]+|[ \t]+$/g, "");
    if (line === "" || line.startsWith("#")) continue;
    const fail = (what: string): never => {
      throw new Error(`line ${at + 1}: ${what}`);
    };
    const pair = /^([A-Za-z0-9_-]+)[ \t]*=[ \t]*(.*)$/s.exec(line);
    const [, key, rest] = pair ?? fail('not key = "text"');
    if (key === undefined || rest === undefined) return fail('not key = "text"');
    if (!allowed.includes(key)) fail(`unknown key ${key}`);
    if (found.has(key)) fail(`${key} is given twice`);
    const { value, after } = parseString(rest, (what) => fail(`${key} ${what}`));
    if (!/^[ \t]*(#.*)?$/s.test(after)) fail(`${key} is followed by more than a comment`);
    found.set(key, value);
  }
  return found;
}

const SIMPLE = new Map([
  ['"', '"'], ["\\", "\\"], ["b", "\b"], ["t", "\t"], ["n", "\n"], ["f", "\f"], ["r", "\r"],
]);

/** Takes a one-line string off the front. */
function parseString(text: string, fail: (what: string) => never): { value: string; after: string } {
  const quote = text[0];
  if (quote !== '"' && quote !== "'") return fail("is not a string");
  let value = "";
  for (let at = 1; at < text.length; at++) {
    const one = text[at] as string;
    if (one === quote) return { value, after: text.slice(at + 1) };
    if (one !== "\t" && /[\u0000-\u001f\u007f]/.test(one)) return fail("holds a control character");
    if (one !== "\\" || quote === "'") {
      value += one;
      continue;
    }
    const escape = /^(?:(["\\btnfr])|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))/.exec(text.slice(at + 1));
    if (escape === null) return fail("has an unknown escape");
    const code = parseInt(escape[2] ?? escape[3] ?? "0", 16);
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return fail("has an unknown escape");
    value += SIMPLE.get(escape[1] ?? "") ?? String.fromCodePoint(code);
    at += escape[0].length;
  }
  return fail("is not closed");
}
