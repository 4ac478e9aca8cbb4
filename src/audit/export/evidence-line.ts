import { z } from 'zod';

/**
 * Lines of exported evidence. A batch is the line of its seal and then one line per event in order. Seal and event stand
 * last in their line, as the very bytes that were signed and hashed: a reader cuts them out and never writes them anew.
 */
const NEWLINE = 0x0a;
const CLOSE = Buffer.from('}\n');

/** What a seal's line says besides the seal. */
const sealHead = z.strictObject({
  chain: z.uuid(),
  batch: z.int().positive(),
  /** Ed25519 over the seal's digest, hex. */
  signature: z.string().regex(/^[0-9a-f]{128}$/),
  /** Leaf hashes of the events, hex: so that an event that was altered can be named. */
  leaves: z.string().regex(/^([0-9a-f]{64})*$/),
});

const eventHead = z.strictObject({ chain: z.uuid(), seq: z.int().positive() });

export type SealHead = Readonly<z.output<typeof sealHead>>;

export type EvidenceLine =
  | { readonly kind: 'seal'; readonly head: SealHead; readonly seal: Buffer }
  | { readonly kind: 'event'; readonly chain: string; readonly seq: number; readonly canonical: Buffer };

const lineOf = (head: object, name: string, bytes: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from(`${JSON.stringify(head).slice(0, -1)},"${name}":`), bytes, CLOSE]);

export const sealLine = (head: SealHead, seal: Uint8Array): Buffer => lineOf(head, 'seal', seal);

/** The same form as a line of the JSONL files that a process writes beside its database. */
export const eventLine = (chain: string, seq: number, canonical: Uint8Array): Buffer =>
  lineOf({ chain, seq }, 'event', canonical);

/** Whether canonical bytes can stand in a line. RFC 8785 has no line breaks; bytes that were tampered with may. */
export const fitsLine = (canonical: Uint8Array): boolean => !canonical.includes(NEWLINE);

const MARKS = [
  { kind: 'seal', mark: Buffer.from(',"seal":') },
  { kind: 'event', mark: Buffer.from(',"event":') },
] as const;

const headOf = (line: Buffer, end: number): unknown => {
  try {
    return JSON.parse(`${line.subarray(0, end).toString('utf8')}}`);
  } catch {
    return undefined;
  }
};

/** Reads a line without its line break; undefined when it is none of ours. */
export const readEvidenceLine = (line: Buffer): EvidenceLine | undefined => {
  if (line.at(-1) !== CLOSE[0]) return undefined;
  for (const { kind, mark } of MARKS) {
    const at = line.indexOf(mark);
    // Heads hold no nested text: the first mark is the line's own, and what does not parse is refused.
    const head = at === -1 ? undefined : headOf(line, at);
    const bytes = line.subarray(at + mark.length, -1);
    if (kind === 'seal') {
      const seal = sealHead.safeParse(head).data;
      if (seal !== undefined) return { kind, head: seal, seal: bytes };
    } else {
      const event = eventHead.safeParse(head).data;
      if (event !== undefined) return { kind, ...event, canonical: bytes };
    }
  }
  return undefined;
};
