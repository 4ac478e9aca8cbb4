/** Tags that certificates and CRLs are made of (X.690 §8, RFC 5280). */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  enumerated: 0x0a,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
} as const;

/** Tag of a context-specific element, `[n]`. */
export const context = (n: number, isConstructed: boolean): number => (isConstructed ? 0xa0 : 0x80) | n;

/** Bytes of a length at most; 2^32 is more than anything that is read here. */
const MAX_LENGTH_BYTES = 4;
const LONG_FORM = 0x80;
const HIGH_TAG = 0x1f;

/** One element: its content and, with tag and length, itself. */
export interface Element {
  readonly tag: number;
  readonly content: Buffer;
  readonly whole: Buffer;
}

/** What is not DER, or not what was looked for. Callers say what they were reading. */
export class DerError extends Error {}

const hex = (tag: number): string => `0x${tag.toString(16).padStart(2, '0')}`;

/**
 * Reads elements of DER one after another, without a copy and without an object for what is skipped: a CRL has
 * hundreds of thousands of them.
 */
export class DerReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** The next element's tag; undefined at the end. */
  peek(): number | undefined {
    return this.#bytes[this.#at];
  }

  /** @throws DerError when there is none, or it does not fit */
  next(tag?: number): Element {
    const start = this.#at;
    const found = this.#bytes[start];
    if (found === undefined) throw new DerError('it ends too early');
    if ((found & HIGH_TAG) === HIGH_TAG) throw new DerError(`a tag over 30 (${hex(found)})`);
    if (tag !== undefined && found !== tag)
      throw new DerError(`an element ${hex(found)} where ${hex(tag)} belongs`);
    let length = this.#bytes[start + 1] ?? LONG_FORM;
    let body = start + 2;
    if (length >= LONG_FORM) {
      const count = length - LONG_FORM;
      if (count === 0 || count > MAX_LENGTH_BYTES || body + count > this.#bytes.length)
        throw new DerError('an unreadable length');
      length = this.#bytes.readUIntBE(body, count);
      body += count;
    }
    const end = body + length;
    if (end > this.#bytes.length) throw new DerError('an element that is longer than what holds it');
    this.#at = end;
    return {
      tag: found,
      content: this.#bytes.subarray(body, end),
      whole: this.#bytes.subarray(start, end),
    };
  }

  /** The elements of the next one. @throws DerError */
  into(tag: number = TAG.sequence): DerReader {
    return new DerReader(this.next(tag).content);
  }

  /** The next element if it has that tag. @throws DerError */
  optional(tag: number): Element | undefined {
    return this.peek() === tag ? this.next() : undefined;
  }
}

/** `1.2.840…` @throws DerError */
export const oidText = ({ content }: Element): string => {
  const parts: number[] = [];
  let value = 0;
  for (const byte of content) {
    value = value * 128 + (byte & 0x7f);
    if (!Number.isSafeInteger(value)) throw new DerError('an object identifier without end');
    if ((byte & 0x80) !== 0) continue;
    if (parts.length === 0) {
      const first = Math.min(2, Math.floor(value / 40));
      parts.push(first, value - first * 40);
    } else parts.push(value);
    value = 0;
  }
  return parts.join('.');
};

const UTC = /^(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/;
const GENERALIZED = /^(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/;

/** Milliseconds since the epoch of a Time (RFC 5280 §4.1.2.5). @throws DerError */
export const timeMs = ({ tag, content }: Element): number => {
  const text = content.toString('latin1');
  const match = (tag === TAG.utcTime ? UTC : GENERALIZED).exec(text);
  if (match === null || (tag !== TAG.utcTime && tag !== TAG.generalizedTime))
    throw new DerError(`${JSON.stringify(text.slice(0, 32))} is no time`);
  const [year = 0, month = 0, ...rest] = match.slice(1).map(Number);
  const century = tag === TAG.utcTime ? (year >= 50 ? 1900 : 2000) : 0;
  const [day = 0, hour = 0, minute = 0, second = 0] = rest;
  return Date.UTC(century + year, month - 1, day, hour, minute, second);
};

/** One extension of a certificate, a CRL or an entry of it. */
export interface Extension {
  readonly oid: string;
  readonly isCritical: boolean;
  readonly value: Buffer;
}

/** The extensions in a SEQUENCE of them. @throws DerError */
export const readExtensions = (list: DerReader): Extension[] => {
  const extensions: Extension[] = [];
  while (!list.isAtEnd) {
    const extension = list.into();
    const oid = oidText(extension.next(TAG.oid));
    const isCritical = extension.optional(TAG.boolean)?.content[0] === 0xff;
    extensions.push({ oid, isCritical, value: extension.next(TAG.octetString).content });
  }
  return extensions;
};

/** The addresses in a DistributionPointName's fullName (RFC 5280 §4.2.1.13). @throws DerError */
export const fullNameUrls = (name: Element): string[] => {
  const inside = new DerReader(name.content);
  const fullName = inside.optional(context(0, true));
  if (fullName === undefined) return [];
  const names = new DerReader(fullName.content);
  const urls: string[] = [];
  while (!names.isAtEnd) {
    const one = names.next();
    if (one.tag === context(6, false)) urls.push(one.content.toString('latin1'));
  }
  return urls;
};
