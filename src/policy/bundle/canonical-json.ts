import { isUtf8 } from 'node:buffer';

/** Deeper JSON than this is refused; a bundle's data is a handful of levels. */
export const MAX_JSON_DEPTH = 1_000;

const BYTE = {
  tab: 0x09,
  newline: 0x0a,
  return: 0x0d,
  space: 0x20,
  quote: 0x22,
  comma: 0x2c,
  colon: 0x3a,
  openBracket: 0x5b,
  backslash: 0x5c,
  closeBracket: 0x5d,
  openBrace: 0x7b,
  closeBrace: 0x7d,
} as const;
const BOM = Buffer.from([0xef, 0xbb, 0xbf]);
const NUMBER = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$/;
const SCALAR_BYTES = /[-+.0-9A-Za-z]/;
const LITERALS: ReadonlySet<string> = new Set(['true', 'false', 'null']);
const LONE_SURROGATE = /\p{Surrogate}/gu;
const LINE_SEPARATORS = /[\u2028\u2029]/g;
/** Needs no escape: printable ASCII without quote and backslash. */
const PLAIN = /^[ !#-[\]-~]*$/;
const HAS_SURROGATE_UNIT = /[\ud800-\udfff]/;

const isScalarByte: readonly boolean[] = Array.from({ length: 256 }, (_, byte) =>
  SCALAR_BYTES.test(String.fromCharCode(byte)),
);

/** How long the character at `at` is by its first byte; 1 for what begins none. */
const lengthByLead = (lead: number): number =>
  lead < 0xc2 || lead > 0xf4 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

/** Malformed UTF-8 as Go decodes it: each byte that begins no character is U+FFFD (WHATWG takes longer pieces). */
const decodeMalformed = (bytes: Buffer): string => {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const length = lengthByLead(bytes[at] ?? 0);
    const piece = bytes.subarray(at, at + length);
    const isCharacter = piece.length === length && isUtf8(piece);
    text += isCharacter ? piece.toString('utf8') : '\ufffd';
    at += isCharacter ? length : 1;
  }
  return text;
};

/** A string's text as the canonical form writes it. */
const encode = (text: string): string =>
  JSON.stringify(text).replace(LINE_SEPARATORS, (char) => `\\u${char.charCodeAt(0).toString(16)}`);

/** Names in the order of their UTF-8 bytes, which differs from that of UTF-16 units beyond U+FFFF. */
const inByteOrder = (names: string[]): string[] =>
  names.some((name) => HAS_SURROGATE_UNIT.test(name))
    ? names.sort((left, right) => Buffer.compare(Buffer.from(left), Buffer.from(right)))
    : names.sort();

class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  #depth = 0;
  /** Whether the string read last is printable ASCII without escapes. */
  #isPlain = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  document(): string {
    const text = this.#value();
    this.#skipSpace();
    if (this.#at < this.#bytes.length) throw this.#unexpected();
    return text;
  }

  #unexpected(): Error {
    const byte = this.#bytes[this.#at];
    const what = byte === undefined ? 'end' : `byte 0x${byte.toString(16).padStart(2, '0')}`;
    return new Error(`unexpected ${what} at ${String(this.#at)}`);
  }

  #skipSpace(): void {
    for (;;) {
      const byte = this.#bytes[this.#at];
      if (byte !== BYTE.space && byte !== BYTE.newline && byte !== BYTE.return && byte !== BYTE.tab) return;
      this.#at += 1;
    }
  }

  #take(byte: number): boolean {
    this.#skipSpace();
    if (this.#bytes[this.#at] !== byte) return false;
    this.#at += 1;
    return true;
  }

  #expect(byte: number): void {
    if (!this.#take(byte)) throw this.#unexpected();
  }

  #value(): string {
    this.#skipSpace();
    switch (this.#bytes[this.#at]) {
      case BYTE.openBrace:
        return this.#nested(() => this.#object());
      case BYTE.openBracket:
        return this.#nested(() => this.#array());
      case BYTE.quote:
        return this.#text();
      default:
        return this.#scalar();
    }
  }

  #nested(read: () => string): string {
    this.#at += 1;
    this.#depth += 1;
    if (this.#depth > MAX_JSON_DEPTH) {
      throw new Error(`nested deeper than ${String(MAX_JSON_DEPTH)} at ${String(this.#at)}`);
    }
    const text = read();
    this.#depth -= 1;
    return text;
  }

  #object(): string {
    // A name that is given twice has the last value, for OPA as for JSON.parse.
    const values = new Map<string, string>();
    if (this.#take(BYTE.closeBrace)) return '{}';
    do {
      this.#skipSpace();
      if (this.#bytes[this.#at] !== BYTE.quote) throw this.#unexpected();
      const name = this.#string();
      this.#expect(BYTE.colon);
      values.set(name, this.#value());
    } while (this.#take(BYTE.comma));
    this.#expect(BYTE.closeBrace);
    let text = '';
    for (const name of inByteOrder([...values.keys()])) {
      text += `${text === '' ? '' : ','}${PLAIN.test(name) ? `"${name}"` : encode(name)}:${values.get(name) ?? ''}`;
    }
    return `{${text}}`;
  }

  #array(): string {
    const values: string[] = [];
    if (this.#take(BYTE.closeBracket)) return '[]';
    do values.push(this.#value());
    while (this.#take(BYTE.comma));
    this.#expect(BYTE.closeBracket);
    return `[${values.join(',')}]`;
  }

  /** Numbers keep the text they are written in: 1.0 is not 1, and 1e1000 is no infinity. */
  #scalar(): string {
    const start = this.#at;
    while (isScalarByte[this.#bytes[this.#at] ?? 0]) this.#at += 1;
    const text = this.#bytes.toString('latin1', start, this.#at);
    if (LITERALS.has(text) || NUMBER.test(text)) return text;
    this.#at = start;
    throw this.#unexpected();
  }

  /** A string as a value: most need no decoding. */
  #text(): string {
    const start = this.#at;
    const text = this.#string();
    return this.#isPlain ? this.#bytes.toString('latin1', start, this.#at) : encode(text);
  }

  #string(): string {
    const start = this.#at + 1;
    let end = start;
    let isPlain = true;
    for (;;) {
      const byte = this.#bytes[end];
      if (byte === BYTE.quote) break;
      if (byte === undefined || byte < BYTE.space) {
        this.#at = end;
        throw this.#unexpected();
      }
      if (byte === BYTE.backslash) {
        isPlain = false;
        end += 1;
      } else if (byte > 0x7e) {
        isPlain = false;
      }
      end += 1;
    }
    this.#at = end + 1;
    this.#isPlain = isPlain;
    if (isPlain) return this.#bytes.toString('latin1', start, end);
    const raw = this.#bytes.subarray(start, end);
    const text = isUtf8(raw) ? raw.toString('utf8') : decodeMalformed(raw);
    try {
      const unescaped = JSON.parse(`"${text}"`) as string;
      return unescaped.replace(LONE_SURROGATE, '\ufffd');
    } catch {
      this.#at = start;
      throw new Error(`malformed escape in the string at ${String(start)}`);
    }
  }
}

/**
 * JSON in the form over which OPA hashes the structured files of a bundle: names in byte order, no white space,
 * strings as Go encodes them without HTML escapes, numbers in their literal text. It is JSON itself, with the same
 * meaning; what is malformed UTF-8 or half a surrogate pair has become U+FFFD.
 * @throws Error for what is not JSON, or is nested deeper than MAX_JSON_DEPTH
 */
export const canonicalJson = (bytes: Buffer): string =>
  new Reader(bytes.subarray(0, BOM.length).equals(BOM) ? bytes.subarray(BOM.length) : bytes).document();
